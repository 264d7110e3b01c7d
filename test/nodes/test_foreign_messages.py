# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""What others may send or run under a known name: it is told, and neither ends a node nor moves a robot."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

import rclpy
from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
from lifecycle_msgs.msg import State
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import LifecycleState
from rclpy.node import Node
from rclpy.parameter import Parameter

from sqap_vla.nodes import model_loading
from sqap_vla.nodes.diagnostics import DiagnosticsNode
from sqap_vla.nodes.model_loading import announced_artifact
from sqap_vla.nodes.parameters import declare
from sqap_vla.nodes.policy_parameters import PolicyParameters
from sqap_vla.nodes.replay_policy import check_running_policy

UNCONFIGURED = LifecycleState(state_id=State.PRIMARY_STATE_UNCONFIGURED, label="unconfigured")


@pytest.fixture
def context() -> Iterator[Context]:
    context = Context()
    rclpy.init(context=context, domain_id=int(os.environ["ROS_DOMAIN_ID"]))
    yield context
    rclpy.shutdown(context=context)


@pytest.mark.parametrize("values", [{"input/image_arrival_age_s": "soon"}, {"tokens/kept": "154"}])
def test_a_status_that_cannot_be_read_makes_every_part_stale(context: Context, values: dict[str, str]):
    node = DiagnosticsNode(context=context, namespace="/foreign_messages")
    node.on_configure(UNCONFIGURED)
    pairs = [KeyValue(key=key, value=value) for key, value in values.items()]
    node._on_policy(DiagnosticStatus(level=DiagnosticStatus.OK, message="active", values=pairs))
    statuses = node._statuses()
    assert statuses and all(status.level == DiagnosticStatus.STALE for status in statuses)
    assert "cannot be read" in statuses[0].message
    node.destroy_node()


def test_waiting_for_a_manifest_ends_when_the_process_is_to_end(context: Context, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(model_loading, "stop_requested", lambda: True)
    node = Node("waiting", context=context, namespace="/foreign_messages")
    with pytest.raises(ValueError, match="asked to end"):
        announced_artifact(node, "nobody/manifest", timeout_s=600.0)
    node.destroy_node()


@pytest.mark.parametrize(("different", "says"), [({}, ""), ({"dry_run": False}, "dry_run is False there"),
                                                 ({"seed": 7}, "seed is 7 there")])  # fmt: skip
def test_a_running_policy_is_fed_a_recording_only_if_it_moves_nothing(context: Context, different: dict, says: str):
    params = replace(PolicyParameters(), unnorm_key="bridge_orig", dry_run=True)
    values = {"unnorm_key": "bridge_orig", "dry_run": True} | different
    overrides = [Parameter(name, value=value) for name, value in values.items()]
    policy = Node("policy", context=context, namespace="/foreign_messages", parameter_overrides=overrides)
    declare(policy, PolicyParameters)
    policy.set_parameters([Parameter("use_sim_time", value=True)])
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(policy)
    ended = threading.Event()
    thread = threading.Thread(target=lambda: [executor.spin_once(0.05) for _ in iter(ended.is_set, True)])
    thread.start()
    player = Node("replay", context=context, namespace="/foreign_messages")
    try:
        if says:
            with pytest.raises(ValueError, match=says):
                check_running_policy(player, params)
        else:
            check_running_policy(player, params)
    finally:
        ended.set()
        thread.join()
        player.destroy_node()
        policy.destroy_node()
