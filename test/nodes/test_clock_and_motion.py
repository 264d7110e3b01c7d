# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The policy node in this process, on a simulated clock and with a network that answers at will.

Pinned: a /clock that stops ends motion; what was inferred before a deactivation moves nothing after it; a clock that
goes back, while the node is inactive or not, does not leave it without a pose.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

from policy_rig import TIMEOUT_S, Rig, policy_rig

from sqap_vla.nodes import input_monitor


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    with policy_rig(monkeypatch, "/clock_and_motion") as rig:
        yield rig


def test_motion_ends_where_the_clock_stands_still(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    rig.start(100.0)
    wall_s = [time.monotonic()]
    monkeypatch.setattr(input_monitor, "time", SimpleNamespace(monotonic=lambda: wall_s[0]))
    wall_s[0] += 0.9
    assert rig.moves()
    wall_s[0] += 0.2
    assert not rig.moves()
    assert rig.stop_reason() == "clock_stopped"
    rig.at(100.1)
    assert rig.moves()


def test_in_lockstep_an_inference_may_take_longer_than_a_chunk_holds(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    rig.start(100.0)
    rig.at(100.2)
    wall_s = [time.monotonic()]
    monkeypatch.setattr(input_monitor, "time", SimpleNamespace(monotonic=lambda: wall_s[0]))
    assert rig.moves()
    rig.network.go.clear()
    rig.see()
    wall_s[0] += 30.0
    assert not rig.moves()
    rig.finish()
    wall_s[0] += 5.0  # the timer was late, too
    assert rig.moves()


@pytest.mark.parametrize("meanwhile", ["deactivated", "instructed", "clock"])
def test_what_was_inferred_before_does_not_move_the_robot_after(rig: Rig, meanwhile: str):
    rig.start(100.0)
    rig.at(100.2)
    rig.network.go.clear()
    rig.see()
    assert rig.network.began.wait(TIMEOUT_S)
    if meanwhile == "deactivated":
        rig.node.trigger_deactivate()
        assert not any(rig.twists[-1:])
        rig.node.trigger_activate()
    elif meanwhile == "instructed":
        rig.node._on_instruction("place")
        rig.node._on_instruction("pick")  # the same words, another start
    else:
        rig.at(100.1, pose=False)  # back by less than a row
        rig.pipeline._tick()
        rig.at(100.1)
    rig.finish()
    assert not rig.moves()
    rig.at(100.4)
    rig.see()
    rig.finish()
    assert rig.moves()


def test_a_clock_that_went_back_while_the_node_was_inactive_leaves_it_able_to_move(rig: Rig):
    rig.at(200.0)
    rig.pipeline._tick()
    rig.at(20.0, pose=False)
    rig.pipeline._tick()
    rig.start(20.1)


def test_a_transform_of_before_that_comes_after_the_clock_went_back_is_got_over(rig: Rig):
    rig.start(100.0)
    rig.at(10.0, pose=False)
    assert not rig.moves()
    rig.at(100.1)  # late on its way
    rig.at(10.1, pose=False)
    assert not rig.moves()
    rig.at(10.2)
    rig.see()
    rig.finish()
    assert rig.moves()


def test_deactivation_leaves_nothing_of_the_stop_for_later(rig: Rig):
    rig.start(100.0)
    rig.node.trigger_deactivate()
    sent = len(rig.twists)
    assert rig.twists[-1] == 0.0
    rig.node.trigger_activate()
    rig.pipeline._tick()
    assert len(rig.twists) == sent


def test_activation_and_a_clock_that_goes_back_begin_a_new_episode(rig: Rig):
    rig.start(100.0)
    assert rig.network.resets == 1
    rig.see()
    rig.at(10.0)
    rig.pipeline._tick()
    assert rig.network.resets == 2
