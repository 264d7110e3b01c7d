# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Configuring: what fails late leaves nothing behind, and a signal ends a long load.

Pinned: a configure that failed after its first publisher left it, a thread and a timer; SIGINT waited for the end of
the load, and launch killed the process before.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

import rclpy
from policy_rig import PARAMETERS, Network
from rclpy.context import Context
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter

from sqap_vla.nodes import lifecycle, policy_pipeline
from sqap_vla.nodes import policy as policy_module
from sqap_vla.nodes.policy import PolicyNode


@pytest.fixture
def policy(monkeypatch: pytest.MonkeyPatch) -> Iterator[PolicyNode]:
    monkeypatch.setattr(policy_module, "load_engine", lambda params: Network())
    context = Context()
    rclpy.init(context=context, domain_id=int(os.environ["ROS_DOMAIN_ID"]))
    overrides = [Parameter(name, value=value) for name, value in PARAMETERS.items()]
    node = PolicyNode(context=context, parameter_overrides=overrides, namespace="/transitions")
    yield node
    node.close()
    node.destroy_node()
    rclpy.shutdown(context=context)


def belongings(node: PolicyNode) -> tuple[int, ...]:
    """Publishers, managed ones, subscriptions, timers, and threads of inference."""
    threads = [thread for thread in threading.enumerate() if thread.name == "inference"]
    kinds = (node.publishers, node._managed_entities, node.subscriptions, node.timers, threads)
    return tuple(len(list(kind)) for kind in kinds)


@pytest.mark.parametrize("part", ["ChunkOutput", "PolicyInputs", "InferenceWorker"])
@pytest.mark.parametrize("error, result", [(ValueError, "FAILURE"), (RuntimeError, "ERROR")])
def test_a_configure_that_fails_late_leaves_nothing_behind(
    policy: PolicyNode, monkeypatch: pytest.MonkeyPatch, part: str, error: type[Exception], result: str
):
    def fail(*args: object) -> None:
        raise error("late")

    before = belongings(policy)
    with monkeypatch.context() as broken:
        broken.setattr(policy_pipeline, part, fail)
        assert policy.trigger_configure() == getattr(TransitionCallbackReturn, result)
    assert belongings(policy) == before
    assert "late" in policy.transition_error
    assert policy.trigger_configure() == TransitionCallbackReturn.SUCCESS
    assert policy.trigger_cleanup() == TransitionCallbackReturn.SUCCESS
    assert belongings(policy) == before


@pytest.fixture
def signals(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The node's handlers of signals, for this test only."""
    monkeypatch.setattr(lifecycle, "_signals", lifecycle._Signals())
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    lifecycle.handle_signals()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_long_load_at_once(
    policy: PolicyNode, monkeypatch: pytest.MonkeyPatch, signals: None, number: int
):
    def long_load(params: object) -> None:
        threading.Timer(0.05, os.kill, (os.getpid(), number)).start()
        for _ in range(1000):  # tensor by tensor; libraries that are called do catch Exception
            try:
                time.sleep(0.02)
            except Exception:  # noqa: BLE001
                raise AssertionError("a library swallowed the signal") from None

    monkeypatch.setattr(policy_module, "load_engine", long_load)
    before, start_s = belongings(policy), time.monotonic()
    assert policy.trigger_configure() == TransitionCallbackReturn.FAILURE
    assert time.monotonic() - start_s < 5.0
    assert lifecycle.stop_requested() and belongings(policy) == before
    assert policy.trigger_configure() == TransitionCallbackReturn.FAILURE, "a load is not begun any more"
