# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""cv_bridge: messages <-> arrays, conversions, row padding, byte order, and what is refused."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from cv_bridge import CvBridge, CvBridgeError
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

ENCODINGS = {
    "rgb8": (np.uint8, 3),
    "bgr8": (np.uint8, 3),
    "rgba8": (np.uint8, 4),
    "bgra8": (np.uint8, 4),
    "mono8": (np.uint8, 1),
    "mono16": (np.uint16, 1),
    "8UC1": (np.uint8, 1),
    "8UC3": (np.uint8, 3),
    "16UC1": (np.uint16, 1),
    "32FC1": (np.float32, 1),
    "64FC2": (np.float64, 2),
    "bayer_rggb8": (np.uint8, 1),
    "rgb16": (np.uint16, 3),
}
BRIDGE = CvBridge()


def _message(pixels: np.ndarray, encoding: str, padding: int = 0, big_endian: bool = False) -> Image:
    rows = pixels.astype(pixels.dtype.newbyteorder(">" if big_endian else "<")).reshape(pixels.shape[0], -1)
    data = np.pad(rows.view(np.uint8), ((0, 0), (0, padding)), constant_values=77)
    message = Image(
        height=pixels.shape[0],
        width=pixels.shape[1],
        encoding=encoding,
        step=data.shape[1],
        is_bigendian=int(big_endian),
    )
    message.data.frombytes(data.tobytes())
    return message


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(sorted(ENCODINGS)), st.integers(1, 9), st.integers(1, 9), st.data())
def test_an_image_survives_the_way_to_a_message_and_back(
    encoding: str, height: int, width: int, data: st.DataObject
) -> None:
    dtype, channels = ENCODINGS[encoding]
    shape = (height, width) if channels == 1 else (height, width, channels)
    image = data.draw(arrays(dtype, shape))
    header = Header(frame_id="camera")
    message = BRIDGE.cv2_to_imgmsg(image, encoding, header=header)
    assert (message.height, message.width, message.encoding) == (height, width, encoding)
    assert message.step * height == len(message.data) == image.nbytes
    assert message.header.frame_id == "camera"
    back = BRIDGE.imgmsg_to_cv2(message)
    assert back.dtype == image.dtype
    np.testing.assert_array_equal(back, image)


@pytest.mark.parametrize("padding", [0, 3, 12])  # whole pixels: what is left over, upstream takes for pixels
def test_padding_at_the_end_of_rows_is_skipped(padding: int) -> None:
    image = np.arange(5 * 8 * 3, dtype=np.uint8).reshape(5, 8, 3)
    np.testing.assert_array_equal(BRIDGE.imgmsg_to_cv2(_message(image, "rgb8", padding)), image)


def test_big_endian_pixels_are_swapped() -> None:
    depth = np.array([[1, 256], [1000, 65535]], np.uint16)
    found = BRIDGE.imgmsg_to_cv2(_message(depth, "16UC1", big_endian=True))
    np.testing.assert_array_equal(found, depth)
    assert found.dtype.isnative


@settings(max_examples=40, deadline=None)
@given(arrays(np.uint8, (4, 6, 3)))
def test_colours_convert_as_opencv_converts_them(rgb: np.ndarray) -> None:
    message = BRIDGE.cv2_to_imgmsg(rgb, "rgb8")
    for target, expected in (
        ("bgr8", rgb[..., ::-1]),
        ("rgb8", rgb),
        ("mono8", cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)),
        ("bgra8", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGRA)),
        ("8UC3", rgb),
    ):
        np.testing.assert_array_equal(BRIDGE.imgmsg_to_cv2(message, target), expected)


def test_bit_depth_is_scaled_so_that_white_stays_white() -> None:
    mono = np.array([[0, 1, 128, 255]], np.uint8)
    wide = BRIDGE.imgmsg_to_cv2(BRIDGE.cv2_to_imgmsg(mono, "mono8"), "mono16")
    np.testing.assert_array_equal(wide, mono.astype(np.uint16) * 257)
    np.testing.assert_array_equal(BRIDGE.imgmsg_to_cv2(BRIDGE.cv2_to_imgmsg(wide, "mono16"), "mono8"), mono)


def test_bayer_is_demosaiced() -> None:
    # A red scene: only the red sites of the RGGB pattern are lit.
    raw = np.zeros((8, 8), np.uint8)
    raw[::2, ::2] = 200
    rgb = BRIDGE.imgmsg_to_cv2(BRIDGE.cv2_to_imgmsg(raw, "bayer_rggb8"), "rgb8")
    assert rgb[3, 3].tolist() == [200, 0, 0]


def test_png_is_lossless_and_jpeg_close() -> None:
    y, x = np.mgrid[0:48, 0:64].astype(np.uint8)
    bgr = np.dstack([x, y, x + y])
    png = BRIDGE.cv2_to_compressed_imgmsg(bgr, "png")
    assert png.format == "png"
    np.testing.assert_array_equal(BRIDGE.compressed_imgmsg_to_cv2(png), bgr)
    np.testing.assert_array_equal(BRIDGE.compressed_imgmsg_to_cv2(png, "rgb8"), bgr[..., ::-1])
    jpeg = BRIDGE.compressed_imgmsg_to_cv2(BRIDGE.cv2_to_compressed_imgmsg(bgr))
    assert np.abs(jpeg.astype(int) - bgr).mean() < 4


@pytest.mark.parametrize(
    ("encoding", "target"),
    [
        ("16UC1", "bgr8"),
        ("bgr8", "16UC1"),
        ("rgb8", "bayer_rggb8"),
        ("no_such_thing", "passthrough"),
        ("rgb8", "no_such_thing"),
    ],
)
def test_conversions_without_meaning_are_refused(encoding: str, target: str) -> None:
    image = np.zeros((2, 2, 3) if encoding in ("rgb8", "bgr8") else (2, 2), np.uint8)
    message = _message(image.astype(np.uint16) if encoding == "16UC1" else image, encoding)
    with pytest.raises(CvBridgeError):
        BRIDGE.imgmsg_to_cv2(message, target)


def test_an_encoding_that_does_not_fit_the_array_is_refused() -> None:
    with pytest.raises(CvBridgeError):
        BRIDGE.cv2_to_imgmsg(np.zeros((2, 2), np.uint8), "rgb8")


def test_too_little_data_is_refused() -> None:
    message = _message(np.zeros((4, 4, 3), np.uint8), "rgb8")
    message.height = 5
    with pytest.raises(TypeError):  # of which CvBridgeError is one
        BRIDGE.imgmsg_to_cv2(message)


def test_undecodable_compressed_data_is_refused() -> None:
    message = CompressedImage(format="jpeg")
    message.data.frombytes(b"no image")
    with pytest.raises(CvBridgeError):
        BRIDGE.compressed_imgmsg_to_cv2(message, "rgb8")
