# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The policy on simulated time, in a namespace, with remapped topics: clocks that stand, jump back, or never were."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from policy_client import (
    ACTIVATE,
    CONFIGURE,
    PARAMETERS,
    PERIOD_S,
    Robot,
    policy_process,
    seconds,
    velocity,
)
from rosgraph_msgs.msg import Clock

from sqap_vla.nodes.conversions import stamp_msg

START_NS = 1_000_000_000_000


class SimulatedRobot(Robot):
    """Publishes /clock, which moves with every frame while `running`, at real speed."""

    def __init__(self) -> None:
        self.now_ns, self.running, self.ahead_ns = START_NS, False, 0
        super().__init__("/left/arm", image_topic="/left/camera/rgb")
        self._clock = self.node.create_publisher(Clock, "/clock", 10)
        self.bend_always()

    def bend_always(self) -> None:
        self.bend = {"tf": self.stamped, "camera_info": self.stamped, "image": self.stamped}

    def stamped(self, msg: Any) -> Any:
        for part in getattr(msg, "transforms", [msg]):
            part.header.stamp = stamp_msg(self.now_ns)
        return msg

    def send_frame(self) -> None:
        if not self.running:
            return
        self.now_ns += int(PERIOD_S * 1e9)
        self._clock.publish(Clock(clock=stamp_msg(self.now_ns)))
        super().send_frame()

    def moves(self) -> None:
        """Until a command comes that moves, of the time that is now."""
        self.running = True
        self.forget()
        now_s = self.now_ns / 1e9
        self.wait(
            lambda: any(
                any(velocity(msg)) and now_s <= seconds(msg) < now_s + 100 for msg in self.heard["dry_run/twist"]
            ),
            "motion",
        )


@pytest.fixture(scope="module")
def robot(small_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatedRobot]:
    robot = SimulatedRobot()
    parameters = {**PARAMETERS, "checkpoint": str(small_checkpoint), "use_sim_time": True, "image_topic": "camera"}
    remap = {"__ns": "/left/arm", "camera": "/left/camera/rgb"}
    with policy_process(tmp_path_factory.mktemp("sim") / "log", parameters, remap=remap) as robot.process:
        robot.go(CONFIGURE, ACTIVATE)
        yield robot
    robot.close()


def test_without_a_clock_nothing_is_believed(robot: SimulatedRobot):
    Robot.send_frame(robot)
    robot.has_value("input/last_rejection", "stamp_in_future")
    assert not robot.heard["chunk"] and not robot.heard["dry_run/twist"]


def test_it_follows_the_simulated_clock_namespace_and_remapping(robot: SimulatedRobot):
    robot.moves()
    robot.has_value("input/image_topic", "/left/camera/rgb")
    robot.has_value("input/camera_info_topic", "/left/arm/camera_info")
    last = robot.heard["dry_run/twist"][-1]
    assert START_NS / 1e9 < seconds(last) <= robot.now_ns / 1e9


def test_a_clock_that_stands_still_ends_motion(robot: SimulatedRobot):
    robot.moves()
    robot.running = False
    robot.has_value("command/stop_reason", "clock_stopped")
    robot.wait_stopped()
    robot.moves()


def test_a_clock_that_jumps_back_or_forward_starts_over(robot: SimulatedRobot):
    robot.moves()
    robot.now_ns -= 500_000_000_000
    robot.moves()
    robot.has_value("input/last_rejection", "")
    robot.now_ns += 1_000_000_000_000
    robot.moves()
