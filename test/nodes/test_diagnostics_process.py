# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Loader, policy and diagnostics as three processes: what an operator sees on /diagnostics.

Pinned: one array per second with a level for each part; a stopped camera is an error that names it; a policy that dies
is reported; a policy without a checkpoint takes the loader's artifact.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from policy_client import ACTIVATE, CLEANUP, CONFIGURE, DEACTIVATE, PARAMETERS, Robot, nothing

from sqap_vla.nodes.assessment import PARTS
from sqap_vla.nodes.node_process import NodeProcess

OK, WARN, ERROR, STALE = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR, DiagnosticStatus.STALE
NAMESPACE = "/watched"


class Watched(Robot):
    """A robot with its three nodes, and what comes on /diagnostics."""

    def __init__(self, checkpoint: Path, directory: Path, stack: ExitStack) -> None:
        super().__init__(NAMESPACE)
        stack.callback(self.close)
        self.arrays: list[DiagnosticArray] = []
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self.arrays.append, 10)
        parameters = {
            "model_loader": {"checkpoint": str(checkpoint), "artifact_dir": str(directory / "artifact")},
            "policy": {**PARAMETERS, "checkpoint": "", "manifest_timeout_s": 60.0},
            "diagnostics": {"max_latency_ms": 60000.0, "max_status_age_s": 2.0},
        }
        self.processes = {}
        for name, values in parameters.items():
            log = directory / f"{name}.log"
            self.processes[name] = NodeProcess(name, name, values, log=log, remap={"__ns": NAMESPACE})
            stack.callback(self.processes[name].stop)
        self.process = self.processes["policy"]

    def drive(self, node: str, *transitions: int) -> None:
        mine, self.policy = self.policy, node
        for number in transitions:
            request = ChangeState.Request(transition=Transition(id=number))
            assert self.call(ChangeState, "change_state", request).success, f"{node}: {number}"
        self.policy = mine

    def levels(self) -> dict[str, tuple[bytes, str]]:
        """Level and sentence of each part in the last array."""
        statuses = self.arrays[-1].status if self.arrays else []
        return {status.name.removeprefix("sqap_vla: "): (status.level, status.message) for status in statuses}

    def reports(self, part: str, level: bytes, *words: str) -> None:
        def done() -> bool:
            found = self.levels().get(part)
            return found is not None and found[0] == level and all(word in found[1] for word in words)

        self.wait(done, f"{part} at level {level!r} with {words}, not {self.levels()}")


@pytest.fixture(scope="module")
def watched(small_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    with ExitStack() as stack:
        watched = Watched(small_checkpoint, tmp_path_factory.mktemp("watched"), stack)
        watched.drive("diagnostics", CONFIGURE, ACTIVATE)
        watched.drive("model_loader", CONFIGURE, ACTIVATE)
        yield watched


@pytest.fixture
def running(watched: Watched) -> Watched:
    watched.start()
    for part in PARTS:
        watched.reports(part, OK)
    return watched


def test_a_policy_that_is_not_configured_says_so(watched: Watched):
    watched.unconfigure()
    watched.reports("policy", WARN, "not configured")
    watched.reports("model_loader", OK, "artifact is announced")


def test_the_policy_takes_the_artifact_that_the_loader_announces(running: Watched):
    model = next(status for status in running.arrays[-1].status if status.name == "sqap_vla: model")
    figures = {pair.key: pair.value for pair in model.values}
    assert figures["checkpoint"].endswith("/artifact")


def test_normal_operation_is_ok_in_every_part_once_a_second(running: Watched):
    levels = running.levels()
    assert set(PARTS) <= set(levels) and levels["model_loader"][0] == OK
    assert "154 tokens kept: ring 25" in levels["tokens"][1] and "(dry run)" in levels["commands"][1]
    stamps = [array.header.stamp.sec + array.header.stamp.nanosec / 1e9 for array in running.arrays]
    assert 0.7 < np.median(np.diff(stamps)) < 1.5
    latency = next(status for status in running.arrays[-1].status if status.name == "sqap_vla: inference")
    assert {f"total_ms_{p}" for p in ("p50", "p95", "p99")} <= {pair.key for pair in latency.values}


def test_a_stopped_camera_is_an_error_that_names_it(running: Watched):
    running.bend["image"] = nothing
    running.reports("inputs", ERROR, "image: stale")
    running.reports("commands", WARN, "stopped: chunk_too_old")
    running.bend.clear()
    running.reports("inputs", OK)
    running.reports("commands", OK)


def test_camera_info_that_stops_is_a_warning(running: Watched):
    running.bend["camera_info"] = nothing
    running.reports("inputs", WARN, "camera_info: stale")
    running.reports("commands", OK)


def test_a_bad_image_is_an_error_with_its_word(running: Watched):
    def depth(msg):
        msg.encoding = "16UC1"
        return msg

    running.bend["image"] = depth
    running.reports("inputs", ERROR, "frames refused: image_encoding")


def test_a_camera_without_transform_is_a_warning_and_the_robot_goes_on(running: Watched):
    def without_camera(msg):
        del msg.transforms[1]
        return msg

    running.bend["tf"] = without_camera
    running.reports("transforms", WARN, "camera_transform_stale")
    running.reports("tokens", WARN, "without camera geometry: no_camera_transform")
    running.reports("commands", OK)


def test_a_hand_without_transform_is_an_error(running: Watched):
    running.bend["tf"] = nothing
    running.reports("transforms", ERROR, "ee_transform_stale", "no commands")
    running.reports("commands", WARN, "stopped")


def test_an_empty_instruction_is_an_error(running: Watched):
    running.say("")
    running.reports("inputs", ERROR, "instruction_empty")
    running.say(PARAMETERS["instruction"])
    running.reports("inputs", OK)


def test_it_reports_while_active_only_and_can_be_set_up_again(watched: Watched):
    watched.drive("diagnostics", DEACTIVATE)
    count = len(watched.arrays)
    watched.more("status", 4)  # two seconds
    assert len(watched.arrays) <= count + 1, "one may have been on its way"
    watched.drive("diagnostics", CLEANUP, CONFIGURE, ACTIVATE)
    watched.wait(lambda: len(watched.arrays) > count + 1, "reports again")


def test_a_policy_that_is_killed_makes_every_part_stale(running: Watched):
    running.process = None
    running.processes["policy"]._process.kill()
    for part in PARTS:
        running.reports(part, STALE, "the policy has been silent for")
    running.reports("model_loader", OK)
