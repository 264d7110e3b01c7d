# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Messages of a simulated robot: poses as transforms, and the intrinsics of an ideal camera."""

from __future__ import annotations

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Transform, TransformStamped
from sensor_msgs.msg import CameraInfo

from sqap_vla.nodes.conversions import pose_from_matrix


def transform_msg(parent_T_child: np.ndarray, stamp: Time, parent: str, child: str) -> TransformStamped:
    """TransformStamped of a pose [4, 4] of `child` in `parent`."""
    pose, msg = pose_from_matrix(parent_T_child), TransformStamped()
    msg.header.stamp, msg.header.frame_id, msg.child_frame_id = stamp, parent, child
    msg.transform = Transform(rotation=pose.orientation)
    msg.transform.translation.x, msg.transform.translation.y, msg.transform.translation.z = (
        pose.position.x,
        pose.position.y,
        pose.position.z,
    )
    return msg


def camera_info_msg(matrix: np.ndarray, width_px: int, height_px: int) -> CameraInfo:
    """CameraInfo of an ideal pinhole with camera matrix [3, 3]; header left to the caller."""
    projection = np.hstack([matrix, np.zeros((3, 1))])
    return CameraInfo(
        width=width_px,
        height=height_px,
        distortion_model="plumb_bob",
        d=[0.0] * 5,
        k=matrix.ravel().tolist(),
        r=np.eye(3).ravel().tolist(),
        p=projection.ravel().tolist(),
    )
