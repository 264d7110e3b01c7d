# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Limits: numbers by hand, and what holds for any command."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sqap_vla.runtime import limits as lim
from sqap_vla.runtime.actions import apply_delta, is_rigid_transform, rotvec_from_rotation
from sqap_vla.runtime.limits import Limits, RefusedCommand

ACCELERATION = {"max_linear_accel_m_s2": 10.0, "max_angular_accel_rad_s2": 10.0}
LIMITS = Limits(
    max_linear_m_s=0.2,
    max_angular_rad_s=0.5,
    workspace_min_m=(0, -0.5, 0.02),
    workspace_max_m=(1, 0.5, 0.8),
    **ACCELERATION,
)
STEP_S = 0.2


def pose(x: float, y: float, z: float) -> np.ndarray:
    transform = np.eye(4)
    transform[:3, 3] = x, y, z
    return transform


CENTRE = pose(0.5, 0, 0.4)


def test_a_command_within_the_limits_is_unchanged():
    twist = np.array([0.1, -0.1, 0.1, 0.2, 0.0, -0.3])
    target = apply_delta(CENTRE, twist * STEP_S)
    limited = LIMITS.apply(twist, target, CENTRE, STEP_S)
    assert limited.engaged == ()
    np.testing.assert_allclose(limited.twist, twist, rtol=1e-15)
    np.testing.assert_allclose(limited.base_T_target, target, rtol=1e-15)


def test_speeds_are_scaled_with_their_direction_kept():
    limited = LIMITS.apply(np.array([3.0, 0, -4.0, 0, 2.0, 0]), CENTRE, CENTRE, STEP_S)
    np.testing.assert_allclose(limited.twist, [0.12, 0, -0.16, 0, 0.5, 0])
    assert limited.engaged == (lim.LINEAR_SPEED, lim.ANGULAR_SPEED)


def test_a_far_target_is_drawn_to_what_one_row_reaches():
    far = apply_delta(CENTRE, np.array([0, 0.3, 0, 0, 0, 1.0]))
    limited = LIMITS.apply(np.zeros(6), far, CENTRE, STEP_S)
    nearer = apply_delta(CENTRE, np.array([0, 0.04, 0, 0, 0, 0.1]))
    np.testing.assert_allclose(limited.base_T_target, nearer, atol=1e-12)
    assert limited.engaged == (lim.TARGET_DISTANCE, lim.TARGET_ANGLE)


def test_at_the_table_the_downward_part_stops_and_the_rest_goes_on():
    twist = np.array([0.1, 0, -0.1, 0, 0, 0])
    limited = LIMITS.apply(twist, pose(0.52, 0, 0.005), pose(0.5, 0, 0.03), STEP_S)
    np.testing.assert_allclose(limited.twist[:3], [0.1, 0, -0.05])  # 1 cm above the face, 0.2 s per row
    np.testing.assert_allclose(limited.base_T_target[:3, 3], [0.52, 0, 0.02])
    assert limited.engaged == (lim.WORKSPACE,)


def test_the_twist_slows_down_before_a_face_as_the_acceleration_lets_it():
    gentle = dataclasses.replace(LIMITS, max_linear_accel_m_s2=0.1)
    for distance, speed in ((0.25, 0.2), (0.05, 0.1), (0.0008, 0.004)):  # sqrt(2 a d), and at last d per row
        limited = gentle.apply(np.array([0, 0, -0.2, 0, 0, 0]), CENTRE, pose(0.5, 0, 0.02 + distance), STEP_S)
        assert limited.twist[2] == pytest.approx(-speed)


def test_from_outside_only_inwards():
    outside = pose(0.5, 0.6, 0.4)
    out = LIMITS.apply(np.array([0, 0.1, 0, 0, 0, 0]), pose(0.5, 0.62, 0.4), outside, STEP_S)
    np.testing.assert_allclose(out.twist, 0)
    np.testing.assert_allclose(out.base_T_target, outside)
    back = LIMITS.apply(np.array([0, -0.1, 0, 0, 0, 0]), pose(0.5, 0.58, 0.4), outside, STEP_S)
    np.testing.assert_allclose(back.twist[1], -0.1)
    np.testing.assert_allclose(back.base_T_target[1, 3], 0.58)
    assert back.engaged == ()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("which", range(3))
