# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""How the loader's process starts and ends: signals at any time end it with status 0, errors are told."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

rclpy = pytest.importorskip("rclpy", reason="needs ROS 2")

from diagnostic_msgs.msg import DiagnosticStatus  # noqa: E402
from lifecycle_msgs.msg import State, Transition  # noqa: E402
from lifecycle_msgs.srv import ChangeState  # noqa: E402
from loader_process import CONFIG, TIMEOUT_S, Loader, configure_and_activate, helper_node  # noqa: E402
from rclpy.context import Context  # noqa: E402
from rclpy.lifecycle import TransitionCallbackReturn  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402

from sqap_vla.cogact.random_checkpoint import write_random_checkpoint  # noqa: E402
from sqap_vla.nodes import model_loader  # noqa: E402
from sqap_vla.quantization.lock import directory_lock  # noqa: E402


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Loader]]:
    """Starts a process of the test's own."""
    started: list[Loader] = []

    def start_one(*arguments: str) -> Loader:
        directory = tmp_path_factory.mktemp("own")
        started.append(Loader(helper, directory / "log", f"loader_{len(started)}", directory / "cache", *arguments))
        return started[-1]

    with helper_node() as helper:
        yield start_one
        for loader in started:
            loader.process.kill()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_checkpoint(tmp_path_factory.mktemp("checkpoint") / "first", CONFIG, seed=1)


def test_one_and_two_interrupts_and_a_termination_end_it_with_status_0(start: Callable[..., Loader], checkpoint: Path):
    idle, active, ended = start(), start("-p", f"checkpoint:={checkpoint}"), start()
    configure_and_activate(active)
    for loader in (idle, ended):
        assert loader.state() == State.PRIMARY_STATE_UNCONFIGURED
    for loader, signals in (
        (idle, [signal.SIGINT]),
        (active, [signal.SIGINT, signal.SIGINT]),
        (ended, [signal.SIGTERM]),
    ):
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
        node = model_loader.ModelLoaderNode(
            context=context, parameter_overrides=[Parameter("checkpoint", value=str(checkpoint))]
        )
        assert node.trigger_configure() == TransitionCallbackReturn.ERROR
        assert node._state_machine.current_state[1] == "unconfigured"
        assert node.transition_error == "ZeroDivisionError: a bug"
        node.destroy_node()
    finally:
        rclpy.shutdown(context=context)
