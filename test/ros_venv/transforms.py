# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Helpers of the tf2 tests: messages from SciPy rotations and back to 4x4 matrices."""

from __future__ import annotations

import numpy as np
from geometry_msgs.msg import TransformStamped
from rclpy.time import Time
from scipy.spatial.transform import Rotation


def message(
    parent: str,
    child: str,
    stamp_ns: int = 0,
    rotation: Rotation | None = None,
    translation: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> TransformStamped:
    """parent_T_child at a time."""
    result = TransformStamped(child_frame_id=child)
    result.header.frame_id = parent
    result.header.stamp = Time(nanoseconds=stamp_ns).to_msg()
    x, y, z, w = (rotation or Rotation.identity()).as_quat().tolist()
    q, t = result.transform.rotation, result.transform.translation
    q.x, q.y, q.z, q.w = x, y, z, w
    t.x, t.y, t.z = map(float, translation)
    return result


def matrix(transform: TransformStamped) -> np.ndarray:
    """The 4x4 matrix of a message, float64."""
    q, t = transform.transform.rotation, transform.transform.translation
    result = np.eye(4)
    result[:3, :3] = Rotation.from_quat([q.x, q.y, q.z, q.w]).as_matrix()
    result[:3, 3] = t.x, t.y, t.z
    return result


def stamp_ns(transform: TransformStamped) -> int:
    """The stamp of a message in nanoseconds."""
    return Time.from_msg(transform.header.stamp).nanoseconds
