# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The tabletop in Gazebo Harmonic, and the policy that moves its arm.

    ros2 launch sqap_vla gazebo.launch.py instruction:="pick up the red cube"

Needs ros_gz_sim and ros_gz_bridge (ros-jazzy-ros-gz). The robot is simulated, so commands are live.
"""

import shlex

from ament_index_python.packages import get_package_share_directory
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from launch import LaunchContext, LaunchDescription
from sqap_vla.nodes.launch_arguments import (
    ARTIFACT_DIR,
    LOG_LEVEL,
    NAMESPACE,
    RVIZ,
    SHARE,
    TABLETOP_CHECKPOINT,
    TOKENIZER,
    argument,
    boolean,
    need,
    params_file,
)

ARGUMENTS = {
    "world": argument("SDF world. Empty: the tabletop. Another one needs the same joints, topics and camera."),
    "gui": argument(
        "true: with Gazebo's window. false: its server only, which renders the camera without one.", "true"
    ),
    "params_file": params_file("tabletop.yaml"),
    "checkpoint": TABLETOP_CHECKPOINT,
    "tokenizer": TOKENIZER,
    "artifact_dir": ARTIFACT_DIR,
    "instruction": argument("The task in words, until one comes on the instruction topic.", "pick up the red cube"),
    "namespace": NAMESPACE,
    "log_level": LOG_LEVEL,
    "rviz": RVIZ,
}
PASSED_ON = ("params_file", "checkpoint", "tokenizer", "artifact_dir", "instruction", "namespace", "log_level", "rviz")


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription(
        [
            *(DeclareLaunchArgument(name, **described) for name, described in ARGUMENTS.items()),
            OpaqueFunction(function=start),
        ]
    )


def start(context: LaunchContext) -> list:
    given = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    for package in ("ros_gz_sim", "ros_gz_bridge"):
        need(package, "gazebo.launch.py", "ros-jazzy-ros-gz")
    world = given["world"] or str(SHARE / "config" / "gazebo_tabletop.sdf")
    window = "" if boolean("gui", given["gui"]) else "-s --headless-rendering "
    gazebo = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(f"{get_package_share_directory('ros_gz_sim')}/launch/gz_sim.launch.py"),
        # gz_args go through a shell.
        launch_arguments={"gz_args": f"-r {window}{shlex.quote(world)}", "on_exit_shutdown": "true"}.items(),
    )
    bridge = Node(
        package="ros_gz_bridge",
        executable="parameter_bridge",
        namespace=given["namespace"],
        parameters=[{"config_file": str(SHARE / "config" / "gazebo_bridge.yaml"), "use_sim_time": True}],
        output="screen",
    )
    arm = Node(
        package="sqap_vla",
        executable="gazebo_arm_node",
        name="gazebo_arm",
        namespace=given["namespace"],
        parameters=[{"use_sim_time": True}],
        remappings=[(f"command/{name}", f"policy/{name}") for name in ("twist", "gripper")],
        output="screen",
        emulate_tty=True,
    )
    policy = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(SHARE / "launch" / "policy.launch.py")),
        launch_arguments={
            **{name: given[name] for name in PASSED_ON},
            "use_sim_time": "true",
            "dry_run": "false",
        }.items(),
    )
    return [gazebo, bridge, arm, policy]
