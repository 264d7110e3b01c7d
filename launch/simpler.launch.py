# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""SIMPLER in the loop: its server, the bridge to ROS topics, and the policy.

    ros2 launch sqap_vla simpler.launch.py task:=google_robot_pick_coke_can simpler_python:=/opt/simpler/bin/python \\
        checkpoint:=/models/CogACT-Base tokenizer:=/models/llama-2/tokenizer.json

SIMPLER runs in an interpreter of its own, which has SimplerEnv installed. The robot is simulated, so commands are live.
Ends after the last episode, or with Ctrl-C.
"""

import tempfile
from pathlib import Path

from ament_index_python.packages import get_package_share_directory
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
from launch_ros.actions import Node

import sqap_vla
from launch import LaunchContext, LaunchDescription

SHARE = Path(get_package_share_directory("sqap_vla"))
SERVER = Path(sqap_vla.__file__).parent / "simpler"
PRESETS = {"google_robot": "google_robot.yaml", "widowx": "widowx.yaml"}  # by the beginning of the task's name

ARGUMENTS = {
    "task": ("google_robot_pick_coke_can", "Task of SIMPLER, such as widowx_spoon_on_towel or google_robot_move_near."),
    "simpler_python": (
        "",
        "Python interpreter that SimplerEnv is installed for. Empty: a server listens on 'socket' already.",
    ),
    "make_options": ("{}", 'JSON object: further arguments of simpler_env.make, such as {"shader_dir": "ibl"}.'),
    "socket": ("", "Path of the server's socket. Empty: one in a directory of its own."),
    "step_mode": (
        "lockstep",
        "lockstep: time stands still while the policy thinks, as in published results. realtime: latency costs.",
    ),
    "real_time_factor": ("1.0", "Simulated seconds per second, in realtime."),
    "seed": ("0", "Seed of the first episode; later ones count up."),
    "episode_id": (
        "-1",
        "Number of the first episode's layout; later ones count up. -1: the seed chooses.",
    ),
    "episodes": ("1", "Number of episodes after which everything ends. 0: until Ctrl-C."),
    "max_steps": ("0", "Steps after which an episode ends. 0: the task's own limit."),
    "params_file": (
        "",
        "Parameter file: a path, or the name of a preset. Empty: google_robot.yaml or widowx.yaml, as the task says.",
    ),
    "checkpoint": ("", "CogACT checkpoint directory, or an artifact directory. Empty: as the parameter file says."),
    "tokenizer": ("", "Hugging Face tokenizer: a tokenizer.json or a directory. Empty: the one beside the checkpoint."),
    "artifact_dir": ("", "Where the loader keeps the prepared model. Empty: ~/.cache/sqap_vla/artifacts/."),
    "log_level": ("info", "debug, info, warn, error or fatal."),
    "rviz": ("false", "true: start RViz with the camera, the kept tokens and the transforms."),
}


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
    if not (given["simpler_python"] or given["socket"]):
        raise ValueError("give simpler_python (the interpreter with SimplerEnv), or the socket of a server that runs")
    # Short, as sockets' paths must be, and its owner's only.
    socket = given["socket"] or str(Path(tempfile.mkdtemp(prefix="sqap_vla_")) / "simpler")
    bridge = Node(
        package="sqap_vla",
        executable="simpler_bridge_node",
        name="simpler_bridge",
        parameters=[
            {
                "task": given["task"],
                "socket": socket,
                "step_mode": given["step_mode"],
                "real_time_factor": float(given["real_time_factor"]),
                **{name: int(given[name]) for name in ("seed", "episode_id", "episodes", "max_steps")},
            }
        ],
        remappings=[(f"command/{name}", f"policy/{name}") for name in ("twist", "gripper", "chunk")],
        output="screen",
        emulate_tty=True,
    )
    policy = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(SHARE / "launch" / "policy.launch.py")),
        launch_arguments={
            **{name: given[name] for name in ("checkpoint", "tokenizer", "artifact_dir", "log_level")},
            "params_file": given["params_file"] or preset(given["task"]),
            "use_sim_time": "true",
            "dry_run": "false",
        }.items(),
    )
    ends = OnProcessExit(target_action=bridge, on_exit=[EmitEvent(event=Shutdown(reason="the bridge ended"))])
    return [*server(given, socket), *viewer(given["rviz"]), RegisterEventHandler(ends), policy, bridge]


def server(given: dict[str, str], socket: str) -> list:
    if not given["simpler_python"]:
        return []
    # Without PYTHONPATH: SIMPLER's interpreter is another one, and ROS's packages are of no use to it.
    command = [given["simpler_python"], str(SERVER), "--socket", socket, "--make-options", given["make_options"]]
    process = ExecuteProcess(cmd=command, name="simpler", additional_env={"PYTHONPATH": ""}, output="screen")
    ends = OnProcessExit(target_action=process, on_exit=[EmitEvent(event=Shutdown(reason="SIMPLER's server ended"))])
    return [RegisterEventHandler(ends), process]


def viewer(wanted: str) -> list:
    if wanted.lower() not in ("true", "false"):
        raise ValueError(f"rviz is '{wanted}'; it must be true or false")
    if wanted.lower() == "false":
        return []
    config = str(SHARE / "config" / "sqap_vla.rviz")
    return [Node(package="rviz2", executable="rviz2", arguments=["-d", config], parameters=[{"use_sim_time": True}])]


def preset(task: str) -> str:
    for robot, name in PRESETS.items():
        if task.startswith(robot):
            return name
    raise ValueError(f"task '{task}' begins with none of {', '.join(PRESETS)}; give params_file")
