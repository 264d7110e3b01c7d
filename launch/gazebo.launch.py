# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The tabletop in Gazebo Harmonic, and the policy that moves its arm.

    ros2 launch sqap_vla gazebo.launch.py checkpoint:=/models/tabletop tokenizer:=/models/tokenizer.json \\
        instruction:="pick up the red cube"

Needs ros_gz_sim and ros_gz_bridge (ros-jazzy-ros-gz). The robot is simulated, so commands are live.
"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from launch import LaunchContext, LaunchDescription

SHARE = Path(get_package_share_directory("sqap_vla"))

ARGUMENTS = {
    "world": ("", "SDF world. Empty: the tabletop. Another one needs the same joints, topics and camera."),
    "gui": ("true", "false: Gazebo's server only, without a window."),
    "params_file": ("tabletop.yaml", "Parameter file: a path, or the name of a preset in share/sqap_vla/config."),
    "checkpoint": ("", "CogACT checkpoint directory, or an artifact directory. Empty: as the parameter file says."),
    "tokenizer": ("", "Hugging Face tokenizer: a tokenizer.json or a directory. Empty: the one beside the checkpoint."),
    "artifact_dir": ("", "Where the loader keeps the prepared model. Empty: ~/.cache/sqap_vla/artifacts/."),
    "instruction": ("pick up the red cube", "The task in words, until one comes on the instruction topic."),
    "log_level": ("info", "debug, info, warn, error or fatal."),
    "rviz": ("false", "true: start RViz with the camera, the kept tokens and the transforms."),
}
PASSED_ON = ("params_file", "checkpoint", "tokenizer", "artifact_dir", "instruction", "log_level")


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(name, default_value=default, description=text)
                for name, (default, text) in ARGUMENTS.items()
            ),
            OpaqueFunction(function=start),
        ]
    )


def start(context: LaunchContext) -> list:
    given = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    world = given["world"] or str(SHARE / "config" / "gazebo_tabletop.sdf")
    window = "" if boolean("gui", given["gui"]) else "-s --headless-rendering "
    gazebo = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(f"{get_package_share_directory('ros_gz_sim')}/launch/gz_sim.launch.py"),
        launch_arguments={"gz_args": f"-r {window}{world}", "on_exit_shutdown": "true"}.items(),
    )
    bridge = Node(
        package="ros_gz_bridge",
        executable="parameter_bridge",
        parameters=[{"config_file": str(SHARE / "config" / "gazebo_bridge.yaml"), "use_sim_time": True}],
        output="screen",
    )
    arm = Node(
        package="sqap_vla",
        executable="gazebo_arm_node",
        name="gazebo_arm",
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
    return [*viewer(given["rviz"]), gazebo, bridge, arm, policy]


def viewer(wanted: str) -> list:
    if not boolean("rviz", wanted):
        return []
    config = str(SHARE / "config" / "sqap_vla.rviz")
    return [Node(package="rviz2", executable="rviz2", arguments=["-d", config], parameters=[{"use_sim_time": True}])]


def boolean(name: str, text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError(f"{name} is '{text}'; it must be true or false")
    return text.lower() == "true"
