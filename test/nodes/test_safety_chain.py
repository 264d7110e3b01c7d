# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Each link of the chain by itself, in the test's process: what it holds back, why, and that motion goes on after it.

Links that need several processes are in test_policy_commands.py and test_policy_bad_input.py.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

from policy_rig import Rig, policy_rig
from std_msgs.msg import Bool

from sqap_vla.nodes import deadman, input_monitor

Make = Callable[..., Rig]


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Makes one policy with changed parameters."""
    stack: list[Any] = []

    def make(**changes: Any) -> Rig:
        stack.append(policy_rig(monkeypatch, "/safety_chain", **changes))
        return stack[-1].__enter__()

    yield make
    for context in stack:
        context.__exit__(None, None, None)


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The steady clock of inputs and switch, set by hand."""
    now_s = [time.monotonic()]
    steady = SimpleNamespace(monotonic=lambda: now_s[0])
    monkeypatch.setattr(input_monitor, "time", steady)
    monkeypatch.setattr(deadman, "time", steady)
    return now_s


def test_motion_only_while_the_switch_is_held_and_heard(make: Make, wall: list[float]):
    rig = make(deadman_topic="deadman", deadman_timeout_s=0.5)
    switch = rig.pipeline._commander._deadman
    rig.at(100.0)
    rig.node.trigger_activate()
    rig.see()
    rig.finish()
    assert not rig.moves() and rig.stop_reason() == "deadman_silent"
    switch._on_switch(Bool(data=True))
    assert rig.moves()
    switch._on_switch(Bool(data=False))
    assert not rig.moves() and rig.stop_reason() == "deadman_released"
    switch._on_switch(Bool(data=True))
    wall[0] += 0.4
    assert rig.moves()
    wall[0] += 0.2  # the cable is pulled; the ROS clock stands and does not help
    assert not rig.moves() and rig.stop_reason() == "deadman_silent"


def test_an_inference_that_hangs_holds_motion_back_until_it_ends(make: Make):
    rig = make(max_inference_s=0.1, max_chunk_age_s=2.0)
    rig.start(100.0)
    rig.network.go.clear()
    rig.at(100.2)
    rig.see()
    assert rig.network.began.wait(5.0)
    assert rig.moves()
    time.sleep(0.15)
    assert not rig.moves() and rig.stop_reason() == "inference_hung"
    rig.finish()
    assert rig.moves()


def test_an_inference_thread_that_died_holds_motion_back(make: Make):
    rig = make()
    rig.start(100.0)
    assert rig.pipeline._worker.stop(5.0)
    assert not rig.moves() and rig.stop_reason() == "inference_dead"
    assert "clean the node up" in rig.pipeline.values()["command/stop_detail"]


def test_where_the_clock_crawls_silence_is_measured_by_the_wall(make: Make, wall: list[float]):
    """Chunk and pose stay fresh by their stamps for minutes of wall time."""
    rig = make(max_chunk_age_s=1.0, max_silence_s=2.0)
    rig.start(100.0)
    moved = []
    for tick in range(1, 5):
        wall[0] += 0.9
        rig.at(100.0 + tick * 0.001)
        moved.append(rig.moves())
    assert moved == [True, True, False, False] and rig.stop_reason() == "input_silent"
    rig.at(100.2)
    rig.see()
    rig.finish()
    assert rig.moves()


def test_a_pose_that_comes_no_more_is_unknown_by_the_wall(make: Make, wall: list[float]):
    rig = make(max_silence_s=2.0)
    rig.start(100.0)
    for tick in range(1, 5):
        wall[0] += 0.9
        rig.at(100.0 + tick * 0.02, pose=False)
        rig.see()  # images go on
        rig.finish()
        moving = rig.moves()
    assert not moving and rig.stop_reason() == "no_end_effector_pose"
    rig.at(100.2)
    assert rig.moves()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [(0, 0), (15, 6), (7, 3)])
def test_a_chunk_that_is_not_finite_is_dropped_whole(make: Make, value: float, place: tuple[int, int]):
    rig = make()
    rig.start(100.0)
    rig.network.actions = rig.network.actions.copy()
    rig.network.actions[place] = value
    rig.at(100.2)
    rig.see()
    rig.finish()
    assert rig.moves(), "the chunk before holds"
    values = rig.pipeline.values()
    assert values["command/refused_chunk/chunk_not_finite"] == "1"
    assert values["command/last_refused_chunk"] == "chunk_not_finite"
    assert not any(key.startswith("tf/warning/chunk") for key in values)
    rig.at(101.1)
    assert not rig.moves() and rig.stop_reason() == "chunk_too_old"


def test_motion_fades_in_after_activation_and_after_a_stop(make: Make, wall: list[float]):
    rig = make(fade_in_s=0.5)
    rig.start(100.0)
    for _ in range(2):
        speeds = rig.twists[-1:]
        for _ in range(11):
            rig.moves()
            speeds.append(rig.twists[-1])
        np.testing.assert_allclose(speeds, 0.05 * np.minimum(np.arange(1, 13) / 10, 1.0))
        rig.node._command_gate._stopped = True
        assert not rig.moves()
        rig.node._command_gate._stopped = False
        rig.moves()
    assert int(rig.pipeline.values()["command/limit/fade_in"]) > 10


def test_acceleration_is_limited_and_counted(make: Make, wall: list[float]):
    rig = make(limits__max_linear_accel_m_s2=0.2)
    rig.start(100.0)
    for _ in range(7):
        rig.moves()
    np.testing.assert_allclose(rig.twists, np.minimum(0.01 * np.arange(1, 9), 0.05))
    assert rig.pipeline.values()["command/limit/linear_acceleration"] == "4"


def test_a_stop_tells_its_detail_and_holds_the_present_pose(make: Make, wall: list[float]):
    rig = make()
    rig.start(100.0)
    poses: list[float] = []
    send = rig.pipeline._commander._output._pose.publish
    rig.pipeline._commander._output._pose.publish = lambda msg: (poses.append(msg.pose.position.x), send(msg))
    assert rig.moves() and poses[-1] == pytest.approx(0.01)
    rig.at(101.5)
    for _ in range(10):
        assert not rig.moves()
    assert poses[1:] == [0.0], "once"
    assert rig.pipeline.values()["command/stop_detail"] == "1.500 s old, allowed are 1 s"


def test_reasons_of_stops_are_logged_when_they_begin(make: Make, wall: list[float]):
    rig = make()
    said: list[str] = []
    logger = SimpleNamespace(info=said.append, warning=said.append, error=said.append)
    rig.pipeline._commander._logger = logger
    rig.start(100.0)
    for _ in range(5):
        rig.moves()
    rig.at(101.5)
    for _ in range(5):
        rig.moves()
    assert said == ["commands go out", "commands stop: chunk_too_old, 1.500 s old, allowed are 1 s"]


def test_after_a_reset_the_google_robot_gripper_is_left_as_it_is(make: Make):
    rig = make(gripper="google_robot")
    sent: list[float] = []
    rig.pipeline._commander._output._gripper.send = sent.append
    rig.start(100.0)  # the network predicts an open gripper
    for step in range(1, 4):
        rig.at(100.0 + 0.2 * step)
        rig.moves()
    assert sent == []


def test_all_threads_of_a_hung_inference_end_with_the_process():
    assert all(thread.daemon for thread in threading.enumerate() if thread.name == "inference")
