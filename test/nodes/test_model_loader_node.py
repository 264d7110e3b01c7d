# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The loader as a process of its own, driven by the lifecycle services as launch or an operator drives it.

Pinned: the manifest reaches a late joiner and only while active; each unusable input gives its reason in the
answer, the log and ~/status, and no manifest; a reload announces the new content or keeps the old.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

rclpy = pytest.importorskip("rclpy", reason="needs ROS 2")

from diagnostic_msgs.msg import DiagnosticStatus  # noqa: E402
from lifecycle_msgs.msg import State, Transition  # noqa: E402
from loader_process import CONFIG, Loader, configure_and_activate, helper_node  # noqa: E402
from rcl_interfaces.srv import DescribeParameters  # noqa: E402
from rclpy.node import Node  # noqa: E402

from sqap_vla.cogact.checkpoint import find_weights, fingerprint  # noqa: E402
from sqap_vla.cogact.random_checkpoint import write_random_checkpoint  # noqa: E402
from sqap_vla.quantization.artifact import load_artifact, write_artifact  # noqa: E402
from sqap_vla.quantization.order import Recipe  # noqa: E402

UNSET = {"checkpoint": "", "tokenizer": "", "artifact_dir": "", "dtype": "float32", "unnorm_key": ""}


@pytest.fixture(scope="module")
def helper() -> Iterator[Node]:
    with helper_node() as node:
        yield node


@pytest.fixture(scope="module")
def shared(helper: Node, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loader]:
    """One process for all tests that leave it alive. Simulated time without a clock: it needs none."""
    directory = tmp_path_factory.mktemp("shared")
    loader = Loader(helper, directory / "log", "model_loader", directory / "cache", "-p", "use_sim_time:=true")
    yield loader
    assert loader.end(signal.SIGINT) == 0, loader.log()


@pytest.fixture
def loader(shared: Loader) -> Loader:
    """The shared process, unconfigured, with no parameter set."""
    for number in {
        State.PRIMARY_STATE_ACTIVE: (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP),
        State.PRIMARY_STATE_INACTIVE: (Transition.TRANSITION_CLEANUP,),
    }.get(shared.state(), ()):
        assert shared.transition(number)
    assert all(result.successful for result in shared.set(**UNSET))
    return shared


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_checkpoint(tmp_path_factory.mktemp("checkpoint") / "first", CONFIG, seed=1)


def test_a_late_joiner_gets_the_manifest_and_can_load_what_it_names(loader: Loader, checkpoint: Path):
    loader.set(checkpoint=str(checkpoint), unnorm_key="bridge_orig", dtype="bfloat16")
    configure_and_activate(loader)
    heard = loader.late_joiner()
    loader.wait(lambda: bool(heard))
    assert heard[0]["source"]["fingerprint"] == fingerprint(checkpoint)
    assert heard[0]["dtype"] == "bfloat16" and "bridge_orig" in heard[0]["unnorm_keys"]
    assert load_artifact(heard[0]["artifact_dir"]).model.dtype == torch.bfloat16
    loader.has_status(DiagnosticStatus.OK, "artifact is announced")
    values = {pair.key: pair.value for pair in loader.status[-1].values}
    assert values["artifact_dir"] == heard[0]["artifact_dir"] and values["announced"] == "true"


def test_the_manifest_exists_only_while_the_node_is_active(loader: Loader, checkpoint: Path):
    loader.set(checkpoint=str(checkpoint))
    assert loader.transition(Transition.TRANSITION_CONFIGURE)
    assert loader.manifest_publishers() == 0
    loader.has_status(DiagnosticStatus.WARN, "ready, not announced")
    assert loader.transition(Transition.TRANSITION_ACTIVATE)
    loader.wait(lambda: loader.manifest_publishers() == 1)
    assert loader.transition(Transition.TRANSITION_DEACTIVATE)
    loader.wait(lambda: loader.manifest_publishers() == 0)
    assert loader.transition(Transition.TRANSITION_ACTIVATE), "pause and resume"
    loader.wait(lambda: loader.manifest_publishers() == 1)


def test_the_status_beats_without_a_clock(loader: Loader):
    loader.has_status(DiagnosticStatus.WARN, "not configured")
    count = len(loader.status)
    loader.wait(lambda: len(loader.status) >= count + 2)


# Unusable input


def truncate(directory: Path) -> None:
    os.truncate(find_weights(directory), 50_000)


def edit_tensors(edit: Callable[[dict[str, dict[str, torch.Tensor]]], None]) -> Callable[[Path], None]:
    def apply(directory: Path) -> None:
        content = torch.load(find_weights(directory), weights_only=True)
        edit(content["model"])
        torch.save(content, find_weights(directory))

    return apply


def rename_a_key(modules: dict[str, dict[str, torch.Tensor]]) -> None:
    modules["llm_backbone"]["llm.model.norm.wait"] = modules["llm_backbone"].pop("llm.model.norm.weight")


def cut_a_tensor(modules: dict[str, dict[str, torch.Tensor]]) -> None:
    modules["llm_backbone"]["llm.model.norm.weight"] = modules["llm_backbone"]["llm.model.norm.weight"][:5]


