# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Joint plans: they end at rest, join without a jump, follow the hand, and hold every limit whatever is asked."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("pinocchio", reason="needs pinocchio (pip install pin)")

from arms import BENT, JOINTS, arm_urdf
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from sqap_vla.runtime.actions import pose_between
from sqap_vla.runtime.joint_plan import MAX_SPAN_S, JointPlanner
from sqap_vla.runtime.kinematics import ArmKinematics
from sqap_vla.runtime.limits import Limits

ARM = ArmKinematics(arm_urdf(), JOINTS, "base_link", "gripper_tcp")
JOINT_LIMITS = ARM.limits(acceleration=4.0)
LIMITS = Limits(
    max_linear_m_s=0.2,
    max_angular_rad_s=0.8,
    max_linear_accel_m_s2=2.0,
    max_angular_accel_rad_s2=8.0,
    workspace_min_m=(-2, -2, -2),
    workspace_max_m=(2, 2, 2),
)
TICK_NS = 50_000_000
REST = (np.array(BENT), np.zeros(6), np.zeros(6))


def planner(jerk: float | None = None, limits: Limits = LIMITS) -> JointPlanner:
    return JointPlanner(ARM, ARM.limits(acceleration=4.0, jerk=jerk), limits, correction_s=0.2)


def straight(twist: np.ndarray, state: tuple) -> tuple:
    """A hand that is where it is wanted, and the motion it is asked for."""
    pose, _ = ARM.forward(state[0])
    return pose, lambda at_ns: (twist, pose)


def run(plans: JointPlanner, twist: np.ndarray, ticks: int, state: tuple = REST) -> tuple[np.ndarray, tuple]:
    """Positions at every tick of a consumer that follows exactly, with a new plan at each."""
    positions, now_ns = [state[0]], 0
    for _ in range(ticks):
        pose, preview = straight(twist, state)
        plan = plans.plan(now_ns, state, pose, preview)
        now_ns += TICK_NS
        state = plan.at(now_ns)
        positions.append(state[0])
    return np.array(positions), state


@pytest.mark.parametrize("jerk", [None, 60.0])
def test_the_hand_moves_as_asked_once_it_is_up_to_speed(jerk: float | None):
    twist = np.array([0.05, -0.05, 0.05, 0, 0, 0.1])
    positions, state = run(planner(jerk), twist, 8)
    moved = ARM.forward(positions[-1])[0][:3, 3] - ARM.forward(positions[-3])[0][:3, 3]
    np.testing.assert_allclose(moved / 0.1, twist[:3], atol=2e-3)
    _, jacobian = ARM.forward(state[0])
    np.testing.assert_allclose(jacobian @ state[1], twist, atol=5e-3)


def test_a_plan_spans_half_a_second_and_ends_at_rest():
    pose, preview = straight(np.array([0.1, 0, 0, 0, 0, 0]), REST)
    plan = planner().plan(7, REST, pose, preview)
    assert plan.times_s[0] == 0 and plan.times_s[-1] <= MAX_SPAN_S and (np.diff(plan.times_s) > 0).all()
    np.testing.assert_array_equal(plan.velocities[-1], 0.0)
    position, velocity, _ = plan.at(7 + 10 * 10**9)
    np.testing.assert_array_equal(position, plan.positions[-1])
    np.testing.assert_array_equal(velocity, 0.0)
    assert np.abs(plan.velocities).max() > 0.01


def test_plans_join_without_a_jump_in_position_and_velocity():
    plans, state, now_ns = planner(jerk=60.0), REST, 0
    generator = np.random.default_rng(4)
    for _ in range(60):
        pose, preview = straight(generator.normal(scale=0.2, size=6), state)
        plan = plans.plan(now_ns, state, pose, preview)
        np.testing.assert_array_equal(plan.positions[0], state[0])
        np.testing.assert_array_equal(plan.velocities[0], state[1])
        now_ns += int(generator.integers(10, 80)) * 1_000_000
        state = plan.at(now_ns)


