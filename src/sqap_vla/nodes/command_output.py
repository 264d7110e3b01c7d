# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Publishes commands: ~/twist, ~/target_pose, ~/gripper, or the same under ~/dry_run/.

Stamps are fresh at every tick, since MoveIt Servo drops what is older than 0.1 s. A stop is a zero twist, sent a few times so
that a consumer that lost one still gets it; after that there is silence, which leaves the topic to others.
"""
from __future__ import annotations

import numpy as np
from geometry_msgs.msg import PoseStamped, TwistStamped
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode
from std_msgs.msg import Float64MultiArray

from sqap_vla.nodes import qos
from sqap_vla.nodes.conversions import pose_from_matrix
from sqap_vla.runtime.controller import Command

STOP_REPEATS = 5
HALT_TIMEOUT_S = 0.2


class CommandOutput:
    def __init__(self, node: LifecycleNode, base_frame: str, dry_run: bool) -> None:
        prefix = "~/dry_run/" if dry_run else "~/"
        self._node, self._base_frame = node, base_frame
        self._twist = node.create_lifecycle_publisher(TwistStamped, prefix + "twist", qos.command())
        self._pose = node.create_lifecycle_publisher(PoseStamped, prefix + "target_pose", qos.command())
        self._gripper = node.create_lifecycle_publisher(Float64MultiArray, prefix + "gripper", qos.command())
        self._stops_left = 0  # nothing has moved yet, so there is nothing to stop

    def send(self, command: Command) -> None:
        self._send_twist(np.concatenate([command.linear_m_s, command.angular_rad_s]))
        target = PoseStamped()
        target.header.stamp, target.header.frame_id = self._node.get_clock().now().to_msg(), self._base_frame
        target.pose = pose_from_matrix(command.base_T_target)
        self._pose.publish(target)
        self._gripper.publish(Float64MultiArray(data=[float(command.gripper_open)]))
        self._stops_left = STOP_REPEATS

    def stop(self) -> None:
        """Zero twist, at most STOP_REPEATS times after the last command."""
        if self._stops_left > 0:
            self._stops_left -= 1
            self._send_twist(np.zeros(6))

    def halt(self) -> None:
        """The whole stop at once. Waits until every reliable consumer has it: the publisher may go away next."""
        if self._stops_left > 0:
            while self._stops_left > 0:
                self.stop()
            self._twist.wait_for_all_acked(Duration(seconds=HALT_TIMEOUT_S))

    def destroy(self) -> None:
        for publisher in (self._twist, self._pose, self._gripper):
            self._node.destroy_lifecycle_publisher(publisher)

    def _send_twist(self, twist: np.ndarray) -> None:
        msg = TwistStamped()
        msg.header.stamp, msg.header.frame_id = self._node.get_clock().now().to_msg(), self._base_frame
        linear, angular = msg.twist.linear, msg.twist.angular
        linear.x, linear.y, linear.z, angular.x, angular.y, angular.z = (float(v) for v in twist)
        self._twist.publish(msg)
