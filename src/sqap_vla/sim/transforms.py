# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Rotations and poses in float64: roll-pitch-yaw, rotation vectors, 4x4 transforms named `dst_T_src`.

Static xyz: R = Rz(yaw) Ry(pitch) Rx(roll), the convention of URDF and of the actions of CogACT.
"""

from __future__ import annotations

from math import atan2, cos, hypot, sin

import numpy as np


def rotation_from_rpy(roll_pitch_yaw_rad: np.ndarray) -> np.ndarray:
    """Rotation matrix [3, 3] of static-xyz angles [3] in rad."""
    roll, pitch, yaw = map(float, roll_pitch_yaw_rad)
    cr, sr, cp, sp, cy, sy = cos(roll), sin(roll), cos(pitch), sin(pitch), cos(yaw), sin(yaw)
    return np.array(
        [
            [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
            [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
            [-sp, cp * sr, cp * cr],
        ]
    )


def rotation_vector(rotation: np.ndarray) -> np.ndarray:
    """Rotation vector [3] in rad (axis times angle, angle in [0, pi]) of a rotation matrix [3, 3].

    In Python's floats: on nine numbers they are several times faster than arrays.
    """
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = rotation.tolist()
    skew = (zy - yz, xz - zx, yx - xy)
    sine, cosine = 0.5 * hypot(*skew), 0.5 * (xx + yy + zz - 1.0)
    if sine > 1e-6:
        return np.array(skew) * (0.5 * atan2(sine, cosine) / sine)
    if cosine > 0.0:
        return 0.5 * np.array(skew)
    # Half a turn: the skew part vanishes; the axis is the eigenvector of R for the eigenvalue 1.
    symmetric = 0.5 * (rotation + np.eye(3))
    axis = symmetric[:, np.argmax(np.diag(symmetric))]
    return axis * (np.pi / np.linalg.norm(axis))


def rotation_from_vector(vector_rad: np.ndarray) -> np.ndarray:
    """Rotation matrix [3, 3] of a rotation vector [3] in rad (Rodrigues' formula)."""
    angle_rad = np.linalg.norm(vector_rad)
    if angle_rad < 1e-12:
        return np.eye(3)
    x, y, z = vector_rad / angle_rad
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.eye(3) + np.sin(angle_rad) * cross + (1.0 - np.cos(angle_rad)) * (cross @ cross)


def make_transform(rotation: np.ndarray, translation_m: np.ndarray) -> np.ndarray:
    """Transform [4, 4] of a rotation matrix [3, 3] and a translation [3] in m."""
    transform = np.eye(4)
    transform[:3, :3], transform[:3, 3] = rotation, translation_m
    return transform


def invert_transform(dst_T_src: np.ndarray) -> np.ndarray:
    """`src_T_dst` [4, 4] of a rigid transform [4, 4]."""
    rotation = dst_T_src[:3, :3].T
    return make_transform(rotation, -rotation @ dst_T_src[:3, 3])
