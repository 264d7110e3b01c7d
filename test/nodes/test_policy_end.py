# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The end of a policy that moves a robot: whatever ends it in order, the last command is the stop.

Three processes at once, each in a namespace of its own, so that the wait for their start is shared.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from lifecycle_msgs.msg import Transition
from policy_client import ACTIVATE, CONFIGURE, PARAMETERS, Robot, velocity

from sqap_vla.nodes.node_process import NodeProcess

ENDS = {"terminate": [signal.SIGTERM], "interrupt_twice": [signal.SIGINT, signal.SIGINT]}


@pytest.fixture(scope="module")
def running(small_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Robot]]:
    """Policies whose commands are live, moving."""
    robots: dict[str, Robot] = {}
    parameters = {**PARAMETERS, "checkpoint": str(small_checkpoint), "dry_run": False}
    with ExitStack() as stack:
        for name in (*ENDS, "shutdown"):
            robot = robots[name] = Robot(f"/{name}")
            stack.callback(robot.close)
            robot.log = tmp_path_factory.mktemp(name) / "log"
            robot.process = NodeProcess("policy", "policy", parameters, log=robot.log, remap={"__ns": f"/{name}"})
            stack.callback(robot.process.stop)
        yield robots


def move(robot: Robot) -> None:
    robot.go(CONFIGURE, ACTIVATE)
    robot.wait(lambda: any(any(velocity(msg)) for msg in robot.heard["twist"]), "motion")


@pytest.mark.parametrize("end", ENDS)
def test_a_signal_sends_the_stop_last_and_ends_with_status_0(running: dict[str, Robot], end: str):
    robot = running[end]
    move(robot)
    process, robot.process = robot.process, None
    for number in ENDS[end]:
        process._process.send_signal(number)
    robot.wait(lambda: not process.alive, "its end")
    robot.wait(lambda: not robot.node.count_publishers(f"/{end}/policy/twist"), "no publisher is left")
    assert process.stop() == 0, robot.log.read_text()
    assert "Traceback" not in robot.log.read_text()
    assert not any(velocity(robot.heard["twist"][-1])), "the last command is a stop"
    assert not robot.heard["dry_run/twist"]


def test_a_shutdown_transition_sends_the_stop_last(running: dict[str, Robot]):
    robot = running["shutdown"]
    move(robot)
    assert robot.transition(Transition.TRANSITION_ACTIVE_SHUTDOWN)
    robot.wait_stopped(prefix="")
    assert robot.process.stop() == 0, robot.log.read_text()
