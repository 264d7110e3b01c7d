# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Parameters of joint commands and of the gripper: which joints, how far ahead, through which interface."""

from __future__ import annotations

from dataclasses import dataclass

from rclpy.parameter import Parameter

from sqap_vla.nodes.parameters import parameter
from sqap_vla.runtime.joint_plan import MAX_SPAN_S

_DOUBLE = Parameter.Type.DOUBLE
GRIPPER_INTERFACES = ("none", "float64_multi_array", "gripper_command", "parallel_gripper_command")


@dataclass(frozen=True)
class JointParameters:
    joint_names: tuple[str, ...] = parameter(
        (),
        "Joints of the arm, as its trajectory controller orders them: then ~/joint_trajectory goes out. Unset: none.",
        kind=Parameter.Type.STRING_ARRAY,
        static=True,
    )
    robot_description_topic: str = parameter(
        "robot_description", "The robot's URDF, std_msgs/String, latched. For joint commands.", static=True
    )
    robot_description_timeout_s: float = parameter(
        10.0, "How long configuring waits for it [s].", minimum=0.0, maximum=600.0, static=True
    )
    joint_states_topic: str = parameter("joint_states", "sensor_msgs/JointState. For joint commands.", static=True)
    max_joint_age_s: float = parameter(
        0.2,
        "Oldest joint state under which joint commands go on, by stamp and by arrival [s].",
        minimum=0.01,
        maximum=5.0,
        static=True,
    )
    max_joint_error_rad: float = parameter(
        0.2,
        "Largest deviation of a joint from its trajectory; beyond it the robot is stopped [rad or m].",
        minimum=0.001,
        maximum=3.2,
        static=True,
    )
    trajectory_horizon_s: float = parameter(
        0.25,
        "How far ahead a joint trajectory follows the chunk before it slows down [s].",
        minimum=0.05,
        maximum=0.45,
        static=True,
    )
    trajectory_span_s: float = parameter(
        0.5,
        "Length of a joint trajectory, at whose end the robot rests [s].",
        minimum=0.1,
        maximum=MAX_SPAN_S,
        static=True,
    )
    limit_joint_accel_rad_s2: float | None = parameter(
        None,
        "Largest joint acceleration [rad/s^2]. Required for joint commands.",
        kind=_DOUBLE,
        name="limits.max_joint_accel_rad_s2",
        minimum=0.0,
        maximum=1000.0,
        static=True,
    )
    limit_joint_velocity_rad_s: float | None = parameter(
        None,
        "Largest joint velocity [rad/s]. Unset: the URDF's.",
        kind=_DOUBLE,
        name="limits.max_joint_velocity_rad_s",
        minimum=0.0,
        maximum=100.0,
        static=True,
    )
    limit_joint_jerk_rad_s3: float | None = parameter(
        None,
        "Largest joint jerk [rad/s^3]. Unset: unlimited.",
        kind=_DOUBLE,
        name="limits.max_joint_jerk_rad_s3",
        minimum=0.0,
        maximum=100000.0,
        static=True,
    )
    gripper_interface: str = parameter(
        "float64_multi_array",
        "How the gripper is commanded: not at all, a number on ~/gripper, or an action of control_msgs.",
        choices=GRIPPER_INTERFACES,
        static=True,
    )
    gripper_open_position: float = parameter(
        1.0, "What opens the gripper all the way.", minimum=-1000.0, maximum=1000.0, static=True
    )
    gripper_closed_position: float = parameter(0.0, "What closes it.", minimum=-1000.0, maximum=1000.0, static=True)
    gripper_action: str = parameter(
        "gripper_controller/gripper_cmd", "Name of the gripper's action. For the two actions.", static=True
    )
    gripper_joint: str = parameter(
        "", "Joint that parallel_gripper_command names. For parallel_gripper_command.", static=True
    )
    gripper_max_effort: float = parameter(
        0.0, "Effort of a gripper action [N or Nm]; 0: the driver's own.", minimum=0.0, maximum=1000.0, static=True
    )
