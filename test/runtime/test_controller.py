# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The chunk controller: which row when, and no motion from anything that is not sound."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sqap_vla.pruning.ring import NO_CAMERA_INFO, empty_ring
from sqap_vla.pruning.selection import keep_all
from sqap_vla.runtime import controller as ctl
from sqap_vla.runtime.actions import apply_delta
from sqap_vla.runtime.command import Command, Stop
from sqap_vla.runtime.controller import ChunkController
from sqap_vla.runtime.ensemble import AdaptiveEnsemble
from sqap_vla.runtime.gripper import make_gripper
from sqap_vla.runtime.limits import WORKSPACE, Limits
from sqap_vla.runtime.types import ActionChunk, StageTimes

STEP_NS = 200_000_000
STEP_S = 0.2
START_NS = 1_700_000_000_000_000_000
FREE = {"max_linear_accel_m_s2": 1e6, "max_angular_accel_rad_s2": 1e6}
WIDE = Limits(
    max_linear_m_s=100, max_angular_rad_s=100, workspace_min_m=(-9, -9, -9), workspace_max_m=(9, 9, 9), **FREE
)
HOME = np.eye(4)
HOME[:3, 3] = 0.4, 0.0, 0.3


def make_chunk(
    actions: np.ndarray, steps: float = 0.0, base_T_ee: np.ndarray | None = HOME, step_s: float = STEP_S
) -> ActionChunk:
    """A chunk stamped `steps` rows after the start."""
    return ActionChunk(
        actions=actions,
        step_s=step_s,
        stamp_ns=START_NS + round(steps * STEP_NS),
        selection=keep_all(256, "cpu"),
        ring=empty_ring(NO_CAMERA_INFO),
        times=StageTimes(0, 0, 0, 0, 0),
        base_T_ee=base_T_ee,
    )


