# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Pose algebra against CogACT's numbers and scipy's rotations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from sqap_vla.runtime import actions

REFERENCE = np.load(Path(__file__).parents[1] / "reference" / "b_policy_step.npz")

angles = st.floats(-np.pi, np.pi)
metres = st.floats(-2, 2)
deltas = st.tuples(metres, metres, metres, angles, angles, angles).map(np.array)
rotations = st.tuples(angles, angles, angles).map(lambda rpy: Rotation.from_euler("xyz", rpy).as_matrix())


@st.composite
def poses(draw):
    pose = np.eye(4)
    pose[:3, :3] = draw(rotations)
    pose[:3, 3] = draw(st.tuples(metres, metres, metres))
    return pose


@pytest.mark.parametrize("robot", ["google_robot", "widowx_bridge"])
@pytest.mark.parametrize("ensemble", ["ens", "noens"])
def test_axis_angle_equals_cogact(robot, ensemble):
    deltas = REFERENCE[f"{robot}_{ensemble}_raw_rotation_delta"]
    expected = REFERENCE[f"{robot}_{ensemble}_rot_axangle"]
    for rpy, axis_angle in zip(deltas, expected, strict=True):
        twist = actions.twist_from_delta(np.array([0, 0, 0, *rpy]), step_s=1.0)
        np.testing.assert_allclose(twist[3:], axis_angle, rtol=0, atol=1e-12)


def test_a_delta_by_hand():
    # gripper points down (x axis flipped by a half turn); a quarter turn about the base's z axis
    down = np.array([[1.0, 0, 0, 0.5], [0, -1, 0, 0.1], [0, 0, -1, 0.3], [0, 0, 0, 1]])
    target = actions.apply_delta(down, np.array([0.1, 0, -0.05, 0, 0, np.pi / 2]))
    expected = [[0, 1, 0, 0.6], [1, 0, 0, 0.1], [0, 0, -1, 0.25], [0, 0, 0, 1]]
    np.testing.assert_allclose(target, expected, atol=1e-12)
    assert down[0, 3] == 0.5  # the argument is left alone


@settings(max_examples=100, deadline=None)
@given(poses(), deltas)
def test_apply_delta_equals_scipy(pose, delta):
    target = actions.apply_delta(pose, delta)
    turned = Rotation.from_euler("xyz", delta[3:]).as_matrix() @ pose[:3, :3]  # lower case: static axes
    np.testing.assert_allclose(target[:3, :3], turned, atol=1e-12)
    np.testing.assert_allclose(target[:3, 3], pose[:3, 3] + delta[:3], atol=1e-12)
    assert actions.is_rigid_transform(target)


@settings(max_examples=100, deadline=None)
@given(poses(), deltas)
def test_delta_between_is_the_inverse_of_apply_delta(pose, delta):
    target = actions.apply_delta(pose, delta)
    again = actions.apply_delta(pose, actions.delta_between(pose, target))
    np.testing.assert_allclose(again, target, atol=1e-7)  # angles near gimbal lock are no better


@settings(max_examples=100, deadline=None)
@given(poses(), deltas, st.floats(0.01, 1))
def test_a_twist_held_for_the_step_performs_the_delta(pose, delta, step_s):
    twist = actions.twist_from_delta(delta, step_s)
    reached = Rotation.from_rotvec(twist[3:] * step_s).as_matrix() @ pose[:3, :3]
    np.testing.assert_allclose(reached, actions.apply_delta(pose, delta)[:3, :3], atol=1e-9)
    np.testing.assert_allclose(twist[:3] * step_s, delta[:3], atol=1e-12)


@settings(max_examples=200, deadline=None)
@given(
    st.tuples(angles, angles, angles).filter(lambda axis: np.linalg.norm(axis) > 1e-3),
    st.sampled_from([1e-12, 1e-7, 1e-3, 1.0, np.pi - 1e-7, np.pi]),
)
def test_rotation_vector_round_trip_from_tiny_angles_to_a_half_turn(axis, angle):
    rotvec = np.array(axis) / np.linalg.norm(axis) * angle
    rotation = actions.rotation_from_rotvec(rotvec)
    np.testing.assert_allclose(rotation, Rotation.from_rotvec(rotvec).as_matrix(), atol=1e-12)
    again = actions.rotvec_from_rotation(rotation)
    if angle < np.pi - 1e-6:
        np.testing.assert_allclose(again, rotvec, rtol=1e-6, atol=1e-15)
    else:  # the axis of a half turn has no sign
        np.testing.assert_allclose(actions.rotation_from_rotvec(again), rotation, atol=1e-9)
        assert np.linalg.norm(again) == pytest.approx(angle, abs=1e-7)


@pytest.mark.parametrize("pitch", [np.pi / 2, -np.pi / 2])
def test_rpy_at_gimbal_lock_gives_the_same_rotation(pitch):
    rotation = actions.rotation_from_rpy(np.array([0.3, pitch, -1.1]))
    rpy = actions.rpy_from_rotation(rotation)
    np.testing.assert_allclose(actions.rotation_from_rpy(rpy), rotation, atol=1e-9)


def test_is_rigid_transform():
    pose = np.eye(4)
    assert actions.is_rigid_transform(pose)
    assert actions.is_rigid_transform(pose.astype(np.float32))
    mirrored, scaled, projective, unknown = (pose.copy() for _ in range(4))
    mirrored[0, 0], scaled[:3, :3], projective[3, 0], unknown[0, 3] = -1, 1.1 * np.eye(3), 0.1, np.nan
    for wrong in (mirrored, scaled, projective, unknown, np.eye(3), np.zeros((4, 4))):
        assert not actions.is_rigid_transform(wrong)


@pytest.mark.parametrize(
    ("kind", "number", "is_open"),
    [
        ("google_robot", 1, 0.0),
        ("google_robot", -1, 1.0),
        ("google_robot", 0, None),
        ("widowx", 1, 1.0),
        ("widowx", -1, 0.0),
        ("absolute", 0.2, 0.0),
        ("absolute", 0.8, 1.0),
    ],
)
def test_recorded_gripper_conventions(kind, number, is_open):
    assert actions.recorded_gripper_open(kind, number) == is_open


def test_recorded_gripper_refuses_what_it_does_not_know():
    with pytest.raises(ValueError, match="known are google_robot"):
        actions.recorded_gripper_open("panda", 1.0)
    with pytest.raises(ValueError, match="finite"):
        actions.recorded_gripper_open("widowx", np.nan)
