# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""ROS messages to arrays and back. Every message is checked before it is believed.

Frames and axes follow REP-103. Images come out as uint8 RGB [H, W, 3]; a wrong message raises InputError, whose
`reason` is a fixed word for diagnostics and whose text says value, rule and remedy.
"""

from __future__ import annotations

import io
import math

import cv2
import numpy as np
import PIL.Image
from builtin_interfaces.msg import Time as TimeMsg
from cv_bridge import CvBridge, CvBridgeError
from geometry_msgs.msg import Pose, Transform
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from sqap_vla.pruning.projection import CameraModel

CHANNELS = {"rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4, "mono8": 1}  # one byte each
MAX_SIDE_PX = 16384
MAX_PIXELS = 2**26  # 8192 x 8192: 200 MB as RGB, whatever few bytes a compressed one came in
COMPRESSED_FORMATS = ("JPEG", "PNG")
QUATERNION_NORM_TOLERANCE = 10e-3  # tf2's
_bridge = CvBridge()


class InputError(ValueError):
    """An input message cannot be used. reason: fixed word; str(error): value, rule and remedy."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


def stamp_ns(stamp: TimeMsg) -> int:
    return stamp.sec * 1_000_000_000 + stamp.nanosec


def stamp_msg(nanoseconds: int) -> TimeMsg:
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return TimeMsg(sec=seconds, nanosec=rest)


def check_image(msg: Image) -> None:
    """Raises InputError unless encoding, size, step, byte order and data of the message agree."""
    if msg.encoding not in CHANNELS:
        raise InputError(
            "image_encoding",
            f"image encoding is '{msg.encoding}'; supported: {', '.join(CHANNELS)}. "
            "Convert it upstream (image_proc debayers, depth images are not used)",
        )
    if msg.is_bigendian:
        raise InputError(
            "image_big_endian", "image.is_bigendian is set; only little-endian images are read. Clear it in the driver"
        )
    _check_size(msg.width, msg.height)
    row_bytes = msg.width * CHANNELS[msg.encoding]
    if msg.step < row_bytes:
        raise InputError(
            "image_layout", f"image.step is {msg.step} bytes, a row of {msg.width} px {msg.encoding} needs {row_bytes}"
        )
    if len(msg.data) != msg.step * msg.height:
        raise InputError(
            "image_layout",
            f"image.data has {len(msg.data)} bytes; step {msg.step} x height {msg.height} "
            f"makes {msg.step * msg.height}",
        )


def _check_size(width: int, height: int) -> None:
    """Raises InputError."""
    if not (0 < width <= MAX_SIDE_PX and 0 < height <= MAX_SIDE_PX and width * height <= MAX_PIXELS):
        raise InputError(
            "image_size",
            f"image is {width}x{height}; each side must be 1 to {MAX_SIDE_PX} px, and all of it at "
            f"most {MAX_PIXELS} px",
        )


def rgb_from_image(msg: Image | CompressedImage) -> np.ndarray:
    """uint8 RGB [H, W, 3] of a raw or compressed image; may share memory with the message. Raises InputError."""
    if hasattr(msg, "format"):  # CompressedImage
        return _rgb_from_compressed(msg)
    check_image(msg)
    try:
        return _bridge.imgmsg_to_cv2(_without_padding(msg), desired_encoding="rgb8")
    except CvBridgeError as error:
        raise InputError("image_encoding", f"image {msg.encoding} cannot be converted to rgb8: {error}") from error


def _without_padding(msg: Image) -> Image:
    """The same image with rows that follow each other: cv_bridge skews rows padded by no whole number of pixels."""
    row_bytes = msg.width * CHANNELS[msg.encoding]
    if msg.step == row_bytes:
        return msg
    rows = np.frombuffer(msg.data, np.uint8).reshape(msg.height, msg.step)[:, :row_bytes]
    return Image(
        header=msg.header,
        height=msg.height,
        width=msg.width,
        encoding=msg.encoding,
        step=row_bytes,
        data=rows.tobytes(),
    )


