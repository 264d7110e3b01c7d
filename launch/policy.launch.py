# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Loader, policy and diagnostics of one robot.

    ros2 launch sqap_vla policy.launch.py params_file:=widowx.yaml checkpoint:=/models/CogACT-Base \\
        tokenizer:=/models/llama-2/tokenizer.json

With autostart the loader prepares the model and announces it; then the policy is configured with it and activated.
Without, take the nodes through their lifecycle yourself (`ros2 lifecycle set /model_loader configure`, ...).
Nothing moves unless dry_run:=false.
"""

import os

from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    OpaqueFunction,
    RegisterEventHandler,
    SetEnvironmentVariable,
)
from launch.event_handlers import OnProcessStart
from launch.events import matches_action
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode, Node
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from lifecycle_msgs.msg import Transition

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
    boolean,
    need,
    parameter_file,
    params_file,
)

DDS_PROFILE_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
VIEWED = ("/policy/debug/overlay", "/policy/target_pose", "/policy/dry_run/target_pose")  # by the RViz config

ARGUMENTS = {
    "namespace": NAMESPACE,
    "params_file": params_file("widowx.yaml"),
    "checkpoint": CHECKPOINT,
    "tokenizer": TOKENIZER,
    "artifact_dir": ARTIFACT_DIR,
    "instruction": argument("The task in words, until one comes on the instruction topic."),
    "dry_run": argument(
        "true: commands appear below ~/dry_run/ only. false: they move the robot. Empty: as the parameter file says, "
        "true where it is silent."
    ),
    "image_transport": argument(
        "raw or compressed images. Empty: as the parameter file says.", "", ("", "raw", "compressed")
    ),
    "sensor_reliability": argument(
        "Of the subscriptions to image and camera_info; best_effort takes what either sends. Empty: as the parameter "
        "file says.",
        "",
        ("", "best_effort", "reliable"),
    ),
    "use_sim_time": argument("true: the clock is /clock. Empty: as the parameter file says."),
    "autostart": argument("true: the nodes are configured and activated. false: by whoever manages them.", "true"),
    "log_level": LOG_LEVEL,
    "rviz": RVIZ,
}


def generate_launch_description() -> LaunchDescription:
    profile = str(SHARE / "config" / "fastdds_shm.xml")
    own_profile = any(os.environ.get(name) for name in DDS_PROFILE_VARIABLES)
    return LaunchDescription(
        [
            # Large images are lost with Fast DDS's default shared memory; a profile of the user's own stays in force.
            *(SetEnvironmentVariable(name, profile) for name in DDS_PROFILE_VARIABLES if not own_profile),
            SetEnvironmentVariable("RCUTILS_LOGGING_BUFFERED_STREAM", "1"),
            *(DeclareLaunchArgument(name, **described) for name, described in ARGUMENTS.items()),
            OpaqueFunction(function=start_nodes),
        ]
    )


def start_nodes(context: LaunchContext) -> list:
    given = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    common = {} if not given["use_sim_time"] else {"use_sim_time": boolean("use_sim_time", given["use_sim_time"])}
    parameters = {
        "model_loader": pick(given, "checkpoint", "tokenizer", "artifact_dir"),
        "policy": pick(given, "instruction", "image_transport", "sensor_reliability")
        | ({} if not given["dry_run"] else {"dry_run": boolean("dry_run", given["dry_run"])}),
        "diagnostics": {},
    }
    nodes = {name: lifecycle_node(name, given, own | common) for name, own in parameters.items()}
    actions = list(nodes.values())
    if boolean("autostart", given["autostart"]):
        # Handlers come before the nodes: a process may start, and change state, at once.
        actions = [
            *on_start_configure(nodes["model_loader"]),
            *on_start_configure(nodes["diagnostics"]),
            *activate_when_configured(*nodes.values()),
            *when(nodes["model_loader"], "active", nodes["policy"], Transition.TRANSITION_CONFIGURE),
            *actions,
        ]
    return [*viewer(given, common), *actions]


def lifecycle_node(name: str, given: dict[str, str], parameters: dict) -> LifecycleNode:
    return LifecycleNode(
        package="sqap_vla",
        executable=f"{name}_node",
        name=name,
        namespace=given["namespace"],
        parameters=[parameter_file(given["params_file"]), parameters],
        output="screen",
        emulate_tty=True,
        arguments=["--ros-args", "--log-level", f"{logger_name(name, given['namespace'])}:={given['log_level']}"],
    )


def logger_name(name: str, namespace: str) -> str:
    """What rcl calls the logger of a node: a.b.policy for /a/b/policy."""
    return ".".join([*(part for part in namespace.split("/") if part), name])


def on_start_configure(node: LifecycleNode) -> list:
    return [
        RegisterEventHandler(
            OnProcessStart(target_action=node, on_start=[change(node, Transition.TRANSITION_CONFIGURE)])
        )
    ]


def activate_when_configured(*nodes: LifecycleNode) -> list:
    return [
        handler
        for node in nodes
        for handler in when(node, "inactive", node, Transition.TRANSITION_ACTIVATE, "configuring")
    ]


def when(node: LifecycleNode, state: str, target: LifecycleNode, transition: int, came_from: str | None = None) -> list:
    """Once: whoever configures a node again by hand activates it by hand, too."""
    return [
        RegisterEventHandler(
            OnStateTransition(
                target_lifecycle_node=node,
                start_state=came_from,
                goal_state=state,
                entities=[change(target, transition)],
                handle_once=True,
            )
        )
    ]


def change(node: LifecycleNode, transition: int) -> EmitEvent:
    return EmitEvent(event=ChangeState(lifecycle_node_matcher=matches_action(node), transition_id=transition))


def viewer(given: dict[str, str], parameters: dict) -> list:
    if not boolean("rviz", given["rviz"]):
        return []
    need("rviz2", "rviz:=true", "ros-jazzy-rviz2")
    space = given["namespace"].strip("/")
    return [
        Node(
            package="rviz2",
            executable="rviz2",
            arguments=["-d", str(SHARE / "config" / "sqap_vla.rviz")],
            parameters=[parameters],
            remappings=[(topic, f"/{space}{topic}") for topic in VIEWED if space],
            output="screen",
        )
    ]


def pick(given: dict[str, str], *names: str) -> dict[str, str]:
    """Arguments that were given; an empty one keeps the parameter file's value."""
    return {name: given[name] for name in names if given[name]}