def random_actions(seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    actions = generator.normal(scale=0.03, size=(16, 7))
    actions[:, 6] = generator.random(16) > 0.5
    return actions


def make_controller(
    max_age_s: float = 60.0, gripper: str = "absolute", limits: Limits = WIDE, horizon: int = 1
) -> ChunkController:
    return ChunkController(STEP_S, limits, make_gripper(gripper), max_age_s, horizon)


def at(steps: float) -> int:
    return START_NS + round(steps * STEP_NS)


def stop_reason(result: Command | Stop) -> str:
    assert isinstance(result, Stop), result
    return result.reason


@pytest.mark.parametrize(
    ("steps", "row"),
    [
        (0, 0),
        (0.999, 0),
        (1, 1),
        (7.5, 7),
        (15.999, 15),
        (-0.5, 0),  # a stamp slightly ahead is clock skew
    ],
)
def test_the_row_is_the_one_that_covers_the_time(steps, row):
    controller, actions = make_controller(), random_actions()
    assert controller.set_chunk(make_chunk(actions)) is None
    command = controller.command(at(steps), HOME)
    assert command.row == row
    np.testing.assert_allclose(command.action, actions[row], atol=1e-15)
    np.testing.assert_allclose(command.linear_m_s, actions[row, :3] / STEP_S)
    assert command.gripper_open == actions[row, 6]
    assert command.engaged == ()


def test_rows_of_a_third_of_a_second_begin_on_time():
    controller = ChunkController(1 / 3, WIDE, make_gripper("absolute"), 60.0)
    controller.set_chunk(make_chunk(random_actions(), step_s=1 / 3))
    assert controller.command(START_NS + 333_333_333, HOME).row == 1  # a stamp has no third of a nanosecond
    assert controller.command(START_NS + 333_333_332, HOME).row == 0


def test_the_target_is_the_anchor_after_all_rows_so_far():
    controller, actions = make_controller(), random_actions()
    controller.set_chunk(make_chunk(actions))
    expected = HOME
    for row in range(16):
        expected = apply_delta(expected, actions[row, :6])
        moved = apply_delta(HOME, np.full(6, 0.01 * row))  # does not shift the target
        np.testing.assert_allclose(controller.command(at(row), moved).base_T_target, expected, atol=1e-12)


def test_executing_every_row_for_its_time_reaches_the_targets():
    controller, actions = make_controller(), random_actions(3)
    controller.set_chunk(make_chunk(actions))
    position = HOME[:3, 3].copy()
    for row in range(16):
        command = controller.command(at(row), HOME)
        position += command.linear_m_s * STEP_S
        np.testing.assert_allclose(position, command.base_T_target[:3, 3], atol=1e-12)


def test_chunks_are_ensembled_by_the_step_of_their_stamp():
    first, second = random_actions(1), random_actions(2)
    controller, ensemble = make_controller(horizon=2), AdaptiveEnsemble(2)
    controller.set_chunk(make_chunk(first))
    controller.set_chunk(make_chunk(second, steps=2.9))  # inference took about three rows
    ensemble.update(first, 0)
    expected = ensemble.update(second, 3)
    np.testing.assert_allclose(controller.command(at(4.0), HOME).action, expected[1])


def test_the_gripper_advances_once_per_step_not_per_tick_nor_per_chunk():
    controller = make_controller(gripper="google_robot")
    actions = np.zeros((16, 7))
    actions[0, 6] = actions[3:, 6] = 1.0  # closes at row 1 and is held for ten rows whatever comes
    controller.set_chunk(make_chunk(actions))
    ticks = [controller.command(at(tick / 5), HOME) for tick in range(80)]
    assert [tick.gripper_open for tick in ticks] == [None] * 5 + [0.0] * 50 + [1.0] * 25

    controller.reset()
    fractions = []
    for step in range(16):  # the same with a fresh chunk in every step
        shifted = np.zeros((16, 7))
        shifted[: 16 - step] = actions[step:]
        controller.set_chunk(make_chunk(shifted, steps=step))
        fractions += [controller.command(at(step + tick / 5), HOME).gripper_open for tick in range(5)]
    assert fractions == [tick.gripper_open for tick in ticks]


def test_limits_apply_and_are_reported():
    box = Limits(max_linear_m_s=1, max_angular_rad_s=1, workspace_min_m=(0, -1, 0.3), workspace_max_m=(1, 1, 1), **FREE)
    controller = make_controller(limits=box)
    actions = np.zeros((16, 7))
    actions[:, 2] = -0.02
    controller.set_chunk(make_chunk(actions))
    command = controller.command(at(0), HOME)
    np.testing.assert_allclose(command.linear_m_s, 0)
    np.testing.assert_allclose(command.base_T_target, HOME)
    assert command.engaged == (WORKSPACE,)


def test_no_chunk():
    assert stop_reason(make_controller().command(at(0), HOME)) == ctl.NO_CHUNK


def test_past_the_last_row():
    controller = make_controller()
    controller.set_chunk(make_chunk(random_actions()))
    assert stop_reason(controller.command(at(16), HOME)) == ctl.CHUNK_EXHAUSTED


def test_older_than_allowed():
    controller = make_controller(max_age_s=0.5)
    controller.set_chunk(make_chunk(random_actions()))
    assert isinstance(controller.command(at(2.5), HOME), Command)
    assert stop_reason(controller.command(at(2.51), HOME)) == ctl.CHUNK_TOO_OLD


def test_a_chunk_from_the_future_is_dropped_and_does_not_block_later_ones():
    controller = make_controller()
    controller.set_chunk(make_chunk(random_actions(), steps=1000))
    assert stop_reason(controller.command(at(0), HOME)) == ctl.CHUNK_FROM_FUTURE
    assert controller.set_chunk(make_chunk(random_actions(), steps=0)) is None
    assert isinstance(controller.command(at(0), HOME), Command)


def test_a_clock_that_jumps_back_stops_and_starts_anew():
    controller = make_controller(horizon=2)
    controller.set_chunk(make_chunk(random_actions(1), steps=100))
    assert isinstance(controller.command(at(110), HOME), Command)
    assert isinstance(controller.command(at(109.5), HOME), Command)  # jitter
    # stopped although the chunk covers this time too
    assert stop_reason(controller.command(at(105), HOME)) == ctl.CLOCK_JUMPED_BACK
    assert stop_reason(controller.command(at(105.1), HOME)) == ctl.NO_CHUNK
    assert stop_reason(controller.command(at(3), HOME)) == ctl.CLOCK_JUMPED_BACK
    fresh = random_actions(2)
    assert controller.set_chunk(make_chunk(fresh, steps=3)) is None
    # nothing of the time before is left in the ensemble
    np.testing.assert_allclose(controller.command(at(3), HOME).action, fresh[0])


def test_without_a_valid_pose_there_is_no_command():
    controller = make_controller()
    controller.set_chunk(make_chunk(random_actions()))
    assert stop_reason(controller.command(at(0), None)) == ctl.NO_END_EFFECTOR_POSE
    for wrong in (np.full((4, 4), np.nan), np.zeros((4, 4)), np.eye(3)):
        assert stop_reason(controller.command(at(0), wrong)) == ctl.INVALID_END_EFFECTOR_POSE
    assert isinstance(controller.command(at(0), HOME), Command)


@pytest.mark.filterwarnings("ignore:overflow|invalid value:RuntimeWarning")
def test_finite_numbers_whose_motion_is_not_finite_are_refused():
    controller = make_controller()
    controller.set_chunk(make_chunk(np.full((16, 7), 1e308)))
    assert stop_reason(controller.command(at(0), HOME)) == ctl.COMMAND_REFUSED


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"actions": np.full((16, 7), np.nan)}, ctl.CHUNK_NOT_FINITE),
        ({"actions": np.where(np.eye(16, 7) > 0, np.inf, 0.0)}, ctl.CHUNK_NOT_FINITE),
        ({"base_T_ee": None}, ctl.CHUNK_WITHOUT_ANCHOR),
        ({"base_T_ee": np.zeros((4, 4))}, ctl.CHUNK_WITHOUT_ANCHOR),
        ({"steps": 0.0}, ctl.CHUNK_NOT_NEWER),
        ({"steps": -3.0}, ctl.CHUNK_NOT_NEWER),
        ({"step_s": 1 / 3}, ctl.CHUNK_STEP_MISMATCH),
    ],
)
def test_a_refused_chunk_leaves_the_one_before_in_force(wrong, reason):
    good = random_actions()
    controller = make_controller(horizon=7)
    controller.set_chunk(make_chunk(good))
    assert controller.set_chunk(make_chunk(**{"actions": random_actions(9), "steps": 1.0, **wrong})) == reason
    np.testing.assert_allclose(controller.command(at(1), HOME).action, good[1])
    fresh = AdaptiveEnsemble(7)
    fresh.update(good, 0)
    controller.set_chunk(make_chunk(random_actions(2), steps=2.0))
    expected = fresh.update(random_actions(2), 2)[0]
    np.testing.assert_allclose(controller.command(at(2), HOME).action, expected)


