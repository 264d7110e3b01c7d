# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Gripper semantics against CogACT's policy, and the open fraction that a robot gets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sqap_vla.runtime.gripper import AbsoluteGripper, GoogleRobotGripper, WidowXGripper, make_gripper

REFERENCE = np.load(Path(__file__).parents[1] / "reference" / "b_policy_step.npz")


@pytest.mark.parametrize("ensemble", ["ens", "noens"])
def test_google_robot_equals_cogact_exactly(ensemble):
    prefix = f"google_robot_{ensemble}"
    gripper = GoogleRobotGripper()
    for step, open_prob in enumerate(REFERENCE[f"{prefix}_raw_open_gripper"][:, 0]):
        gripper.update(open_prob)
        assert gripper.raw == REFERENCE[f"{prefix}_gripper"][step, 0]
        assert gripper.holding == REFERENCE[f"{prefix}_sticky_on"][step]
        assert gripper.held_steps == REFERENCE[f"{prefix}_repeat"][step]


@pytest.mark.parametrize("ensemble", ["ens", "noens"])
def test_widowx_equals_cogact_exactly(ensemble):
    prefix = f"widowx_bridge_{ensemble}"
    gripper = WidowXGripper()
    for step, open_prob in enumerate(REFERENCE[f"{prefix}_raw_open_gripper"][:, 0]):
        assert gripper.update(open_prob) == float(open_prob > 0.5)
        assert gripper.raw == REFERENCE[f"{prefix}_gripper"][step, 0]


def test_google_robot_target_flips_when_a_change_begins_and_disregards_ten_steps():
    gripper = GoogleRobotGripper()
    open_probs = [1.0, 1.0, 0.0, *[1.0] * 9, 1.0, 1.0]
    fractions = [gripper.update(open_prob) for open_prob in open_probs]
    assert fractions == [None, None, *[0] * 10, 1, 1]


def test_google_robot_small_changes_leave_the_target_alone():
    gripper = GoogleRobotGripper()
    assert [gripper.update(open_prob) for open_prob in (1.0, 0.6, 0.5, 0.9)] == [None] * 4
    assert gripper.raw == pytest.approx(0.1)


@pytest.mark.parametrize("first", [0.0, 0.5, 0.51, 1.0])
def test_google_robot_holds_still_until_the_first_change(first):
    """Pinned: the first prediction after a reset was published as an opening, and a gripper let go of what it held."""
    gripper = GoogleRobotGripper()
    for _ in range(2):
        assert gripper.update(first) is None
        assert gripper.raw == 0.0
        gripper.reset()


def test_google_robot_reset_in_the_middle_of_a_hold():
    gripper = GoogleRobotGripper()
    for open_prob in (1.0, 0.0):
        gripper.update(open_prob)
    gripper.reset()
    assert not gripper.holding
    assert gripper.update(1.0) is None and gripper.raw == 0.0
    assert gripper.update(0.0) == 0.0


def test_absolute_passes_through_and_clips():
    gripper = AbsoluteGripper()
    assert [gripper.update(open_prob) for open_prob in (0.3, -0.2, 1.7)] == [0.3, 0.0, 1.0]


@pytest.mark.parametrize("kind", ["google_robot", "widowx", "absolute"])
def test_every_kind_stays_in_the_unit_interval_and_refuses_nan(kind):
    gripper = make_gripper(kind)
    for open_prob in np.random.default_rng(3).random(100):
        fraction = gripper.update(open_prob)
        assert fraction is None or 0 <= fraction <= 1
    before = gripper.raw
    with pytest.raises(ValueError, match="finite"):
        gripper.update(float("nan"))
    assert gripper.raw == before


def test_unknown_kind_lists_the_known_ones():
    with pytest.raises(ValueError, match="'panda' is not known; known are google_robot, widowx, absolute"):
        make_gripper("panda")