def test_anything_not_finite_refuses_the_whole_command(value, which):
    arrays = [np.zeros(6), CENTRE.copy(), CENTRE.copy()]
    arrays[which].flat[3] = value
    with pytest.raises(RefusedCommand, match="must be finite"):
        LIMITS.apply(*arrays, STEP_S)


numbers = st.one_of(st.floats(-1, 1), st.floats(-1e3, 1e3), st.floats(allow_nan=False, allow_infinity=False))


@pytest.mark.filterwarnings("ignore:overflow|invalid value:RuntimeWarning")
@settings(max_examples=300, deadline=None)
@given(
    st.tuples(*[numbers] * 6),
    st.tuples(*[numbers] * 3),
    st.tuples(*[st.floats(-4, 4)] * 3),
    st.tuples(st.floats(-0.5, 1.5), st.floats(-1, 1), st.floats(-0.5, 1.5)),
)
def test_whatever_is_asked_for_the_limits_hold(twist, target_m, target_rpy, position_m):
    base_T_ee = pose(*position_m)
    base_T_target = apply_delta(pose(*target_m), np.array([0, 0, 0, *target_rpy]))
    try:
        limited = LIMITS.apply(np.array(twist), base_T_target, base_T_ee, STEP_S)
    except RefusedCommand:  # a number so large that its arithmetic overflows
        assert max(map(abs, (*twist, *target_m))) > 1e300
        return
    slack = 1 + 1e-6
    assert np.linalg.norm(limited.twist[:3]) <= LIMITS.max_linear_m_s * slack
    assert np.linalg.norm(limited.twist[3:]) <= LIMITS.max_angular_rad_s * slack
    assert is_rigid_transform(limited.base_T_target)
    move = limited.base_T_target[:3, 3] - base_T_ee[:3, 3]
    assert np.linalg.norm(move) <= LIMITS.max_linear_m_s * STEP_S * slack
    turn = rotvec_from_rotation(limited.base_T_target[:3, :3] @ base_T_ee[:3, :3].T)
    assert np.linalg.norm(turn) <= LIMITS.max_angular_rad_s * STEP_S * slack
    lowest = np.minimum(LIMITS.workspace_min_m, position_m) - 1e-9
    highest = np.maximum(LIMITS.workspace_max_m, position_m) + 1e-9
    for reached in (limited.base_T_target[:3, 3], np.add(position_m, limited.twist[:3] * STEP_S)):
        assert (reached >= lowest).all() and (reached <= highest).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_linear_m_s": 0.0}, "max_linear_m_s is 0.0"),
        ({"max_linear_m_s": np.inf}, "finite"),
        ({"max_angular_rad_s": np.nan}, "max_angular_rad_s is nan"),
        ({"max_linear_accel_m_s2": None}, "max_linear_accel_m_s2 is None"),
        ({"max_angular_accel_rad_s2": 0.0}, "positive"),
        ({"max_linear_jerk_m_s3": -1.0}, "max_linear_jerk_m_s3 is -1.0"),
        ({"workspace_min_m": (0, 0.5, 0)}, "first below the second"),
        ({"workspace_max_m": (1, 1)}, "two finite corners"),
        ({"workspace_max_m": (1, 1, np.nan)}, "two finite corners"),
    ],
)
def test_bad_limits_are_refused(change, message):
    valid = {
        "max_linear_m_s": 0.2,
        "max_angular_rad_s": 0.5,
        "workspace_min_m": (0, -0.5, 0),
        "workspace_max_m": (1, 0.5, 1),
        **ACCELERATION,
    }
    with pytest.raises(ValueError, match=message):
        Limits(**{**valid, **change})


def test_no_limit_has_a_default():
    with pytest.raises(TypeError, match="workspace_max_m"):
        Limits(max_linear_m_s=0.2, max_angular_rad_s=0.5, workspace_min_m=(0, 0, 0), **ACCELERATION)
