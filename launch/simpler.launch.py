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
from sqap_vla.nodes.launch_arguments import (
    ARTIFACT_DIR,
    CHECKPOINT,
    LOG_LEVEL,
    NAMESPACE,
    RVIZ,
    SHARE,
    TOKENIZER,
    argument,
    number,
    params_file,
)

SERVER = Path(sqap_vla.__file__).parent / "simpler"
PRESETS = {"google_robot": "google_robot.yaml", "widowx": "widowx.yaml"}  # by the beginning of the task's name

ARGUMENTS = {
    "task": argument(
        "Task of SIMPLER, such as widowx_spoon_on_towel or google_robot_move_near.", "google_robot_pick_coke_can"
    ),
    "simpler_python": argument("Python interpreter that has SimplerEnv. Empty: a server listens on 'socket' already."),
    "make_options": argument(
        'JSON object: further arguments of simpler_env.make, such as {"shader_dir": "ibl"}.', "{}"
    ),
    "socket": argument("Path of the server's socket. Empty: one in a directory of its own."),
    "step_mode": argument(
        "lockstep: time stands still while the policy thinks, as in published results. realtime: latency costs.",
        "lockstep",
        ("lockstep", "realtime"),
    ),
    "real_time_factor": argument("Simulated seconds per second, with step_mode:=realtime.", "1.0"),
    "seed": argument("Seed of the first episode; later ones count up.", "0"),
    "episode_id": argument("Number of the first episode's layout; later ones count up. -1: the seed chooses.", "-1"),
    "episodes": argument("Number of episodes after which everything ends. 0: until Ctrl-C.", "1"),
    "max_steps": argument("Actions after which an episode ends. 0: the task's own limit.", "0"),
    "params_file": params_file("", "google_robot.yaml or widowx.yaml, as the task says"),
    "checkpoint": CHECKPOINT,
    "tokenizer": TOKENIZER,
    "artifact_dir": ARTIFACT_DIR,
    "namespace": NAMESPACE,
    "log_level": LOG_LEVEL,
    "rviz": RVIZ,
}
PASSED_ON = ("checkpoint", "tokenizer", "artifact_dir", "namespace", "log_level", "rviz")


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription(
        [
            *(DeclareLaunchArgument(name, **described) for name, described in ARGUMENTS.items()),
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
        namespace=given["namespace"],
        parameters=[
            {
                "task": given["task"],
                "socket": socket,
                "step_mode": given["step_mode"],
                "real_time_factor": number("real_time_factor", given["real_time_factor"], float),
                **{name: number(name, given[name]) for name in ("seed", "episode_id", "episodes", "max_steps")},
            }
        ],
        remappings=[(f"command/{name}", f"policy/{name}") for name in ("twist", "gripper", "chunk")],
        output="screen",
        emulate_tty=True,
    )
    policy = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(SHARE / "launch" / "policy.launch.py")),
        launch_arguments={
            **{name: given[name] for name in PASSED_ON},
            "params_file": given["params_file"] or preset(given["task"]),
            "use_sim_time": "true",
            "dry_run": "false",
        }.items(),
    )
    ends = OnProcessExit(target_action=bridge, on_exit=[EmitEvent(event=Shutdown(reason="the bridge ended"))])
    return [*server(given, socket), RegisterEventHandler(ends), policy, bridge]


def server(given: dict[str, str], socket: str) -> list:
    if not given["simpler_python"]:
        return []
    # Without PYTHONPATH: SIMPLER's interpreter is another one, and ROS's packages are of no use to it.
    command = [given["simpler_python"], str(SERVER), "--socket", socket, "--make-options", given["make_options"]]
    process = ExecuteProcess(cmd=command, name="simpler", additional_env={"PYTHONPATH": ""}, output="screen")
    ends = OnProcessExit(target_action=process, on_exit=[EmitEvent(event=Shutdown(reason="SIMPLER's server ended"))])
    return [RegisterEventHandler(ends), process]


def preset(task: str) -> str:
    for robot, name in PRESETS.items():
        if task.startswith(robot):
            return name
    raise ValueError(f"task '{task}' begins with none of {', '.join(PRESETS)}; give params_file")
