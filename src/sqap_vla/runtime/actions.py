# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Algebra of end-effector poses and of the policy's delta actions.

A delta is dx dy dz [m] along the axes of the base frame and droll dpitch dyaw [rad], angles about the fixed
x, y, z axes of the base (static xyz, in that order: R = Rz(yaw) Ry(pitch) Rx(roll)), applied about the
end-effector's origin:

    p_target = p + d        R_target = R_delta R

A twist is the velocity of the end-effector's origin and the angular velocity, both along base axes. Poses are
float64 [4, 4].
"""

from __future__ import annotations

import math

import numpy as np

RIGID_TOLERANCE = 1e-3  # of R^T R against the identity: admits single precision and rounded quaternions


def rotation_from_rpy(rpy: np.ndarray) -> np.ndarray:
    """Rotation matrix [3, 3] of static-xyz roll, pitch, yaw [3] rad."""
    (cr, cp, cy), (sr, sp, sy) = np.cos(rpy), np.sin(rpy)
    return np.array(
        [
            [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
            [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
            [-sp, cp * sr, cp * cr],
        ]
    )


def rpy_from_rotation(rotation: np.ndarray) -> np.ndarray:
    """Static-xyz angles [3] rad of a rotation matrix, pitch in [-pi/2, pi/2]. At |pitch| = pi/2 roll is set
    to 0."""
    cos_pitch = np.hypot(rotation[0, 0], rotation[1, 0])
    pitch = np.arctan2(-rotation[2, 0], cos_pitch)
    if cos_pitch < 1e-9:
        return np.array([0.0, pitch, np.arctan2(-rotation[0, 1], rotation[1, 1])])
    roll = np.arctan2(rotation[2, 1], rotation[2, 2])
    return np.array([roll, pitch, np.arctan2(rotation[1, 0], rotation[0, 0])])


def rotvec_from_rotation(rotation: np.ndarray) -> np.ndarray:
    """Axis times angle [3], angle in [0, pi], of a rotation matrix [3, 3]; accurate near 0 and near pi.

    By way of the quaternion's outer product, of which the longest column is free of cancellation.
    """
    r = rotation
    trace = np.trace(r)
    outer = np.empty((4, 4))  # 4 q q^T with q = (x, y, z, w)
    outer[:3, :3] = r + r.T + (1 - trace) * np.eye(3)
    outer[3, :3] = outer[:3, 3] = (r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1])
    outer[3, 3] = 1 + trace
    quaternion = outer[:, np.argmax(np.diag(outer))]
    quaternion = quaternion / np.linalg.norm(quaternion)
    if quaternion[3] < 0:
        quaternion = -quaternion
    sine = np.linalg.norm(quaternion[:3])
    if sine < 1e-9:
        return 2 * quaternion[:3]
    return quaternion[:3] * (2 * np.arctan2(sine, quaternion[3]) / sine)


def rotation_from_rotvec(rotvec: np.ndarray) -> np.ndarray:
    """Rotation matrix [3, 3] of axis times angle [3] (Rodrigues)."""
    angle = np.linalg.norm(rotvec)
    x, y, z = rotvec
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    # sin(a)/a and (1 - cos(a))/a^2, both regular at 0 with numpy's sinc(t) = sin(pi t)/(pi t)
    sine, versine = np.sinc(angle / np.pi), 0.5 * np.sinc(angle / (2 * np.pi)) ** 2
    return np.eye(3) + sine * cross + versine * cross @ cross


def apply_delta(base_T_ee: np.ndarray, delta: np.ndarray) -> np.ndarray:
    """Pose [4, 4] after the delta [6]."""
    target = base_T_ee.copy()
    target[:3, 3] += delta[:3]
    target[:3, :3] = rotation_from_rpy(delta[3:6]) @ base_T_ee[:3, :3]
    return target


def delta_between(base_T_from: np.ndarray, base_T_to: np.ndarray) -> np.ndarray:
    """The delta [6] that leads from one pose to the other: the inverse of apply_delta."""
    rotation = base_T_to[:3, :3] @ base_T_from[:3, :3].T
    return np.concatenate([base_T_to[:3, 3] - base_T_from[:3, 3], rpy_from_rotation(rotation)])


def pose_between(pose_a: np.ndarray, pose_b: np.ndarray, part: float) -> np.ndarray:
    """The pose [4, 4] a part of the way from a to b, straight and about one axis."""
    pose = pose_a.copy()
    pose[:3, 3] += part * (pose_b[:3, 3] - pose_a[:3, 3])
    turn = rotvec_from_rotation(pose_b[:3, :3] @ pose_a[:3, :3].T)
    pose[:3, :3] = rotation_from_rotvec(part * turn) @ pose_a[:3, :3]
    return pose


def twist_from_delta(delta: np.ndarray, step_s: float) -> np.ndarray:
    """Constant twist [6] (m/s, rad/s) that performs the delta [6] in `step_s` seconds."""
    rotvec = rotvec_from_rotation(rotation_from_rpy(delta[3:6]))
    return np.concatenate([delta[:3], rotvec]) / step_s


def is_rigid_transform(transform: np.ndarray) -> bool:
    """Whether the argument is a finite [4, 4] pose with a proper rotation."""
    if transform.shape != (4, 4) or not np.isfinite(transform).all():
        return False
    rotation = transform[:3, :3]
    return (
        bool(np.abs(rotation.T @ rotation - np.eye(3)).max() <= RIGID_TOLERANCE)
        and bool(np.linalg.det(rotation) > 0)
        and np.array_equal(transform[3], (0, 0, 0, 1))
    )


def recorded_gripper_open(kind: str, number: float) -> float | None:
    """What the gripper number of a recorded action asks for: 1.0 open, 0.0 closed, None for "as before".

    google_robot: +1 closes, -1 opens, 0 holds. widowx: +1 open, -1 closed. absolute: open above 0.5.
    Raises ValueError for an unknown kind or a number that is not finite.
    """
    if not math.isfinite(number):
        raise ValueError(f"recorded gripper number is {number}; it must be finite")
    if kind == "google_robot":
        return None if number == 0 else float(number < 0)
    if kind == "widowx":
        return float(number > 0)
    if kind == "absolute":
        return float(number > 0.5)
    raise ValueError(f"gripper kind {kind!r} is not known; known are google_robot, widowx, absolute")
