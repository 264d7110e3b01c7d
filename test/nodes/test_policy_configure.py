# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Configuring the policy with what cannot work: FAILURE with the reason in ~/status, and a second try that succeeds.

Pinned: after each refusal the same process can be configured once parameter or file is mended.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import State
from policy_client import ACTIVATE, CONFIGURE, PARAMETERS, Robot, policy_process

from sqap_vla.cogact.checkpoint import find_weights
from sqap_vla.nodes.node_process import NodeProcess


def refuses(robot: Robot, reason: str) -> None:
    assert not robot.transition(CONFIGURE)
    assert robot.state() == State.PRIMARY_STATE_UNCONFIGURED
    robot.has_status(reason, DiagnosticStatus.ERROR)


def configures(robot: Robot) -> None:
    assert robot.transition(CONFIGURE), robot.told()
    robot.has_status("configured, not active", DiagnosticStatus.WARN)


@pytest.fixture
def unconfigured(robot: Robot, small_checkpoint: Path) -> Robot:
    robot.unconfigure()
    accepted = robot.set({"checkpoint": str(small_checkpoint), "tokenizer": "", "prune_layer": 3, **PARAMETERS})
    assert all(successful for successful, _ in accepted)
    return robot


@pytest.mark.parametrize(
    "values, reason",
    [
        (
            {"unnorm_key": "bridge"},
            "unnorm_key 'bridge' is not in dataset_statistics.json; it has: "
            "bridge_orig, fractal20220817_data, tabletop",
        ),
        ({"unnorm_key": ""}, "unnorm_key is not set"),
        ({"checkpoint": "/nowhere"}, "/nowhere"),
        ({"tokenizer": "/nowhere/tokenizer.json"}, "tokenizer /nowhere/tokenizer.json does not exist"),
        ({"prune_layer": 8}, "prune_layer is 8; the decoder has 8 layers"),
        (
            {"checkpoint": "", "manifest_timeout_s": 0.1},
            "no checkpoint is set, and no manifest came on /shared/model_loader/manifest",
        ),
    ],
)
def test_a_parameter_that_cannot_work_is_told_and_can_be_mended(
    unconfigured: Robot, values: dict[str, Any], reason: str, small_checkpoint: Path
):
    assert all(successful for successful, _ in unconfigured.set(values))
    refuses(unconfigured, reason)
    unconfigured.set({**PARAMETERS, "checkpoint": str(small_checkpoint), "tokenizer": "", "prune_layer": 3})
    configures(unconfigured)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_cuda_where_there_is_none_is_told(unconfigured: Robot):
    unconfigured.set({"device": "cuda"})
    refuses(unconfigured, "device is cuda, and torch sees no GPU")
    unconfigured.set({"device": "auto"})
    configures(unconfigured)


def without_statistics(directory: Path) -> None:
    (directory / "dataset_statistics.json").unlink()


def statistics_of_another_shape(directory: Path) -> None:
    (directory / "dataset_statistics.json").write_text(json.dumps({"tabletop": {"action": {"q01": [0.0]}}}))


def truncated(directory: Path) -> None:
    os.truncate(find_weights(directory), 50_000)


def edit(change: Callable[[dict[str, dict[str, torch.Tensor]]], None]) -> Callable[[Path], None]:
    def apply(directory: Path) -> None:
        content = torch.load(find_weights(directory), weights_only=True)
        change(content["model"])
        torch.save(content, find_weights(directory))

    return apply


def rename(modules: dict[str, dict[str, torch.Tensor]]) -> None:
    modules["projector"]["projector.0.wait"] = modules["projector"].pop("projector.0.weight")


def cut(modules: dict[str, dict[str, torch.Tensor]]) -> None:
    modules["projector"]["projector.0.bias"] = modules["projector"]["projector.0.bias"][:5]


@pytest.mark.parametrize(
    "damage, reason",
    [
        (without_statistics, "dataset_statistics.json is missing"),
        (statistics_of_another_shape, "tabletop"),
        (truncated, "cannot be read as a PyTorch checkpoint"),
        (edit(rename), "missing projector.projector.0.weight"),
        (edit(cut), "wrong shapes projector.projector.0.bias [5]"),
        (shutil.rmtree, "is not a directory"),
        (lambda directory: (directory / "tokenizer.json").unlink(), "tokenizer"),
        (lambda directory: (directory / "tokenizer.json").write_text("{"), "tokenizer"),
    ],
)
def test_a_damaged_checkpoint_is_told_and_can_be_mended_in_place(
    unconfigured: Robot, small_checkpoint: Path, tmp_path: Path, damage: Callable, reason: str
):
    copy = shutil.copytree(small_checkpoint, tmp_path / "copy")
    damage(copy)
    unconfigured.set({"checkpoint": str(copy)})
    refuses(unconfigured, reason)
    shutil.copytree(small_checkpoint, copy, dirs_exist_ok=True)
    configures(unconfigured)


def test_without_limits_it_does_not_start_and_says_which(small_checkpoint: Path, tmp_path: Path):
    missing = ("limits.max_linear_m_s", "limits.max_angular_accel_rad_s2")
    parameters = {name: value for name, value in PARAMETERS.items() if name not in missing}
    robot = Robot("/unlimited")
    given = {**parameters, "checkpoint": str(small_checkpoint)}
    with policy_process(tmp_path / "log", given, remap={"__ns": "/unlimited"}) as robot.process:
        refuses(robot, f"limits not set: {', '.join(missing)}")
        assert robot.set(dict.fromkeys(missing, 0.1)) == [(True, "")] * 2
        configures(robot)
        robot.go(ACTIVATE)
        robot.more("dry_run/twist")
    robot.close()


def test_a_start_value_that_breaks_a_rule_ends_the_process_with_one_line(tmp_path: Path):
    process = NodeProcess("policy", "policy", {"rate_hz": 20}, log=tmp_path / "log", remap={"__ns": "/broken"})
    assert process._process.wait(60.0) == 1
    process.stop()
    (line,) = (tmp_path / "log").read_text().splitlines()
    assert "parameter rate_hz has the wrong type" in line and "write 5.0, not 5" in line and "[FATAL]" in line
