# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The loader as a process of its own, driven by the lifecycle services as a launch file or an operator drives it.

Pinned: the manifest reaches a late joiner and only while active; each unusable input gives its reason in the answer, the log
and ~/status, and no manifest; a reload announces the new content or keeps the old; signals end it with status 0.
"""
from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

rclpy = pytest.importorskip("rclpy", reason="needs ROS 2")

from diagnostic_msgs.msg import DiagnosticStatus  # noqa: E402
from lifecycle_msgs.msg import State, Transition  # noqa: E402
from lifecycle_msgs.srv import ChangeState, GetState  # noqa: E402
from rcl_interfaces.srv import DescribeParameters, SetParameters  # noqa: E402
from rclpy.context import Context  # noqa: E402
from rclpy.lifecycle import TransitionCallbackReturn  # noqa: E402
from rclpy.node import Node  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from std_msgs.msg import String  # noqa: E402
from std_srvs.srv import Trigger  # noqa: E402

from sqap_vla.cogact.checkpoint import find_weights, fingerprint  # noqa: E402
from sqap_vla.cogact.config import CogActConfig, DecoderConfig, HeadConfig, VisionTowerConfig  # noqa: E402
from sqap_vla.cogact.random_checkpoint import write_random_checkpoint  # noqa: E402
from sqap_vla.nodes import model_loader, qos  # noqa: E402
from sqap_vla.nodes.spinning import spin_until  # noqa: E402
from sqap_vla.quantization.artifact import load_artifact, write_artifact  # noqa: E402
from sqap_vla.quantization.lock import directory_lock  # noqa: E402

TIMEOUT_S = 30.0
CONFIG = CogActConfig(
    dino=VisionTowerConfig(embed_dim=32, depth=2, num_heads=2, mlp_hidden=48, register_tokens=4, class_token=True, layer_scale=True),
    siglip=VisionTowerConfig(embed_dim=32, depth=2, num_heads=2, mlp_hidden=37),
    decoder=DecoderConfig(vocab_size=192, hidden_size=32, intermediate_size=48, num_layers=2, num_heads=2, num_kv_heads=2),
    head=HeadConfig(depth=1, hidden_size=32, num_heads=2, token_size=32))
UNSET = {"checkpoint": "", "tokenizer": "", "artifact_dir": "", "dtype": "float32", "unnorm_key": ""}


@pytest.fixture(scope="module")
def helper() -> Iterator[Node]:
    context = Context()
    rclpy.init(context=context, domain_id=int(os.environ["ROS_DOMAIN_ID"]))
    node = Node("helper", context=context)
    yield node
    node.destroy_node()
    rclpy.shutdown(context=context)


class Loader:
    """A loader process, seen from outside."""

    def __init__(self, helper: Node, log: Path, name: str, cache: Path, *arguments: str) -> None:
        self.helper, self.name, self._log_path = helper, name, log
        self.status: list[DiagnosticStatus] = []
        helper.create_subscription(DiagnosticStatus, f"{name}/status", self.status.append, qos.latched())
        command = [sys.executable, "-m", "sqap_vla.nodes.model_loader", "--ros-args", "-r", f"__node:={name}", *arguments]
        with log.open("wb") as file:
            self.process = subprocess.Popen(command, stdout=file, stderr=file, env={**os.environ, "XDG_CACHE_HOME": str(cache)})

    def log(self) -> str:
        return self._log_path.read_text()

    def wait(self, done: Callable[[], bool]) -> None:
        assert spin_until(self.helper, lambda: done() or self.process.poll() is not None, TIMEOUT_S) and done(), self.log()

    def call(self, kind: type, service: str, request: Any) -> Any:
        client = self.helper.create_client(kind, f"{self.name}/{service}")
        self.wait(client.service_is_ready)
        future = client.call_async(request)
        self.wait(future.done)
        self.helper.destroy_client(client)
        return future.result()

    def set(self, **values: Any) -> list[Any]:
        parameters = [Parameter(name, value=value).to_parameter_msg() for name, value in values.items()]
        return self.call(SetParameters, "set_parameters", SetParameters.Request(parameters=parameters)).results

    def transition(self, number: int) -> bool:
        return self.call(ChangeState, "change_state", ChangeState.Request(transition=Transition(id=number))).success

    def state(self) -> int:
        return self.call(GetState, "get_state", GetState.Request()).current_state.id

    def reload(self) -> Trigger.Response:
        return self.call(Trigger, "reload", Trigger.Request())

    def has_status(self, level: bytes, text: str) -> None:
        self.wait(lambda: bool(self.status) and self.status[-1].level == level and text in self.status[-1].message)

    def late_joiner(self) -> list[dict[str, Any]]:
        """What somebody who subscribes now hears of the manifest; grows while the test spins."""
        heard: list[dict[str, Any]] = []
        self.helper.create_subscription(String, f"{self.name}/manifest", lambda msg: heard.append(json.loads(msg.data)), qos.latched())
        return heard

    def manifest_publishers(self) -> int:
        return self.helper.count_publishers(f"/{self.name}/manifest")

    def end(self, *signals: int) -> int:
        for number in signals:
            self.process.send_signal(number)
        try:
            return self.process.wait(TIMEOUT_S)
        finally:
            self.process.kill()


@pytest.fixture(scope="module")
def shared(helper: Node, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loader]:
    """One process for all tests that leave it alive. Simulated time without a clock: it must not depend on it."""
    directory = tmp_path_factory.mktemp("shared")
    loader = Loader(helper, directory / "log", "model_loader", directory / "cache", "-p", "use_sim_time:=true")
    yield loader
    assert loader.end(signal.SIGINT) == 0, loader.log()


@pytest.fixture
def loader(shared: Loader) -> Loader:
    """The shared process, unconfigured, with no parameter set."""
    for number in {State.PRIMARY_STATE_ACTIVE: (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP),
                   State.PRIMARY_STATE_INACTIVE: (Transition.TRANSITION_CLEANUP,)}.get(shared.state(), ()):
        assert shared.transition(number)
    assert all(result.successful for result in shared.set(**UNSET))
    return shared


@pytest.fixture(scope="module")
def start(helper: Node, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Loader]]:
    """Starts a process of the test's own."""
    started: list[Loader] = []

    def start_one(*arguments: str) -> Loader:
        directory = tmp_path_factory.mktemp("own")
        started.append(Loader(helper, directory / "log", f"loader_{len(started)}", directory / "cache", *arguments))
        return started[-1]

    yield start_one
    for loader in started:
        loader.process.kill()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_checkpoint(tmp_path_factory.mktemp("checkpoint") / "first", CONFIG, seed=1)


