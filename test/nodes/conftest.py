# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""One policy process for all tests that leave it alive: to start one takes seconds, to configure it again one."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from policy_client import Robot

if importlib.util.find_spec("rclpy") is None:
    collect_ignore_glob = ["test_policy_*.py", "test_diagnostics_*.py", "test_replay_*.py"]


@pytest.fixture(scope="session")
def small_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights in the official layout, with tokenizer; eight decoder layers."""
    from sqap_vla.cogact.random_checkpoint import write_random_checkpoint

    return write_random_checkpoint(tmp_path_factory.mktemp("checkpoint") / "small", seed=1)


@pytest.fixture(scope="session")
def shared_robot(small_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Robot]:
    """A robot and its policy in a namespace of their own, so that other tests' nodes do not meet them."""
    from policy_client import PARAMETERS, Robot, policy_process

    log = tmp_path_factory.mktemp("policy") / "log"
    robot = Robot("/shared")
    parameters = {**PARAMETERS, "checkpoint": str(small_checkpoint)}
    with policy_process(log, parameters, remap={"__ns": "/shared"}) as robot.process:
        robot.more("status")
        yield robot
    robot.close()


@pytest.fixture
def robot(shared_robot: Robot) -> Iterator[Robot]:
    """The robot with good inputs; what its policy runs with is up to the test (`start`)."""
    shared_robot.bend.clear()
    yield shared_robot
    shared_robot.listen_no_more()