@pytest.mark.parametrize(
    "damage, parameters, reason",
    [
        (truncate, {}, "cannot be read as a PyTorch checkpoint"),
        (edit_tensors(rename_a_key), {}, "missing llm_backbone.llm.model.norm.weight"),
        (
            edit_tensors(cut_a_tensor),
            {},
            "wrong shapes llm_backbone.llm.model.norm.weight [5] instead of [32]",
        ),
        (
            lambda directory: (directory / "dataset_statistics.json").unlink(),
            {},
            "dataset_statistics.json is missing",
        ),
        (
            lambda directory: None,
            {"unnorm_key": "bridge"},
            "unnorm_key 'bridge' is not in dataset_statistics.json; "
            "it has: bridge_orig, fractal20220817_data, tabletop",
        ),
        (
            lambda directory: None,
            {"tokenizer": "/nowhere/tokenizer.json"},
            "tokenizer /nowhere/tokenizer.json does not exist",
        ),
        (
            lambda directory: None,
            {"artifact_dir": "/sys/sqap_vla"},
            "cannot write the artifact to /sys/sqap_vla",
        ),
        (shutil.rmtree, {}, "is not a directory"),
        (lambda directory: None, {"checkpoint": ""}, "parameter checkpoint is empty"),
    ],
)
def test_what_is_unusable_gives_its_reason_and_no_manifest(
    loader: Loader,
    checkpoint: Path,
    tmp_path: Path,
    damage: Callable[[Path], None],
    parameters: dict[str, str],
    reason: str,
):
    copy = shutil.copytree(checkpoint, tmp_path / "copy")
    damage(copy)
    loader.set(**{"checkpoint": str(copy), **parameters})
    assert not loader.transition(Transition.TRANSITION_CONFIGURE)
    assert loader.state() == State.PRIMARY_STATE_UNCONFIGURED
    loader.has_status(DiagnosticStatus.ERROR, reason)
    errors = [line for line in loader.log().splitlines() if "[ERROR]" in line]
    assert reason in errors[-1]
    assert loader.manifest_publishers() == 0
    loader.set(**{**UNSET, "checkpoint": str(checkpoint)})
    assert loader.transition(Transition.TRANSITION_CONFIGURE), "mended, it can be configured"


def test_a_transition_that_the_state_does_not_have_is_refused(loader: Loader):
    """In rclpy it raises out of the executor and ends the process."""
    assert not loader.transition(Transition.TRANSITION_ACTIVATE)
    assert not loader.transition(99)
    assert loader.state() == State.PRIMARY_STATE_UNCONFIGURED


def test_parameters_are_described_and_their_rules_kept(loader: Loader):
    names = [name for name in UNSET]
    described = loader.call(
        DescribeParameters, "describe_parameters", DescribeParameters.Request(names=names)
    ).descriptors
    assert all(descriptor.description for descriptor in described)
    (result,) = loader.set(dtype="int4")
    assert not result.successful and "must be one of: auto, float32, bfloat16" in result.reason


# Reload


def test_a_reload_announces_what_the_checkpoint_has_become(loader: Loader, checkpoint: Path, tmp_path: Path):
    changing = shutil.copytree(checkpoint, tmp_path / "changing")
    loader.set(checkpoint=str(changing), artifact_dir=str(tmp_path / "artifact"))
    configure_and_activate(loader)
    heard = loader.late_joiner()
    loader.wait(lambda: len(heard) == 1)
    write_random_checkpoint(changing, CONFIG, seed=5)
    response = loader.reload()
    assert response.success and fingerprint(changing) in response.message
    loader.wait(lambda: len(heard) == 2)
    first, second = (message["source"]["fingerprint"] for message in heard)
    assert first == fingerprint(checkpoint) != second == fingerprint(changing)


def test_a_reload_that_fails_keeps_what_is_announced(loader: Loader, checkpoint: Path, tmp_path: Path):
    copy = shutil.copytree(checkpoint, tmp_path / "copy")
    loader.set(checkpoint=str(copy))
    configure_and_activate(loader)
    truncate(copy)
    response = loader.reload()
    assert not response.success and "cannot be read as a PyTorch checkpoint" in response.message
    loader.has_status(DiagnosticStatus.WARN, "reload failed")
    heard = loader.late_joiner()
    loader.wait(lambda: bool(heard))
    assert heard[0]["source"]["fingerprint"] == fingerprint(checkpoint)
    assert loader.state() == State.PRIMARY_STATE_ACTIVE


def test_a_reload_needs_a_configured_node(loader: Loader):
    response = loader.reload()
    assert not response.success and response.message == "the node is not configured; configure it first"


def test_an_artifact_is_announced_as_it_is(loader: Loader, checkpoint: Path, tmp_path: Path):
    write_artifact(checkpoint, tmp_path / "artifact", Recipe(torch.bfloat16))
    loader.set(checkpoint=str(tmp_path / "artifact"), dtype="auto")
    configure_and_activate(loader)
    heard = loader.late_joiner()
    loader.wait(lambda: bool(heard))
    assert heard[0]["artifact_dir"] == str(tmp_path / "artifact")
