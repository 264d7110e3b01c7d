# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Publishes commands: ~/twist, ~/target_pose, ~/gripper, or the same under ~/dry_run/.

Stamps are fresh at every tick, since MoveIt Servo drops what is older than 0.1 s. A stop is the present pose as
target, once, so that a consumer that tracks poses holds where it is and does not travel on to the last target; and a
zero twist, sent a few times so that a consumer that lost one still gets it. After that there is silence, which leaves
the topics to others. Where the present pose is not known, no target is sent: the last one, within one row's reach of
where the end-effector was last seen, stays. The gripper is left as it is.
"""

from __future__ import annotations

import numpy as np
from geometry_msgs.msg import PoseStamped, TwistStamped
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode

from sqap_vla.nodes import qos
from sqap_vla.nodes.conversions import pose_from_matrix
from sqap_vla.nodes.gripper_output import make_gripper_output
from sqap_vla.nodes.policy_parameters import PolicyParameters
from sqap_vla.runtime.command import Command

STOP_REPEATS = 5
HALT_TIMEOUT_S = 0.2


class CommandOutput:
    def __init__(self, node: LifecycleNode, params: PolicyParameters) -> None:
        prefix = "~/dry_run/" if params.dry_run else "~/"
        self._node, self._base_frame = node, params.base_frame
        self._gripper = make_gripper_output(node, params)  # first: where it cannot be made, nothing else is
        self._twist = node.create_lifecycle_publisher(TwistStamped, prefix + "twist", qos.command())
        self._pose = node.create_lifecycle_publisher(PoseStamped, prefix + "target_pose", qos.command())
        self._stops_left = 0  # nothing has moved yet, so there is nothing to stop

    def send(self, command: Command) -> None:
        self._send_twist(np.concatenate([command.linear_m_s, command.angular_rad_s]))
        self._send_pose(command.base_T_target)
        if command.gripper_open is not None and self._gripper is not None:
            self._gripper.send(command.gripper_open)
        self._stops_left = STOP_REPEATS

    def stop(self, base_T_ee: np.ndarray | None) -> None:
        """After the last command: the present pose as target once, where it is known; zero twist STOP_REPEATS times."""
        if self._stops_left == STOP_REPEATS:
            if base_T_ee is not None:
                self._send_pose(base_T_ee)
            if self._gripper is not None:
                self._gripper.forget()
        if self._stops_left > 0:
            self._stops_left -= 1
            self._send_twist(np.zeros(6))

    def halt(self, base_T_ee: np.ndarray | None) -> None:
        """The whole stop at once. Waits until every reliable consumer has it: the publisher may go away next."""
        if self._stops_left > 0:
            while self._stops_left > 0:
                self.stop(base_T_ee)
            for publisher in (self._pose, self._twist):
                publisher.wait_for_all_acked(Duration(seconds=HALT_TIMEOUT_S))

    def destroy(self) -> None:
        for publisher in (self._twist, self._pose):
            self._node.destroy_lifecycle_publisher(publisher)
        if self._gripper is not None:
            self._gripper.destroy()

    def _send_pose(self, base_T_target: np.ndarray) -> None:
        msg = PoseStamped()
        msg.header.stamp, msg.header.frame_id = self._node.get_clock().now().to_msg(), self._base_frame
        msg.pose = pose_from_matrix(base_T_target)
        self._pose.publish(msg)

    def _send_twist(self, twist: np.ndarray) -> None:
        msg = TwistStamped()
        msg.header.stamp, msg.header.frame_id = self._node.get_clock().now().to_msg(), self._base_frame
        linear, angular = msg.twist.linear, msg.twist.angular
        linear.x, linear.y, linear.z, angular.x, angular.y, angular.z = (float(v) for v in twist)
        self._twist.publish(msg)