def test_a_hand_that_is_off_its_path_is_led_back():
    pose, _ = ARM.forward(REST[0])
    aside = pose.copy()
    aside[1, 3] += 0.02
    plan = planner().plan(0, REST, pose, lambda at_ns: (np.zeros(6), aside))
    reached, _ = ARM.forward(plan.positions[-1])
    assert 0.005 < reached[1, 3] - pose[1, 3] < 0.02
    np.testing.assert_allclose(reached[[0, 2], 3], pose[[0, 2], 3], atol=2e-3)


def test_without_a_chunk_ahead_it_slows_down():
    pose, _ = ARM.forward(REST[0])
    moving = (REST[0], np.full(6, 0.2), np.zeros(6))
    plan = planner().plan(0, moving, pose, lambda at_ns: None)
    assert (np.diff(np.abs(plan.velocities), axis=0) <= 1e-12).all()


def test_a_stop_comes_to_rest_as_fast_as_the_acceleration_allows():
    moving = (REST[0], np.array([0.8, -0.4, 0, 0, 0, 0]), np.zeros(6))
    plan = planner().stop(0, moving)
    assert plan.times_s[-1] == pytest.approx(0.2)
    np.testing.assert_allclose(plan.positions[-1] - REST[0], moving[1] * 0.1)
    np.testing.assert_array_equal(plan.velocities[-1], 0.0)


def test_the_workspace_holds_along_the_whole_plan():
    """Joint accelerations bound how fast it brakes, so the box is approached as slowly as the braking needs."""
    pose, _ = ARM.forward(REST[0])
    wall = pose[2, 3] - 0.03
    box = Limits(**{**vars(LIMITS), "workspace_min_m": (-2, -2, wall), "max_linear_accel_m_s2": 0.5})
    plans, state, now_ns = planner(limits=box), REST, 0
    lowest = np.inf
    for _ in range(60):
        pose, preview = straight(np.array([0, 0, -0.2, 0, 0, 0]), state)
        plan = plans.plan(now_ns, state, pose, preview)
        lowest = min(lowest, *(ARM.forward(point)[0][2, 3] for point in plan.positions))
        now_ns += TICK_NS
        state = plan.at(now_ns)
    assert wall - 0.002 < lowest < wall + 0.002


wishes = st.lists(st.tuples(*[st.floats(-2, 2)] * 6), min_size=1, max_size=12)
starts = st.tuples(*[st.floats(-2.7, 2.7)] * 6)


@settings(max_examples=60, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))  # shrinking is slow
@given(wishes, starts, st.sampled_from([None, 60.0]))
def test_whatever_is_asked_positions_velocities_and_accelerations_hold(asked, start, jerk):
    plans, now_ns = planner(jerk), 0
    state = (np.array(start), np.zeros(6), np.zeros(6))
    for twist in asked:
        pose, preview = straight(np.array(twist), state)
        plan = plans.plan(now_ns, state, pose, preview)
        assert np.isfinite(plan.positions).all() and plan.times_s[-1] <= MAX_SPAN_S + 1e-9
        assert (np.abs(plan.velocities) <= JOINT_LIMITS.velocity + 1e-9).all()
        accelerations = np.diff(plan.velocities, axis=0) / np.diff(plan.times_s)[:, None]
        assert (np.abs(accelerations) <= JOINT_LIMITS.acceleration * (1 + 1e-6)).all()
        np.testing.assert_array_equal(plan.velocities[-1], 0.0)
        now_ns += TICK_NS
        state = plan.at(now_ns)


def test_between_two_poses_is_straight_and_about_one_axis():
    first, _ = ARM.forward(REST[0])
    second, _ = ARM.forward(REST[0] + 0.1)
    np.testing.assert_allclose(pose_between(first, second, 0.0), first, atol=1e-12)
    np.testing.assert_allclose(pose_between(first, second, 1.0), second, atol=1e-12)
    np.testing.assert_allclose(pose_between(first, second, 0.5)[:3, 3], (first[:3, 3] + second[:3, 3]) / 2)


@pytest.mark.parametrize("horizon_s, span_s", [(0.0, 0.5), (0.5, 0.5), (0.3, 0.6)])
def test_times_that_do_not_end_in_half_a_second_are_refused(horizon_s: float, span_s: float):
    with pytest.raises(ValueError, match="span"):
        JointPlanner(ARM, JOINT_LIMITS, LIMITS, 0.2, horizon_s, span_s)
