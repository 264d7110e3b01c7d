# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The tabletop's arm in Gazebo: the policy's twist becomes joint targets, Gazebo's joint states become transforms.

In: joint_states (from Gazebo), command/twist, command/gripper. Out: arm/JOINT/position of each joint (Float64, rad or
m, for Gazebo's position controllers); TF base_link -> gripper_tcp and, static, base_link -> camera_optical_frame.

Without a fresh twist the arm holds the pose it was last sent to. Without joint states nothing is sent.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64
from tf2_ros import StaticTransformBroadcaster, TransformBroadcaster

from sqap_vla.nodes import qos
from sqap_vla.nodes.conversions import stamp_ns
from sqap_vla.nodes.lifecycle import run_node
from sqap_vla.nodes.parameters import declare, parameter
from sqap_vla.nodes.robot_messages import transform_msg
from sqap_vla.nodes.tabletop_commands import CommandInput
from sqap_vla.sim import CameraConfig, ControlConfig
from sqap_vla.sim.camera import base_T_camera
from sqap_vla.sim.follower import ArmFollower
from sqap_vla.sim.scene import ARM_JOINTS, FINGER_JOINTS, FINGER_TRAVEL_M, JOINTS

LONGEST_STEP_S = 0.1  # of one twist: after a gap in the joint states the arm does not leap


@dataclass(frozen=True)
class GazeboArmParameters:
    command_timeout_s: float = parameter(
        0.3,
        "Age from which a twist counts as zero: the arm holds still [s].",
        minimum=0.04,
        maximum=5.0,
        read_only=True,
    )
    base_frame: str = parameter("base_link", "Frame of the robot's base.", read_only=True)
    ee_frame: str = parameter("gripper_tcp", "Frame of the end-effector, between the fingertips.", read_only=True)
    camera_frame: str = parameter("camera_optical_frame", "Optical frame of the camera (REP-103).", read_only=True)


class GazeboArm(Node):
    """Moves the arm once per joint state. Raises ParameterError where a parameter has a wrong type or value."""

    def __init__(self, **kwargs) -> None:
        super().__init__("gazebo_arm", **kwargs)
        self._settings = declare(self, GazeboArmParameters)
        self._follower = ArmFollower(ControlConfig())
        self._last_ns = 0
        self._commands = CommandInput(
            self,
            self._settings.base_frame,
            self._settings.command_timeout_s,
            lambda: self.get_clock().now().nanoseconds,
        )
        self._targets = {name: self.create_publisher(Float64, f"arm/{name}/position", qos.command()) for name in JOINTS}
        self._transforms = TransformBroadcaster(self)
        self._static_transforms = StaticTransformBroadcaster(self)
        self._static_transforms.sendTransform(
            transform_msg(
                base_T_camera(CameraConfig()),
                self.get_clock().now().to_msg(),
                self._settings.base_frame,
                self._settings.camera_frame,
            )
        )
        self.create_subscription(JointState, "joint_states", self._on_joints, qos.sensor())

    def _on_joints(self, msg: JointState) -> None:
        known = dict(zip(msg.name, msg.position, strict=False))
        missing = [name for name in ARM_JOINTS if not np.isfinite(known.get(name, np.nan))]
        if missing:
            self.get_logger().error(
                f"joint_states lacks {', '.join(missing)}; nothing is sent", throttle_duration_sec=5.0
            )
            return
        measured_rad = np.array([known[name] for name in ARM_JOINTS])
        now_ns = stamp_ns(msg.header.stamp)
        pose = self._follower.base_T_ee(measured_rad)
        frames = (self._settings.base_frame, self._settings.ee_frame)
        self._transforms.sendTransform(transform_msg(pose, msg.header.stamp, *frames))
        if now_ns < self._last_ns:  # the world was reset
            self._follower.reset()
            self._commands.forget()
        step_s = min(max(now_ns - self._last_ns, 0) / 1e9, LONGEST_STEP_S) if self._last_ns else 0.0
        self._last_ns = now_ns
        targets = self._follower.follow(self._commands.twist(now_ns), step_s, measured_rad)
        for name, target in zip(ARM_JOINTS, targets, strict=True):
            self._targets[name].publish(Float64(data=float(target)))
        for name in FINGER_JOINTS:
            self._targets[name].publish(Float64(data=self._commands.gripper_open * FINGER_TRAVEL_M))


def main(args: list[str] | None = None) -> int:
    return run_node(GazeboArm, args)


if __name__ == "__main__":
    sys.exit(main())
