# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Makes the messages of an episode as recorded bytes, without ROS.

For writing bags where there is no ROS graph; whatever reads them uses the node's own conversions. Frames as
REP-103: the camera's is its optical frame. Metres, radians; stamps in nanoseconds. Every function returns a
BagMessage whose log time is the stamp in its header.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from rosbags.typesys import Stores, get_typestore
from scipy.spatial.transform import Rotation

from sqap_vla.evaluation.bag import BagMessage
from sqap_vla.pruning.projection import CameraModel

TYPESTORE = get_typestore(Stores.ROS2_JAZZY)
_T = TYPESTORE.types


def _message(topic: str, msgtype: str, stamp_ns: int, **fields: object) -> BagMessage:
    data = TYPESTORE.serialize_cdr(_T[msgtype](**fields), msgtype)
    return BagMessage(topic, msgtype, bytes(data), stamp_ns)


def _header(stamp_ns: int, frame_id: str) -> object:
    time = _T["builtin_interfaces/msg/Time"](sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
    return _T["std_msgs/msg/Header"](stamp=time, frame_id=frame_id)


def image(topic: str, rgb: np.ndarray, stamp_ns: int, frame_id: str) -> BagMessage:
    """sensor_msgs/Image, rgb8. rgb: uint8 [H, W, 3]."""
    height, width = rgb.shape[:2]
    return _message(
        topic,
        "sensor_msgs/msg/Image",
        stamp_ns,
        header=_header(stamp_ns, frame_id),
        height=height,
        width=width,
        encoding="rgb8",
        is_bigendian=0,
        step=3 * width,
        data=np.ascontiguousarray(rgb).reshape(-1),
    )


def compressed_image(topic: str, rgb: np.ndarray, stamp_ns: int, frame_id: str, encoding: str = "png") -> BagMessage:
    """sensor_msgs/CompressedImage as image_transport writes it.

    encoding: png (lossless) or jpeg. rgb: uint8 [H, W, 3].
    """
    if encoding not in ("png", "jpeg"):
        raise ValueError(f"encoding is '{encoding}'; it must be png or jpeg")
    done, buffer = cv2.imencode(f".{encoding}", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    if not done:
        raise ValueError(f"OpenCV cannot encode {rgb.dtype} {rgb.shape} as {encoding}")
    return _message(
        topic,
        "sensor_msgs/msg/CompressedImage",
        stamp_ns,
        header=_header(stamp_ns, frame_id),
        format=f"rgb8; {encoding} compressed bgr8",
        data=buffer.reshape(-1),
    )


def camera_info(topic: str, camera: CameraModel, stamp_ns: int, frame_id: str) -> BagMessage:
    """sensor_msgs/CameraInfo of an unrectified camera: P is K without distortion, R the identity."""
    region = _T["sensor_msgs/msg/RegionOfInterest"](x_offset=0, y_offset=0, height=0, width=0, do_rectify=False)
    return _message(
        topic,
        "sensor_msgs/msg/CameraInfo",
        stamp_ns,
        header=_header(stamp_ns, frame_id),
        height=camera.height,
        width=camera.width,
        distortion_model=camera.distortion_model,
        d=np.array(camera.distortion, np.float64),
        k=np.array(camera.matrix, np.float64).reshape(9),
        r=np.eye(3).reshape(9),
        p=np.hstack([camera.matrix, np.zeros((3, 1))]).reshape(12),
        binning_x=0,
        binning_y=0,
        roi=region,
    )


def transforms(topic: str, parent: str, parent_T_child: Mapping[str, np.ndarray], stamp_ns: int) -> BagMessage:
    """tf2_msgs/TFMessage. parent_T_child: pose of each child frame in `parent`, [4, 4], by name."""
    stamped = []
    for child, pose in parent_T_child.items():
        x, y, z, w = Rotation.from_matrix(pose[:3, :3]).as_quat()
        transform = _T["geometry_msgs/msg/Transform"](
            translation=_T["geometry_msgs/msg/Vector3"](*(float(value) for value in pose[:3, 3])),
            rotation=_T["geometry_msgs/msg/Quaternion"](float(x), float(y), float(z), float(w)),
        )
        stamped.append(
            _T["geometry_msgs/msg/TransformStamped"](
                header=_header(stamp_ns, parent), child_frame_id=child, transform=transform
            )
        )
    return _message(topic, "tf2_msgs/msg/TFMessage", stamp_ns, transforms=stamped)


def string(topic: str, text: str, stamp_ns: int) -> BagMessage:
    """std_msgs/String."""
    return _message(topic, "std_msgs/msg/String", stamp_ns, data=text)


def float64_array(topic: str, values: np.ndarray | Sequence[float], stamp_ns: int) -> BagMessage:
    """std_msgs/Float64MultiArray of one dimension, such as a recorded action."""
    layout = _T["std_msgs/msg/MultiArrayLayout"](dim=[], data_offset=0)
    return _message(
        topic,
        "std_msgs/msg/Float64MultiArray",
        stamp_ns,
        layout=layout,
        data=np.asarray(values, np.float64).reshape(-1),
    )


def joint_state(topic: str, positions_rad: Mapping[str, float], stamp_ns: int, frame_id: str = "") -> BagMessage:
    """sensor_msgs/JointState with positions alone."""
    nothing = np.zeros(0)
    return _message(
        topic,
        "sensor_msgs/msg/JointState",
        stamp_ns,
        header=_header(stamp_ns, frame_id),
        name=list(positions_rad),
        position=np.array(list(positions_rad.values()), np.float64),
        velocity=nothing,
        effort=nothing,
    )


def decode(message: BagMessage) -> object:
    """The message as a rosbags dataclass with ROS's field names: for tests and tools without ROS."""
    return TYPESTORE.deserialize_cdr(message.data, message.msgtype)
