# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""What the policy tells about its inputs: who publishes, who cannot be heard, how old the transforms are."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

import rclpy
import tf2_ros
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import TransformStamped
from rclpy.context import Context
from rclpy.node import Node
from std_msgs.msg import String

from sqap_vla.nodes import qos
from sqap_vla.nodes.assessment import Thresholds, assess
from sqap_vla.nodes.conversions import stamp_msg
from sqap_vla.nodes.input_monitor import InputMonitor
from sqap_vla.nodes.policy_status import input_figures, transform_figures
from sqap_vla.nodes.spinning import spin_until

SECOND = 1_000_000_000


@pytest.fixture
def node() -> Iterator[Node]:
    context = Context()
    rclpy.init(context=context, domain_id=int(os.environ["ROS_DOMAIN_ID"]))
    node = Node("figures", context=context, namespace="/input_figures")
    yield node
    node.destroy_node()
    rclpy.shutdown(context=context)


def test_a_publisher_that_cannot_be_heard_is_counted_and_judged(node: Node):
    subscription = node.create_subscription(String, "instruction", lambda msg: None, qos.command())
    figures: dict[str, str] = {}

    def publishers(count: str) -> bool:
        figures.update(input_figures(node, {"instruction": InputMonitor()}, {"instruction": subscription}))
        return figures["input/instruction_publishers"] == count

    node.create_publisher(String, "instruction", qos.latched())
    assert spin_until(node, lambda: publishers("1"), 10.0), figures
    assert figures["input/instruction_incompatible_qos"] == "0"
    node.create_publisher(String, "instruction", qos.sensor("best_effort"))
    assert spin_until(node, lambda: publishers("2"), 10.0), figures
    assert figures["input/instruction_incompatible_qos"] == "1"

    fresh = {"input/image_arrival_age_s": "0.0", "input/camera_info_arrival_age_s": "0.0"}
    (inputs, *_) = assess(figures | fresh, Thresholds(max_input_age_s=1.0, max_latency_ms=100.0, max_rss_mb=1000.0))
    assert inputs.level == DiagnosticStatus.WARN
    assert "instruction: publisher with incompatible QoS" in inputs.message


def test_the_age_of_each_known_transform_is_told():
    buffer = tf2_ros.Buffer()
    msg = TransformStamped(child_frame_id="tcp")
    msg.header.frame_id, msg.header.stamp, msg.transform.rotation.w = "base", stamp_msg(100 * SECOND), 1.0
    buffer.set_transform(msg, "test")
    targets = {"ee": "base", "camera": "camera"}
    assert transform_figures(buffer, targets, "tcp", 102 * SECOND) == {"tf/ee_age_s": "2.000"}
    assert transform_figures(buffer, {"camera": ""}, "tcp", 102 * SECOND) == {}, "no frame is known yet"
