# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Replays a bag through the running nodes, in lockstep, and writes a report.

    ros2 launch sqap_vla replay.launch.py bag:=/bags/episode params_file:=widowx.yaml checkpoint:=/models/CogACT-Base \\
        tokenizer:=/models/tokenizer.json out:=/tmp/replay

Starts policy.launch.py on the bag's clock, plays the bag image by image, and ends with the report.
"""

from pathlib import Path

from ament_index_python.packages import get_package_prefix
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    ExecuteProcess,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
)
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration

from launch import LaunchContext, LaunchDescription
from sqap_vla.nodes.launch_arguments import (
    LOG_LEVEL,
    RVIZ,
    SHARE,
    TOKENIZER,
    argument,
    parameter_file,
    params_file,
)

SQAP_VLA = Path(get_package_prefix("sqap_vla")) / "lib" / "sqap_vla" / "sqap-vla"  # on no PATH in a colcon workspace
PASSED_ON = ("params_file", "checkpoint", "tokenizer", "instruction", "image_transport", "log_level", "rviz")

ARGUMENTS = {
    "bag": argument("rosbag2 directory, .mcap or .db3 file.", None),
    "checkpoint": argument("CogACT checkpoint directory, or an artifact directory.", None),
    "tokenizer": TOKENIZER,
    "params_file": params_file("widowx.yaml"),
    "instruction": argument("The task in words, where the bag has none."),
    "image_transport": argument(
        "compressed where the bag has compressed images. Empty: as the parameter file says.",
        "",
        ("", "raw", "compressed"),
    ),
    "out": argument(
        "Directory for the report, relative to where the command is given; made where it is missing.", "out/replay"
    ),
    "log_level": LOG_LEVEL,
    "rviz": RVIZ,
}


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription(
        [
            *(DeclareLaunchArgument(name, **described) for name, described in ARGUMENTS.items()),
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(str(SHARE / "launch" / "policy.launch.py")),
                launch_arguments={
                    **{name: LaunchConfiguration(name) for name in PASSED_ON},
                    "namespace": "",  # the player looks for /policy
                    "use_sim_time": "true",
                    "dry_run": "true",
                    "sensor_reliability": "reliable",  # each frame of the bag is there once
                }.items(),
            ),
            OpaqueFunction(function=play),
        ]
    )


def play(context: LaunchContext) -> list:
    given = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    options = [item for name in ("tokenizer", "instruction") if given[name] for item in (f"--{name}", given[name])]
    player = ExecuteProcess(
        cmd=[
            str(SQAP_VLA),
            "replay",
            given["bag"],
            "--checkpoint",
            given["checkpoint"],
            "--config",
            parameter_file(given["params_file"]),
            "--out",
            given["out"],
            "--live",
            "--running",
            *options,
        ],
        output="screen",
        emulate_tty=True,
    )
    return [
        RegisterEventHandler(
            OnProcessExit(target_action=player, on_exit=[EmitEvent(event=Shutdown(reason="replay ended"))])
        ),
        player,
    ]
