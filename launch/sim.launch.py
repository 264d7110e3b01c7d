# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The built-in tabletop and the policy that moves its arm.

    ros2 launch sqap_vla sim.launch.py checkpoint:=/models/tabletop tokenizer:=/models/tokenizer.json \\
        instruction:="pick up the red cube"

The robot is simulated, so commands are live. Another sentence on the instruction topic changes the task at once.
"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
)
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from launch import LaunchContext, LaunchDescription

SHARE = Path(get_package_share_directory("sqap_vla"))

ARGUMENTS = {
    "params_file": ("tabletop.yaml", "Parameter file: a path, or the name of a preset in share/sqap_vla/config."),
    "checkpoint": ("", "CogACT checkpoint directory, or an artifact directory. Empty: as the parameter file says."),
    "tokenizer": ("", "Hugging Face tokenizer: a tokenizer.json or a directory. Empty: the one beside the checkpoint."),
    "artifact_dir": ("", "Where the loader keeps the prepared model. Empty: ~/.cache/sqap_vla/artifacts/."),
    "instruction": (
        "",
        'The task in words, such as "pick up the red cube". Empty: the seed chooses one.',
    ),
    "family": ("pick", "Family of tasks from which the seed chooses: pick, move_near, drawer, place; any takes them in turn."),
    "scenario": ("visual_matching", "visual_matching: as in training. variant_aggregation: light, table, camera vary."),
    "seed": ("0", "Seed of the first episode; later ones count up."),
    "step_mode": ("realtime", "realtime: latency costs. lockstep: time stands still while the policy thinks."),
    "log_level": ("info", "debug, info, warn, error or fatal."),
    "rviz": ("false", "true: start RViz with the camera, the kept tokens and the transforms."),
}
PASSED_ON = ("params_file", "checkpoint", "tokenizer", "artifact_dir", "log_level")
OF_THE_TABLETOP = ("instruction", "family", "scenario", "step_mode")


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(name, default_value=default, description=text)
                for name, (default, text) in ARGUMENTS.items()
            ),
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(str(SHARE / "launch" / "policy.launch.py")),
                launch_arguments={
                    **{name: LaunchConfiguration(name) for name in PASSED_ON},
                    "use_sim_time": "true",
                    "dry_run": "false",
                }.items(),
            ),
            OpaqueFunction(function=start_tabletop),
        ]
    )


def start_tabletop(context: LaunchContext) -> list:
    given = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    tabletop = Node(
        package="sqap_vla",
        executable="tabletop_node",
        name="tabletop",
        parameters=[
            parameter_file(given["params_file"]),
            {"seed": int(given["seed"]), **{name: given[name] for name in OF_THE_TABLETOP}},
        ],
        remappings=[(f"command/{name}", f"policy/{name}") for name in ("twist", "gripper")],
        output="screen",
        emulate_tty=True,
    )
    ends = OnProcessExit(target_action=tabletop, on_exit=[EmitEvent(event=Shutdown(reason="the tabletop ended"))])
    return [*viewer(given["rviz"]), RegisterEventHandler(ends), tabletop]


def parameter_file(name: str) -> str:
    tried = [Path(name), SHARE / "config" / name]
    for path in tried:
        if path.is_file():
            return str(path)
    raise FileNotFoundError(f"params_file '{name}' is neither {' nor '.join(map(str, tried))}")


def viewer(wanted: str) -> list:
    if wanted.lower() not in ("true", "false"):
        raise ValueError(f"rviz is '{wanted}'; it must be true or false")
    if wanted.lower() == "false":
        return []
    config = str(SHARE / "config" / "sqap_vla.rviz")
    return [Node(package="rviz2", executable="rviz2", arguments=["-d", config], parameters=[{"use_sim_time": True}])]
