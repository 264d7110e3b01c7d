# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""CvBridge: sensor_msgs/Image and CompressedImage <-> NumPy arrays as OpenCV uses them."""

from __future__ import annotations

import sys

import cv2
import numpy as np
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from cv_bridge.encodings import DEPTHS, convert, parse

_DEPTH_NAMES = {np.dtype(dtype): name for name, dtype in DEPTHS.items()}


class CvBridgeError(TypeError):
    """A message or an image cannot be converted."""


class CvBridge:
    """Stateless; one instance may be shared by threads."""

    def imgmsg_to_cv2(self, img_msg: Image, desired_encoding: str = "passthrough") -> np.ndarray:
        """The pixels of an image message, [H, W] for one channel, else [H, W, C], in the machine's byte
        order.

        desired_encoding: "passthrough" keeps the message's encoding; any other converts. Raises CvBridgeError
        for an unknown encoding, a conversion without meaning, or a step or data size that does not fit the
        image."""
        source = self._parse(img_msg.encoding)
        row_bytes = img_msg.width * source.channels * source.dtype.itemsize
        if img_msg.step < row_bytes:
            raise CvBridgeError(
                f"step {img_msg.step} is shorter than a row of {img_msg.width} '{img_msg.encoding}' "
                f"pixels, {row_bytes} bytes"
            )
        data = np.frombuffer(img_msg.data, dtype=np.uint8)
        if data.size < img_msg.height * img_msg.step:
            raise CvBridgeError(f"data has {data.size} bytes; height * step = {img_msg.height} * {img_msg.step}")
        rows = data[: img_msg.height * img_msg.step].reshape(img_msg.height, img_msg.step)
        pixels = np.ascontiguousarray(rows[:, :row_bytes]).view(source.dtype)
        if bool(img_msg.is_bigendian) != (sys.byteorder == "big"):
            pixels = pixels.byteswap()
        shape = (img_msg.height, img_msg.width)
        image = pixels.reshape(shape if source.channels == 1 else (*shape, source.channels))
        if desired_encoding == "passthrough":
            return image
        return self._convert(image, img_msg.encoding, desired_encoding)

    def cv2_to_imgmsg(self, cvim: np.ndarray, encoding: str = "passthrough", header: Header | None = None) -> Image:
        """A message with the pixels of an array [H, W] or [H, W, C].

        encoding: "passthrough" names the storage type ("8UC3"); any other is checked against it, and not
        converted."""
        cv_type = _storage_name(cvim)
        if encoding == "passthrough":
            encoding = cv_type
        else:
            expected = self._parse(encoding)
            name = f"{_DEPTH_NAMES[expected.dtype]}C{expected.channels}"
            if name != cv_type:
                raise CvBridgeError(f"encoding '{encoding}' needs an image of type {name}; this one is {cv_type}")
        message = Image(height=cvim.shape[0], width=cvim.shape[1], encoding=encoding)
        if header is not None:
            message.header = header
        message.is_bigendian = int(
            cvim.dtype.byteorder == ">" or (cvim.dtype.byteorder == "=" and sys.byteorder == "big")
        )
        message.step = cvim.shape[1] * cvim.dtype.itemsize * (cvim.shape[2] if cvim.ndim == 3 else 1)
        # array("B") by frombytes: assigning any other sequence makes the message check it byte by byte.
        message.data.frombytes(cvim.tobytes())
        return message

    def compressed_imgmsg_to_cv2(
        self, cmprs_img_msg: CompressedImage, desired_encoding: str = "passthrough"
    ) -> np.ndarray:
        """Decode a JPEG, PNG, ... message. "passthrough" gives what the file holds, colours in BGR order."""
        data = np.frombuffer(cmprs_img_msg.data, dtype=np.uint8)
        image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
        if image is None:
            raise CvBridgeError(
                f"{data.size} bytes with format '{cmprs_img_msg.format}' are no image that OpenCV can decode"
            )
        if desired_encoding == "passthrough":
            return image
        channels = 1 if image.ndim == 2 else image.shape[2]
        source = {1: "mono", 3: "bgr", 4: "bgra"}[channels] + str(image.dtype.itemsize * 8)
        return self._convert(image, source, desired_encoding)

    def cv2_to_compressed_imgmsg(self, cvim: np.ndarray, dst_format: str = "jpg") -> CompressedImage:
        """Encode an array (colours in BGR order) as `dst_format`: jpg, png, ..."""
        _storage_name(cvim)
        try:
            _, data = cv2.imencode(f".{dst_format}", cvim)
        except cv2.error as error:
            raise CvBridgeError(
                f"OpenCV cannot encode an image of shape {cvim.shape}, {cvim.dtype}, as '{dst_format}': {error}"
            ) from error
        message = CompressedImage(format=dst_format)
        message.data.frombytes(data.tobytes())
        return message

    def encoding_to_dtype_with_channels(self, encoding: str) -> tuple[str, int]:
        """NumPy's name of an encoding's storage type, and the number of channels."""
        parsed = self._parse(encoding)
        return parsed.dtype.name, parsed.channels

    def dtype_with_channels_to_cvtype2(self, dtype: np.dtype, n_channels: int) -> str:
        """The generic encoding of a storage type: uint8, 3 -> "8UC3"."""
        return f"{_DEPTH_NAMES[np.dtype(dtype).newbyteorder('=')]}C{n_channels}"

    @staticmethod
    def _parse(encoding: str):
        try:
            return parse(encoding)
        except ValueError as error:
            raise CvBridgeError(str(error)) from error

    @staticmethod
    def _convert(image: np.ndarray, source: str, target: str) -> np.ndarray:
        try:
            return convert(image, source, target)
        except ValueError as error:
            raise CvBridgeError(str(error)) from error


def _storage_name(image: np.ndarray) -> str:
    if not isinstance(image, np.ndarray):
        raise TypeError(f"an image is a numpy array, not {type(image).__name__}")
    dtype = image.dtype.newbyteorder("=")
    if image.ndim not in (2, 3) or dtype not in _DEPTH_NAMES:
        raise CvBridgeError(
            f"an image has 2 or 3 dimensions and one of the types {[d.name for d in _DEPTH_NAMES]}; "
            f"this array has shape {image.shape} and type {image.dtype}"
        )
    return f"{_DEPTH_NAMES[dtype]}C{1 if image.ndim == 2 else image.shape[2]}"