def configure_and_activate(loader: Loader) -> None:
    for number in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
        assert loader.transition(number), loader.log()


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


@pytest.mark.parametrize("damage, parameters, reason", [
    (truncate, {}, "cannot be read as a PyTorch checkpoint"),
    (edit_tensors(rename_a_key), {}, "missing llm_backbone.llm.model.norm.weight"),
    (edit_tensors(cut_a_tensor), {}, "wrong shapes llm_backbone.llm.model.norm.weight [5] instead of [32]"),
    (lambda directory: (directory / "dataset_statistics.json").unlink(), {}, "dataset_statistics.json is missing"),
    (lambda directory: None, {"unnorm_key": "bridge"},
     "unnorm_key 'bridge' is not in dataset_statistics.json; it has: bridge_orig, fractal20220817_data, tabletop"),
    (lambda directory: None, {"tokenizer": "/nowhere/tokenizer.json"}, "tokenizer /nowhere/tokenizer.json does not exist"),
    (lambda directory: None, {"artifact_dir": "/sys/sqap_vla"}, "cannot write the artifact to /sys/sqap_vla"),
    (shutil.rmtree, {}, "is missing"),
    (lambda directory: None, {"checkpoint": ""}, "parameter checkpoint is empty"),
])
def test_what_is_unusable_gives_its_reason_and_no_manifest(loader: Loader, checkpoint: Path, tmp_path: Path,
                                                           damage: Callable[[Path], None], parameters: dict[str, str], reason: str):
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
    described = loader.call(DescribeParameters, "describe_parameters", DescribeParameters.Request(names=names)).descriptors
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
    write_artifact(checkpoint, tmp_path / "artifact", torch.bfloat16)
    loader.set(checkpoint=str(tmp_path / "artifact"), dtype="auto")
    configure_and_activate(loader)
    heard = loader.late_joiner()
    loader.wait(lambda: bool(heard))
    assert heard[0]["artifact_dir"] == str(tmp_path / "artifact")


# The end

def test_one_and_two_interrupts_and_a_termination_end_it_with_status_0(start: Callable[..., Loader], checkpoint: Path):
    idle, active, ended = start(), start("-p", f"checkpoint:={checkpoint}"), start()
    configure_and_activate(active)
    for loader in (idle, ended):
        assert loader.state() == State.PRIMARY_STATE_UNCONFIGURED
    for loader, signals in ((idle, [signal.SIGINT]), (active, [signal.SIGINT, signal.SIGINT]), (ended, [signal.SIGTERM])):
        assert loader.end(*signals) == 0, loader.log()
        assert "Traceback" not in loader.log()


def test_a_signal_ends_a_preparation_that_is_under_way(start: Callable[..., Loader], checkpoint: Path, tmp_path: Path):
    """Minutes for a large checkpoint; here it waits for another writer, which is us."""
    artifact = tmp_path / "artifact"
    artifact.mkdir()
    loader = start("-p", f"checkpoint:={checkpoint}", "-p", f"artifact_dir:={artifact}")
    client = loader.helper.create_client(ChangeState, f"{loader.name}/change_state")
    loader.wait(client.service_is_ready)
    with directory_lock(artifact, 0.0, lambda: None):
        client.call_async(ChangeState.Request(transition=Transition(id=Transition.TRANSITION_CONFIGURE)))
        loader.has_status(DiagnosticStatus.WARN, "waiting for another process")
        assert loader.end(signal.SIGTERM) == 0, loader.log()
    assert "Traceback" not in loader.log() and "asked to end" in loader.log()
    assert [path.name for path in artifact.iterdir()] == [".lock"]


def test_a_parameter_of_the_wrong_type_ends_the_start_with_its_reason(start: Callable[..., Loader]):
    loader = start("-p", "dtype:=4")
    assert loader.process.wait(TIMEOUT_S) == 1
    assert "parameter dtype has the wrong type" in loader.log() and "Traceback" not in loader.log()


def test_an_unforeseen_exception_is_logged_and_leaves_the_node_unconfigured(monkeypatch, checkpoint: Path):
    """rclpy would drop it without a word."""
    def broken(*arguments: Any, **options: Any) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(model_loader, "prepare_artifact", broken)
    context = Context()
    rclpy.init(context=context, domain_id=int(os.environ["ROS_DOMAIN_ID"]))
    try:
        node = model_loader.ModelLoaderNode(context=context, parameter_overrides=[Parameter("checkpoint", value=str(checkpoint))])
        assert node.trigger_configure() == TransitionCallbackReturn.ERROR
        assert node._state_machine.current_state[1] == "unconfigured"
        assert node.transition_error == "ZeroDivisionError: a bug"
        node.destroy_node()
    finally:
        rclpy.shutdown(context=context)
