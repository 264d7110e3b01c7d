# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Kinematics against finite differences, and what joint velocities hold whatever is asked."""

from __future__ import annotations

import builtins

import numpy as np
import pytest

pytest.importorskip("pinocchio", reason="needs pinocchio (pip install pin)")

from arms import BENT, JOINTS, arm_urdf
from hypothesis import given, settings
from hypothesis import strategies as st

from sqap_vla.runtime.actions import rotvec_from_rotation
from sqap_vla.runtime.kinematics import (
    JOINT_POSITION,
    JOINT_VELOCITY,
    SINGULARITY,
    ArmKinematics,
    KinematicsError,
    joint_velocities,
)
from sqap_vla.runtime.limits import RefusedCommand

ARM = ArmKinematics(arm_urdf(), JOINTS, "base_link", "gripper_tcp")
LIMITS = ARM.limits(acceleration=4.0)
PERIOD_S = 0.05


def difference(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    turn = rotvec_from_rotation(after[:3, :3] @ before[:3, :3].T)
    return np.concatenate([after[:3, 3] - before[:3, 3], turn])


def test_straight_up_the_hand_is_above_the_base_by_the_sum_of_the_links():
    pose, _ = ARM.forward(np.zeros(6))
    np.testing.assert_allclose(pose[:3, 3], [0, 0, 0.2 + 0.1 + 0.35 + 0.15 + 0.2 + 0.1 + 0.12], atol=1e-12)
    np.testing.assert_allclose(pose[:3, :3], np.eye(3), atol=1e-12)


@pytest.mark.parametrize("base, ee", [("base_link", "gripper_tcp"), ("shoulder_pan_link", "wrist_pitch_link")])
@pytest.mark.parametrize("continuous", ["", "elbow", "wrist_roll"])
def test_the_jacobian_is_the_derivative_of_the_pose_along_base_axes(base: str, ee: str, continuous: str):
    arm = ArmKinematics(arm_urdf(continuous=continuous), JOINTS, base, ee)
    positions, step = np.array(BENT), 1e-6
    pose, jacobian = arm.forward(positions)
    for joint in range(6):
        moved = positions.copy()
        moved[joint] += step
        np.testing.assert_allclose(difference(pose, arm.forward(moved)[0]) / step, jacobian[:, joint], atol=1e-5)


def test_joints_come_in_the_order_of_their_names():
    mixed = JOINTS[::-1]
    arm = ArmKinematics(arm_urdf(), mixed, "base_link", "gripper_tcp")
    pose, jacobian = arm.forward(np.array(BENT[::-1]))
    expected_pose, expected = ARM.forward(np.array(BENT))
    np.testing.assert_allclose(pose, expected_pose, atol=1e-12)
    np.testing.assert_allclose(jacobian[:, ::-1], expected, atol=1e-12)


def test_far_from_limits_and_singularities_the_twist_is_performed_exactly():
    twist = np.array([0.05, -0.1, 0.08, 0.1, 0.2, -0.3])
    _, jacobian = ARM.forward(np.array(BENT))
    velocities, engaged = joint_velocities(jacobian, twist, np.array(BENT), LIMITS, PERIOD_S)
    np.testing.assert_allclose(jacobian @ velocities, twist, atol=1e-9)
    assert engaged == []


def test_too_fast_is_slowed_down_in_the_same_direction():
    twist = np.array([2.0, 0, 0, 0, 0, 0])
    _, jacobian = ARM.forward(np.array(BENT))
    velocities, engaged = joint_velocities(jacobian, twist, np.array(BENT), LIMITS, PERIOD_S)
    reached = jacobian @ velocities
    assert engaged == [JOINT_VELOCITY] and np.abs(velocities).max() == pytest.approx(2.0)
    np.testing.assert_allclose(reached / reached[0], twist / twist[0], atol=1e-9)


def test_stretched_out_the_joints_stay_slow():
    _, jacobian = ARM.forward(np.array([0, 0.5, 1e-4, 0, 0, 0]))
    velocities, engaged = joint_velocities(jacobian, np.array([0, 0, 0.2, 0, 0, 0]), np.zeros(6), LIMITS, PERIOD_S)
    assert SINGULARITY in engaged and np.abs(velocities).max() <= 2.0


def test_a_joint_at_its_limit_stays_and_the_others_make_up_for_it():
    positions = np.array(BENT)
    positions[5] = 2.8
    _, jacobian = ARM.forward(positions)
    twist = jacobian @ np.array([0.1, 0, 0, 0, 0, 0.5])
    velocities, engaged = joint_velocities(jacobian, twist, positions, LIMITS, PERIOD_S)
    assert velocities[5] == 0.0 and JOINT_POSITION in engaged
    free = np.linalg.lstsq(jacobian[:, :5], twist, rcond=None)[0]
    np.testing.assert_allclose(velocities[:5], free, atol=1e-9)


numbers = st.floats(-5, 5)


@settings(max_examples=300, deadline=None)
@given(st.tuples(*[numbers] * 6), st.tuples(*[st.floats(-2.8, 2.8)] * 6))
def test_whatever_is_asked_no_joint_passes_its_limits(twist, positions):
    positions = np.array(positions)
    _, jacobian = ARM.forward(positions)
    velocities, _ = joint_velocities(jacobian, np.array(twist), positions, LIMITS, PERIOD_S)
    assert (np.abs(velocities) <= LIMITS.velocity * (1 + 1e-9)).all()
    after = positions + velocities * PERIOD_S
    assert (after >= LIMITS.lower - 1e-9).all() and (after <= LIMITS.upper + 1e-9).all()


@pytest.mark.parametrize("place", range(3))
def test_what_is_not_finite_is_refused(place: int):
    arrays = [np.eye(6), np.zeros(6), np.zeros(6)]
    arrays[place].flat[0] = np.nan
    with pytest.raises(RefusedCommand, match="not finite"):
        joint_velocities(*arrays, LIMITS, PERIOD_S)


@pytest.mark.parametrize(
    "change, said",
    [
        ({"urdf": "<robot"}, "cannot be read as a URDF"),
        ({"urdf": ""}, "cannot be read as a URDF"),
        ({"joint_names": ("knee",)}, "joint 'knee' is not in robot_description; it has: shoulder_pan"),
        ({"ee_frame": "tool0"}, "frame 'tool0' is not a link of robot_description; it has: "),
        ({"joint_names": JOINTS[1:]}, "shoulder_pan moves 'gripper_tcp' against 'base_link'"),
    ],
)
def test_a_description_that_does_not_fit_is_told(change, said):
    given = {"urdf": arm_urdf(), "joint_names": JOINTS, "base_frame": "base_link", "ee_frame": "gripper_tcp", **change}
    with pytest.raises(KinematicsError, match=said):
        ArmKinematics(**given)


def test_a_joint_without_velocity_limit_needs_one():
    arm = ArmKinematics(arm_urdf(velocity=0.0), JOINTS, "base_link", "gripper_tcp")
    with pytest.raises(KinematicsError, match=r"no velocity limit for shoulder_pan, .*max_joint_velocity_rad_s"):
        arm.limits(acceleration=4.0)
    assert (arm.limits(acceleration=4.0, max_velocity=0.5).velocity == 0.5).all()


def test_without_pinocchio_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch):
    real_import = builtins.__import__

    def missing(name: str, *args: object, **kwargs: object) -> object:
        if name == "pinocchio":
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(KinematicsError, match="pip install pin"):
        ArmKinematics(arm_urdf(), JOINTS, "base_link", "gripper_tcp")
