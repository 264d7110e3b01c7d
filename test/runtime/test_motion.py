# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""From command to command: acceleration, jerk and fade-in, for any sequence of wishes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sqap_vla.runtime.limits import Limits
from sqap_vla.runtime.motion import ANGULAR_ACCELERATION, FADE_IN, LINEAR_ACCELERATION, MotionLimiter

PERIOD_S, STEP_S = 0.05, 0.2
ROOM = {"workspace_min_m": (-9, -9, -9), "workspace_max_m": (9, 9, 9)}
LIMITS = Limits(
    max_linear_m_s=0.2, max_angular_rad_s=0.8, max_linear_accel_m_s2=1.0, max_angular_accel_rad_s2=4.0, **ROOM
)
JERK = Limits(
    max_linear_m_s=0.2,
    max_angular_rad_s=0.8,
    max_linear_accel_m_s2=1.0,
    max_angular_accel_rad_s2=4.0,
    max_linear_jerk_m_s3=10.0,
    max_angular_jerk_rad_s3=40.0,
    **ROOM,
)
HOME = np.eye(4)
FORWARD = np.array([0.2, 0, 0, 0, 0, 0.8])


def follow(motion: MotionLimiter, *wishes: np.ndarray) -> np.ndarray:
    return np.array([motion.apply(wish, HOME, HOME, STEP_S).twist for wish in wishes])


def test_from_rest_the_speed_grows_by_the_acceleration_and_no_further():
    motion = MotionLimiter(LIMITS, PERIOD_S)
    twists = follow(motion, *[FORWARD] * 6)
    np.testing.assert_allclose(twists[:, 0], [0.05, 0.1, 0.15, 0.2, 0.2, 0.2])
    np.testing.assert_allclose(twists[:, 5], [0.2, 0.4, 0.6, 0.8, 0.8, 0.8])
    motion.rest()
    limited = motion.apply(FORWARD, HOME, HOME, STEP_S)
    assert limited.engaged == (LINEAR_ACCELERATION, ANGULAR_ACCELERATION)
    np.testing.assert_allclose(limited.twist[0], 0.05)


def test_a_reversal_goes_through_zero():
    twists = follow(MotionLimiter(LIMITS, PERIOD_S), *[FORWARD] * 5, *[-FORWARD] * 9)
    assert np.abs(np.diff(twists[:, 0])).max() <= 0.05 + 1e-12
    np.testing.assert_allclose(twists[-1], -FORWARD)


def test_fade_in_scales_twist_and_target_after_every_rest():
    motion = MotionLimiter(LIMITS, PERIOD_S, fade_in_s=1.0)
    far = HOME.copy()
    far[0, 3] = 1.0
    for _ in range(2):
        reach = []
        for tick in range(1, 25):
            limited = motion.apply(FORWARD, far, HOME, STEP_S)
            assert limited.twist[0] == pytest.approx(0.2 * min(tick / 20, 1.0))
            assert (FADE_IN in limited.engaged) == (tick < 20)
            reach.append(limited.base_T_target[0, 3])
        np.testing.assert_allclose(reach, 0.2 * STEP_S * np.minimum(np.arange(1, 25) / 20, 1.0))
        motion.rest()


def test_with_jerk_limited_the_wanted_speed_is_reached_without_overshoot():
    twists = follow(MotionLimiter(JERK, PERIOD_S), *[FORWARD] * 40)
    assert twists[:, 0].max() <= 0.2 + 1e-9 and twists[-1, 0] == pytest.approx(0.2)
    acceleration = np.diff(twists[:, 0], prepend=0.0) / PERIOD_S
    assert np.abs(np.diff(acceleration, prepend=0.0)).max() <= 10.0 * PERIOD_S + 1e-9


def test_at_a_wall_the_workspace_wins_over_the_acceleration():
    """The end-effector was carried past where braking could begin."""
    tight = Limits(**{**vars(LIMITS), "workspace_max_m": (0.001, 9, 9)})
    motion = MotionLimiter(LIMITS, PERIOD_S)
    follow(motion, *[FORWARD] * 5)
    motion.limits = tight
    assert motion.apply(FORWARD, HOME, HOME, STEP_S).twist[0] == pytest.approx(0.001 / STEP_S)


def test_a_limit_that_is_set_lower_holds_at_once():
    motion = MotionLimiter(LIMITS, PERIOD_S)
    follow(motion, *[FORWARD] * 5)
    motion.limits = Limits(**{**vars(LIMITS), "max_linear_m_s": 0.01})
    assert motion.apply(FORWARD, HOME, HOME, STEP_S).twist[0] == pytest.approx(0.01)


wishes = st.lists(st.tuples(*[st.floats(-3, 3)] * 6), min_size=1, max_size=30)


@settings(max_examples=200, deadline=None)
@given(wishes, st.sampled_from([LIMITS, JERK]), st.sampled_from([0.0, 0.5]))
def test_whatever_is_asked_for_acceleration_and_speed_hold(asked, limits, fade_in_s):
    motion = MotionLimiter(limits, PERIOD_S, fade_in_s)
    before = np.zeros(6)
    for wish in asked:
        twist = motion.apply(np.array(wish), HOME, HOME, STEP_S).twist
        change = twist - before
        assert np.linalg.norm(change[:3]) <= 1.0 * PERIOD_S * (1 + 1e-6) + 1e-12
        assert np.linalg.norm(change[3:]) <= 4.0 * PERIOD_S * (1 + 1e-6) + 1e-12
        assert np.linalg.norm(twist[:3]) <= 0.2 * (1 + 1e-6) and np.linalg.norm(twist[3:]) <= 0.8 * (1 + 1e-6)
        before = twist


@pytest.mark.parametrize("arguments", [{"period_s": 0.0}, {"period_s": np.nan}, {"fade_in_s": -1.0}])
def test_bad_times_are_refused(arguments):
    with pytest.raises(ValueError, match="must be"):
        MotionLimiter(**{"limits": LIMITS, "period_s": PERIOD_S, **arguments})


def test_a_jerk_limit_next_to_nothing_holds_still_and_divides_by_nothing():
    tiny = replace(LIMITS, max_linear_jerk_m_s3=5e-324, max_angular_jerk_rad_s3=5e-324)
    assert np.abs(follow(MotionLimiter(tiny, PERIOD_S), *[FORWARD] * 5)).max() < 1e-300