def test_reset_forgets_everything():
    controller = make_controller()
    controller.set_chunk(make_chunk(random_actions(), steps=50))
    controller.reset()
    assert stop_reason(controller.command(at(50), HOME)) == ctl.NO_CHUNK
    assert controller.set_chunk(make_chunk(random_actions(), steps=1)) is None


@pytest.mark.filterwarnings("ignore:overflow|invalid value:RuntimeWarning")
@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.floats(-30, 30),
            st.sampled_from([0.0, 1e-3, 1.0, 1e200, np.nan, np.inf]),
            st.sampled_from(["chunk", "no_anchor", "tick", "tick", "tick", "no_pose"]),
        ),
        max_size=30,
    )
)
def test_whatever_comes_in_whatever_order_a_command_is_finite_and_within_limits(events):
    tight = Limits(
        max_linear_m_s=0.1, max_angular_rad_s=0.3, workspace_min_m=(0, -1, 0), workspace_max_m=(1, 1, 1), **FREE
    )
    controller = make_controller(max_age_s=2.0, gripper="google_robot", limits=tight, horizon=2)
    for steps, scale, event in events:
        if event in ("chunk", "no_anchor"):
            anchor = HOME if event == "chunk" else None
            controller.set_chunk(make_chunk(scale * np.ones((16, 7)), steps, anchor))
            continue
        result = controller.command(at(steps), HOME if event == "tick" else None)
        if isinstance(result, Stop):
            continue
        assert event == "tick"
        assert np.linalg.norm(result.linear_m_s) <= 0.1 * (1 + 1e-6)
        assert np.linalg.norm(result.angular_rad_s) <= 0.3 * (1 + 1e-6)
        assert np.isfinite(result.base_T_target).all()
        assert result.gripper_open is None or 0 <= result.gripper_open <= 1


@pytest.mark.parametrize("arguments", [{"max_age_s": 0.0}, {"max_age_s": np.nan}, {"horizon": 0}])
def test_bad_configuration_is_refused(arguments):
    with pytest.raises(ValueError, match="must be"):
        make_controller(**arguments)


def test_a_chunk_begun_before_the_past_was_forgotten_is_not_taken():
    controller = make_controller()
    before = controller.epoch
    assert controller.set_chunk(make_chunk(random_actions()), before) is None
    controller.reset()
    assert controller.set_chunk(make_chunk(random_actions(), steps=1), before) == ctl.CHUNK_OUTDATED
    assert stop_reason(controller.command(at(1), HOME)) == ctl.NO_CHUNK
    now = controller.epoch
    assert now != before and controller.set_chunk(make_chunk(random_actions(), steps=1), now) is None


def test_a_clock_that_goes_back_ends_the_epoch():
    controller = make_controller()
    assert controller.set_chunk(make_chunk(random_actions())) is None
    controller.command(at(5), HOME)
    before = controller.epoch
    assert stop_reason(controller.command(at(0), HOME)) == ctl.CLOCK_JUMPED_BACK
    assert controller.set_chunk(make_chunk(random_actions()), before) == ctl.CHUNK_OUTDATED
