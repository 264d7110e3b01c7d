# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Whoever says the instruction, and however, is heard: latched before the policy was there, or just once by hand."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

import rclpy
from policy_rig import Network
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile
from std_msgs.msg import String

from sqap_vla.nodes import policy as policy_module
from sqap_vla.nodes import qos
from sqap_vla.nodes.policy import PolicyNode

PARAMETERS = {"checkpoint": "any", "unnorm_key": "any", "instruction": "at first", "limits.max_linear_m_s": 1.0,
              "limits.max_angular_rad_s": 1.0, "limits.max_linear_accel_m_s2": 1.0,
              "limits.max_angular_accel_rad_s2": 1.0, "limits.workspace_min_m": [-1.0] * 3,
              "limits.workspace_max_m": [1.0] * 3}  # fmt: skip


@pytest.fixture
def policy(monkeypatch: pytest.MonkeyPatch) -> Iterator[PolicyNode]:
    monkeypatch.setattr(policy_module, "load_engine", lambda params: Network())
    context = Context()
    rclpy.init(context=context, domain_id=int(os.environ["ROS_DOMAIN_ID"]))
    overrides = [Parameter(name, value=value) for name, value in PARAMETERS.items()]
    node = PolicyNode(context=context, parameter_overrides=overrides, namespace="/instruction_topic")
    yield node
    node.close()
    node.destroy_node()
    rclpy.shutdown(context=context)


@pytest.fixture
def until(policy: PolicyNode) -> Iterator[Callable[[Callable[[], bool]], None]]:
    executor = SingleThreadedExecutor(context=policy.context)
    executor.add_node(policy)

    def until(done: Callable[[], bool]) -> None:
        for _ in range(1000):
            if done():
                return
            executor.spin_once(timeout_sec=0.02)
        raise AssertionError(policy.get_parameter("instruction").value)

    yield until
    executor.remove_node(policy)
    executor.shutdown()


def said(policy: PolicyNode, text: str) -> Callable[[], bool]:
    return lambda: policy.get_parameter("instruction").value == text == policy._pipeline._builder.instruction


def test_a_latched_instruction_of_before_is_heard(policy: PolicyNode, until: Callable):
    publisher = policy.create_publisher(String, "instruction", qos.latched())
    publisher.publish(String(data="said before"))
    policy.trigger_configure()
    until(said(policy, "said before"))


def test_a_publisher_that_is_not_latched_is_heard(policy: PolicyNode, until: Callable):
    policy.trigger_configure()
    publisher = policy.create_publisher(String, "instruction", QoSProfile(depth=10))  # as `ros2 topic pub` has it
    until(lambda: publisher.get_subscription_count() == 1)
    publisher.publish(String(data="said by hand"))
    until(said(policy, "said by hand"))


def test_the_parameter_takes_back_what_the_topic_said(policy: PolicyNode, until: Callable):
    policy.trigger_configure()
    publisher = policy.create_publisher(String, "instruction", qos.latched())
    until(lambda: publisher.get_subscription_count() == 2)
    publisher.publish(String(data="another"))
    until(said(policy, "another"))
    assert policy.set_parameters([Parameter("instruction", value="at first")])[0].successful
    assert said(policy, "at first")()