def _rgb_from_compressed(msg: CompressedImage) -> np.ndarray:
    """By OpenCV itself: cv_bridge hands out grey, 16-bit and floating-point pictures as they are.

    The size is read from the head of the file before anything is decoded: a few kilobytes can unpack to gigabytes.
    """
    if "compressedDepth" in msg.format:
        raise InputError(
            "image_encoding", f"compressed image format is '{msg.format}'; a colour image (jpeg or png) is needed"
        )
    buffer = np.frombuffer(msg.data, np.uint8)
    try:
        _check_size(*_size_in_head(buffer))
        # The camera's intrinsics belong to the pixels as they lie in the file, whatever its orientation tag says.
        bgr = cv2.imdecode(buffer, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION) if len(buffer) else None
    except (cv2.error, OSError):
        bgr = None
    if bgr is None or 0 in bgr.shape:
        raise InputError(
            "image_compressed",
            f"compressed image of {len(buffer)} bytes, format '{msg.format}', does not decode; send jpeg or png",
        )
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)


def _size_in_head(data: np.ndarray) -> tuple[int, int]:
    """Width and height that a JPEG or PNG file claims. Raises OSError where it is neither."""
    try:
        with PIL.Image.open(io.BytesIO(data), formats=COMPRESSED_FORMATS) as head:
            return head.size
    except PIL.Image.DecompressionBombError as error:
        raise InputError("image_size", f"compressed image: {error}") from error
    except (ValueError, EOFError) as error:
        raise OSError(str(error)) from error


def image_from_rgb(rgb: np.ndarray, stamp: TimeMsg, frame_id: str) -> Image:
    msg = Image(height=rgb.shape[0], width=rgb.shape[1], encoding="rgb8", is_bigendian=0, step=rgb.shape[1] * 3)
    msg.header.stamp, msg.header.frame_id = stamp, frame_id
    msg.data = rgb.tobytes()  # bytes take 0.2 ms at 640x480; handing over the ndarray takes 57
    return msg


def camera_from_info(msg: CameraInfo, rectified: bool = False) -> CameraModel:
    """Intrinsics of the image that is published with `msg`: region of interest and binning applied.

    rectified: the image went through image_proc, so P holds and there is no distortion. Raises InputError.
    """
    matrix = np.array(msg.p if rectified else msg.k, np.float64).reshape(3, -1)[:, :3].copy()
    binning = np.array([max(msg.binning_x, 1), max(msg.binning_y, 1)], np.float64)
    offset = np.array([msg.roi.x_offset, msg.roi.y_offset], np.float64)
    size = np.array([msg.roi.width or msg.width, msg.roi.height or msg.height]) // binning.astype(int)
    matrix[0] /= binning[0]
    matrix[1] /= binning[1]
    matrix[:2, 2] -= offset / binning
    try:
        return CameraModel(
            matrix=matrix,
            distortion_model="" if rectified else msg.distortion_model,
            distortion=() if rectified else tuple(float(d) for d in msg.d),
            width=int(size[0]),
            height=int(size[1]),
        )
    except ValueError as error:
        raise InputError("camera_info_invalid", f"camera_info cannot be used: {error}") from error


def matrix_from_transform(transform: Transform) -> np.ndarray:
    """4x4 of a geometry_msgs/Transform. Raises InputError unless it is finite and its quaternion of length 1."""
    t, q = transform.translation, transform.rotation
    values = np.array([t.x, t.y, t.z, q.x, q.y, q.z, q.w])
    if not np.isfinite(values).all() or abs(math.hypot(*values[3:]) - 1.0) > QUATERNION_NORM_TOLERANCE:
        raise InputError(
            "transform_invalid", f"transform is {values.tolist()}; it must be finite with a unit quaternion"
        )
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_quat(values[3:]).as_matrix()
    matrix[:3, 3] = values[:3]
    return matrix


def pose_from_matrix(matrix: np.ndarray) -> Pose:
    pose = Pose()
    pose.position.x, pose.position.y, pose.position.z = (float(v) for v in matrix[:3, 3])
    q = Rotation.from_matrix(matrix[:3, :3]).as_quat()
    pose.orientation.x, pose.orientation.y, pose.orientation.z, pose.orientation.w = (float(v) for v in q)
    return pose
