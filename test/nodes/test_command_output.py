# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Commands as messages: their fields, the repeated stop, the silence after it, the dry run's topics."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

from geometry_msgs.msg import PoseStamped, TwistStamped
from rclpy.duration import Duration
from rclpy.time import Time

from sqap_vla.nodes.command_output import STOP_REPEATS, CommandOutput
from sqap_vla.nodes.policy_parameters import PolicyParameters
from sqap_vla.runtime.command import Command

LIVE = PolicyParameters(dry_run=False)


class Publisher:
    def __init__(self) -> None:
        self.sent: list[Any] = []

    def publish(self, msg: Any) -> None:
        self.sent.append(msg)

    def wait_for_all_acked(self, timeout: Duration) -> bool:
        self.sent.append("acknowledged")
        return True


class Node:
    """What CommandOutput asks of a lifecycle node."""

    def __init__(self) -> None:
        self.publishers: dict[str, Publisher] = {}
        self.now_ns = 5_000_000_007

    def create_lifecycle_publisher(self, kind: type, topic: str, qos: Any) -> Publisher:
        assert qos.depth == 1, "never a backlog of old commands"
        return self.publishers.setdefault(topic, Publisher())

    def destroy_lifecycle_publisher(self, publisher: Publisher) -> None:
        (topic,) = [topic for topic, known in self.publishers.items() if known is publisher]
        del self.publishers[topic]

    def get_clock(self) -> Node:
        return self

    def now(self) -> Time:
        return Time(nanoseconds=self.now_ns)


def command(**changes: object) -> Command:
    target = np.eye(4)
    target[:3, 3] = (0.4, 0.5, 0.6)
    fields = {
        "linear_m_s": np.array([0.1, 0.2, 0.3]),
        "angular_rad_s": np.array([0.4, 0.5, 0.6]),
        "base_T_target": target,
        "gripper_open": 0.25,
        "row": 0,
        "action": np.zeros(7),
        "engaged": (),
    }
    return Command(**{**fields, **changes})


def numbers(msg: TwistStamped) -> tuple[float, ...]:
    linear, angular = msg.twist.linear, msg.twist.angular
    return (linear.x, linear.y, linear.z, angular.x, angular.y, angular.z)


@pytest.fixture
def node() -> Node:
    return Node()


def test_a_command_goes_out_as_twist_pose_and_gripper_with_a_fresh_stamp(node: Node):
    output = CommandOutput(node, LIVE)
    output.send(command())
    twist, pose, gripper = (node.publishers[f"~/{name}"].sent[-1] for name in ("twist", "target_pose", "gripper"))
    assert numbers(twist) == (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
    for header in (twist.header, pose.header):
        assert (header.frame_id, header.stamp.sec, header.stamp.nanosec) == ("base_link", 5, 7)
    assert isinstance(pose, PoseStamped)
    assert (pose.pose.position.x, pose.pose.position.y, pose.pose.position.z) == (0.4, 0.5, 0.6)
    assert pose.pose.orientation.w == 1.0
    assert list(gripper.data) == [0.25]


def test_a_dry_run_has_no_other_topics(node: Node):
    CommandOutput(node, PolicyParameters(dry_run=True)).send(command())
    assert sorted(node.publishers) == ["~/dry_run/gripper", "~/dry_run/target_pose", "~/dry_run/twist"]


def pose_at(x: float) -> np.ndarray:
    pose = np.eye(4)
    pose[0, 3] = x
    return pose


def test_a_stop_is_a_zero_twist_a_few_times_and_then_silence(node: Node):
    output = CommandOutput(node, LIVE)
    output.send(command())
    for _ in range(3 * STOP_REPEATS):
        output.stop(None)
    twists = node.publishers["~/twist"].sent
    assert [numbers(msg) for msg in twists[1:]] == [(0.0,) * 6] * STOP_REPEATS
    assert len(node.publishers["~/target_pose"].sent) == len(node.publishers["~/gripper"].sent) == 1
    output.send(command())
    output.stop(None)
    assert [any(numbers(msg)) for msg in twists[-2:]] == [True, False], "it starts over with the next command"


def test_a_stop_holds_the_present_pose_once(node: Node):
    """Pinned: the last target stayed on the topic, and a consumer that tracks poses travelled on to it."""
    output = CommandOutput(node, LIVE)
    for x in (0.1, 0.2):
        output.send(command())
        for _ in range(3 * STOP_REPEATS):
            output.stop(pose_at(x))
    targets = [msg.pose.position.x for msg in node.publishers["~/target_pose"].sent]
    assert targets == [0.4, 0.1, 0.4, 0.2]


def test_the_gripper_is_left_as_it_is_where_the_command_says_nothing(node: Node):
    output = CommandOutput(node, LIVE)
    output.send(command(gripper_open=None))
    assert node.publishers["~/gripper"].sent == [] and len(node.publishers["~/twist"].sent) == 1


def test_what_never_moved_is_not_stopped(node: Node):
    output = CommandOutput(node, LIVE)
    output.stop(pose_at(0.1))
    assert node.publishers["~/twist"].sent == [] and node.publishers["~/target_pose"].sent == []


def test_a_halt_sends_what_is_left_of_the_stop_and_waits_until_it_is_received(node: Node):
    output = CommandOutput(node, LIVE)
    output.halt(pose_at(0.1))
    twists, poses = node.publishers["~/twist"].sent, node.publishers["~/target_pose"].sent
    assert twists == [] == poses, "what never moved is not stopped"
    output.send(command())
    output.stop(pose_at(0.1))
    output.halt(pose_at(0.2))
    assert [numbers(msg) for msg in twists[1:-1]] == [(0.0,) * 6] * STOP_REPEATS
    assert twists[-1] == "acknowledged" == poses[-1]
    assert [msg.pose.position.x for msg in poses[:-1]] == [0.4, 0.1]
    output.stop(pose_at(0.3))
    assert twists[-1] == "acknowledged" == poses[-1], "nothing follows"
    output.send(command())
    output.halt(pose_at(0.3))
    assert poses[-2].pose.position.x == 0.3


def test_gripper_positions_are_between_closed_and_open_as_they_are_given(node: Node):
    output = CommandOutput(
        node, PolicyParameters(dry_run=False, gripper_open_position=0.0, gripper_closed_position=0.8)
    )
    output.send(command(gripper_open=0.25))
    assert list(node.publishers["~/gripper"].sent[-1].data) == pytest.approx([0.6])


def test_a_gripper_that_is_not_ours_has_no_topic(node: Node):
    CommandOutput(node, PolicyParameters(dry_run=False, gripper_interface="none")).send(command())
    assert sorted(node.publishers) == ["~/target_pose", "~/twist"]


def test_destroying_leaves_no_publisher(node: Node):
    output = CommandOutput(node, LIVE)
    output.destroy()
    assert node.publishers == {}
