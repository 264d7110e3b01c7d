# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The built-in tabletop and the policy that moves its arm.

    ros2 launch sqap_vla sim.launch.py family:=any
    ros2 launch sqap_vla sim.launch.py instruction:="pick up the red cube" rviz:=true

The robot is simulated, so commands are live. Another sentence on the instruction topic changes the task at once.
"""

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
from sqap_vla.nodes.launch_arguments import (
    ARTIFACT_DIR,
    LOG_LEVEL,
    NAMESPACE,
    RVIZ,
    SHARE,
    TABLETOP_CHECKPOINT,
    TOKENIZER,
    argument,
    number,
    parameter_file,
    params_file,
)

ARGUMENTS = {
    "params_file": params_file("tabletop.yaml"),
    "checkpoint": TABLETOP_CHECKPOINT,
    "tokenizer": TOKENIZER,
    "artifact_dir": ARTIFACT_DIR,
    "instruction": argument('The task in words, such as "pick up the red cube". Empty: the seed chooses one.'),
    "family": argument(
        "Family of tasks that the seed chooses from; any takes them in turn.",
        "pick",
        ("any", "pick", "move_near", "drawer", "place"),
    ),
    "scenario": argument(
        "visual_matching: as in training. variant_aggregation: light, table, background, distractors and camera vary.",
        "visual_matching",
        ("visual_matching", "variant_aggregation"),
    ),
    "seed": argument("Seed of the first episode; later ones count up.", "0"),
    "step_mode": argument(
        "realtime: latency costs. lockstep: time stands still while the policy thinks.",
        "realtime",
        ("realtime", "lockstep"),
    ),
    "namespace": NAMESPACE,
    "log_level": LOG_LEVEL,
    "rviz": RVIZ,
}
PASSED_ON = ("params_file", "checkpoint", "tokenizer", "artifact_dir", "namespace", "log_level", "rviz")
OF_THE_TABLETOP = ("instruction", "family", "scenario", "step_mode")


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription(
        [
            *(DeclareLaunchArgument(name, **described) for name, described in ARGUMENTS.items()),
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
        namespace=given["namespace"],
        parameters=[
            parameter_file(given["params_file"]),
            {"seed": number("seed", given["seed"]), **{name: given[name] for name in OF_THE_TABLETOP}},
        ],
        remappings=[(f"command/{name}", f"policy/{name}") for name in ("twist", "gripper")],
        output="screen",
        emulate_tty=True,
    )
    ends = OnProcessExit(target_action=tabletop, on_exit=[EmitEvent(event=Shutdown(reason="the tabletop ended"))])
    return [RegisterEventHandler(ends), tabletop]
