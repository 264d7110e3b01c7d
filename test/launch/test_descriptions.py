# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""What every launch file would start, with which parameters and remappings, by upstream's launch; nothing is started.

Without launch_ros this is skipped; test/nodes/test_launch_arguments.py covers how arguments are read.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("launch_ros", reason="launch_ros is not installed; see test/nodes/test_launch_arguments.py")

from ament_index_python.packages import get_package_share_directory
from launch.actions import DeclareLaunchArgument, ExecuteProcess
from launch.launch_description_entity import LaunchDescriptionEntity
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch_ros.actions import LifecycleNode, Node

from launch import LaunchContext, LaunchDescription, Substitution
from sqap_vla.sim import FAMILIES, SCENARIOS

NEEDED = {
    "policy": {},
    "sim": {},
    "replay": {"bag": "/bags/one", "checkpoint": "/models/a"},
    "simpler": {"socket": "/run/simpler/socket"},
    "gazebo": {},
}
SHARE = Path(get_package_share_directory("sqap_vla"))
# Takes what gz_sim.launch.py of ros_gz_sim takes; its node stands for Gazebo and is told what that would be.
GZ_SIM = """
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node


def generate_launch_description():
    given = {name: LaunchConfiguration(name) for name in ("gz_args", "on_exit_shutdown")}
    arguments = [DeclareLaunchArgument(name) for name in given]
    return LaunchDescription([*arguments, Node(package="ros_gz_sim", executable="gz_sim", parameters=[given])])
"""
POLICY = ["diagnostics_node", "model_loader_node", "policy_node"]


def description(name: str, context: LaunchContext) -> LaunchDescription:
    return PythonLaunchDescriptionSource(str(SHARE / "launch" / f"{name}.launch.py")).get_launch_description(context)


def declared(name: str) -> dict[str, DeclareLaunchArgument]:
    return {argument.name: argument for argument in description(name, LaunchContext()).get_launch_arguments()}


@pytest.fixture(autouse=True)
def what_nodes_are_made_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes and processes keep the keywords they were made with."""

    def keep(action: type) -> None:
        made = action.__init__

        def init(self: LaunchDescriptionEntity, **keywords: Any) -> None:
            self.keywords = getattr(self, "keywords", keywords)  # a Node is an ExecuteProcess, too
            made(self, **keywords)

        monkeypatch.setattr(action, "__init__", init)

    for action in (ExecuteProcess, Node, LifecycleNode):
        keep(action)


def started(name: str, **given: str) -> dict[str, dict[str, Any]]:
    """What the file and those that it includes would start, by executable: the keywords of each node or command."""
    context = LaunchContext()
    context.launch_configurations.update(NEEDED[name] | given)
    found: dict[str, dict[str, Any]] = {}

    def visit(entities: Sequence[LaunchDescriptionEntity]) -> None:
        for entity in entities:
            if isinstance(entity, ExecuteProcess):
                keywords = performed(entity.keywords, context)
                executable = keywords.get("executable") or Path(keywords["cmd"][0]).name
                assert executable not in found, f"{executable} is started twice"
                found[executable] = keywords
            else:
                visit(entity.visit(context) or [])

    visit([description(name, context)])
    return found


def performed(value: Any, context: LaunchContext) -> Any:
    if isinstance(value, Substitution):
        return value.perform(context)
    if isinstance(value, dict):
        return {key: performed(item, context) for key, item in value.items()}
    return [performed(item, context) for item in value] if isinstance(value, list) else value


def parameters(node: dict[str, Any]) -> dict[str, Any]:
    """What a node is given beside parameter files."""
    return {key: value for part in node["parameters"] if isinstance(part, dict) for key, value in part.items()}


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Makes empty ROS packages, with one launch file each where it is named."""

    def make(*names: str, launch_file: str = "") -> None:
        for name in names:
            for directory in (tmp_path / "share" / "ament_index" / "resource_index" / "packages", tmp_path / "share"):
                directory.mkdir(parents=True, exist_ok=True)
            (tmp_path / "share" / "ament_index" / "resource_index" / "packages" / name).touch()
            (tmp_path / "share" / name / "launch").mkdir(parents=True)
            if launch_file:
                (tmp_path / "share" / name / "launch" / launch_file).write_text(GZ_SIM)

    monkeypatch.setenv("AMENT_PREFIX_PATH", f"{tmp_path}{os.pathsep}{os.environ['AMENT_PREFIX_PATH']}")
    return make


@pytest.fixture
def gazebo(packages) -> None:
    packages("ros_gz_bridge")
    packages("ros_gz_sim", launch_file="gz_sim.launch.py")


@pytest.mark.parametrize("name", NEEDED)
def test_every_argument_is_a_sentence_and_means_the_same_everywhere(name: str):
    of_the_policy = declared("policy")
    for argument in declared(name).values():
        assert argument.description.partition(" Valid choices")[0].endswith("."), argument.name
        if argument.name in ("namespace", "tokenizer", "artifact_dir", "log_level", "rviz"):
            assert argument.description == of_the_policy[argument.name].description


def test_choices_are_those_of_the_simulator():
    assert set(declared("sim")["family"].choices) == {"any", *FAMILIES}
    assert set(declared("sim")["scenario"].choices) == set(SCENARIOS)


def test_the_policy_starts_with_loader_and_diagnostics_wherever_it_is_included():
    assert sorted(started("policy")) == POLICY
    assert sorted(started("sim")) == [*POLICY, "tabletop_node"]
    assert sorted(started("replay")) == [*POLICY, "sqap-vla"]
    assert sorted(started("simpler")) == [*POLICY, "simpler_bridge_node"]
    assert sorted(started("simpler", simpler_python="/opt/simpler/bin/python")) == [
        *POLICY,
        "python",
        "simpler_bridge_node",
    ]


def test_arguments_reach_the_nodes_and_a_dry_run_is_the_nodes_own_default():
    nodes = started("policy", params_file="widowx.yaml", checkpoint="/models/c", instruction="pick", namespace="robot1")
    assert all(node["namespace"] == "robot1" for node in nodes.values())
    assert all(node["parameters"][0].endswith("config/widowx.yaml") for node in nodes.values())
    assert parameters(nodes["model_loader_node"]) == {"checkpoint": "/models/c"}
    assert parameters(nodes["policy_node"]) == {"instruction": "pick"}
    assert parameters(started("policy", dry_run="False")["policy_node"]) == {"dry_run": False}


@pytest.mark.parametrize("robot", ["tabletop_node", "simpler_bridge_node", "gazebo_arm_node"])
@pytest.mark.parametrize("space", ["", "robot1"])
def test_a_simulated_robot_hears_the_policys_live_commands_in_simulated_time(robot: str, space: str, gazebo):
    file = {"tabletop_node": "sim", "simpler_bridge_node": "simpler", "gazebo_arm_node": "gazebo"}[robot]
    nodes = started(file, namespace=space)
    assert {("command/twist", "policy/twist"), ("command/gripper", "policy/gripper")} <= set(nodes[robot]["remappings"])
    assert parameters(nodes["policy_node"])["dry_run"] is False
    assert all(parameters(nodes[name])["use_sim_time"] is True for name in POLICY)
    assert {nodes[name]["namespace"] for name in (*POLICY, robot)} == {space}


def test_without_gazebos_packages_the_error_says_how_to_install_them():
    with pytest.raises(RuntimeError, match="sudo apt install ros-jazzy-ros-gz"):
        started("gazebo")


def test_gazebo_runs_the_tabletop_with_its_bridge_and_ends_everything_when_it_ends(gazebo):
    nodes = started("gazebo")
    assert sorted(nodes) == sorted([*POLICY, "gz_sim", "gazebo_arm_node", "parameter_bridge"])
    world = str(SHARE / "config" / "gazebo_tabletop.sdf")
    assert parameters(nodes["gz_sim"]) == {"gz_args": f"-r {world}", "on_exit_shutdown": "true"}
    bridge = parameters(nodes["parameter_bridge"])
    assert bridge == {"config_file": str(SHARE / "config" / "gazebo_bridge.yaml"), "use_sim_time": True}
    # Frames are the arm's own defaults, which are those of the preset and of the world's camera.
    assert parameters(nodes["gazebo_arm_node"]) == {"use_sim_time": True}
    assert nodes["policy_node"]["parameters"][0].endswith("config/tabletop.yaml")
    assert parameters(nodes["policy_node"])["instruction"] == "pick up the red cube"


def test_a_world_comes_through_gazebos_shell_as_it_is_named(gazebo):
    given = parameters(started("gazebo", gui="false", world="/worlds/my kitchen; x.sdf")["gz_sim"])
    assert shlex.split(given["gz_args"]) == ["-r", "-s", "--headless-rendering", "/worlds/my kitchen; x.sdf"]


def test_the_task_of_simpler_chooses_the_preset_and_both_sides_know_the_socket():
    for task, preset in (("google_robot_move_near", "google_robot"), ("widowx_stack_cube", "widowx")):
        nodes = started("simpler", task=task, simpler_python="/opt/simpler/bin/python")
        assert nodes["policy_node"]["parameters"][0].endswith(f"config/{preset}.yaml")
        assert nodes["python"]["cmd"][2:4] == ["--socket", parameters(nodes["simpler_bridge_node"])["socket"]]


def test_a_replay_is_a_dry_run_on_the_bags_clock_that_misses_no_image():
    nodes = started("replay", image_transport="compressed", out="/tmp/out", namespace="elsewhere")
    assert parameters(nodes["policy_node"]) == {
        "image_transport": "compressed",
        "sensor_reliability": "reliable",
        "dry_run": True,
        "use_sim_time": True,
    }
    assert nodes["policy_node"]["namespace"] == ""  # where the player looks for it
    command = nodes["sqap-vla"]["cmd"]
    assert command[1:3] == ["replay", "/bags/one"]
    assert command[command.index("--config") + 1] == str(SHARE / "config" / "widowx.yaml")


@pytest.mark.parametrize("name", NEEDED)
def test_rviz_is_started_where_it_is_asked_for(name: str, packages, gazebo):
    assert "rviz2" not in started(name)
    with pytest.raises(RuntimeError, match=r"rviz:=true needs .* sudo apt install ros-jazzy-rviz2"):
        started(name, rviz="true")
    packages("rviz2")
    rviz = started(name, rviz="true")["rviz2"]
    assert rviz["arguments"] == ["-d", str(SHARE / "config" / "sqap_vla.rviz")]
    assert rviz["remappings"] == []
    assert parameters(rviz).get("use_sim_time", False) is (name != "policy")


def test_rviz_shows_the_policy_of_the_namespace(packages):
    packages("rviz2")
    shown = yaml.safe_load((SHARE / "config" / "sqap_vla.rviz").read_text())["Visualization Manager"]["Displays"]
    topics = {display["Topic"]["Value"] for display in shown if "Topic" in display}
    remappings = started("policy", rviz="true", namespace="/robot1")["rviz2"]["remappings"]
    assert set(remappings) == {(topic, f"/robot1{topic}") for topic in topics}


def test_the_launch_file_of_the_documentation_gives_the_policy_another_topic():
    page = (Path(__file__).resolve().parents[2] / "docs" / "presets.md").read_text()
    (snippet,) = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    written: dict[str, Any] = {}
    exec(snippet.replace("/path/my_robot.yaml", "widowx.yaml"), written)
    context, remaps = LaunchContext(), {}

    def visit(entities: Sequence[LaunchDescriptionEntity]) -> None:
        for entity in entities:
            if isinstance(entity, Node):
                remaps[entity.keywords["executable"]] = list(context.launch_configurations.get("ros_remaps", []))
            else:
                visit(entity.visit(context) or [])

    visit([written["generate_launch_description"]()])
    expected = ("/policy/joint_trajectory", "/joint_trajectory_controller/joint_trajectory")
    assert remaps["policy_node"] == [expected]


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("policy", {"rviz": "perhaps"}),
        ("policy", {"autostart": "1"}),
        ("policy", {"log_level": "loud"}),
        ("policy", {"params_file": "no_such.yaml"}),
        ("sim", {"family": "dance"}),
        ("sim", {"step_mode": "slowly"}),
        ("sim", {"seed": "one"}),
        ("simpler", {"socket": ""}),
        ("simpler", {"task": "humanoid_walk"}),
    ],
)
def test_what_an_argument_cannot_be_is_refused_by_name(name: str, wrong: dict[str, str]):
    with pytest.raises((ValueError, RuntimeError, FileNotFoundError)) as caught:
        started(name, **wrong)
    assert next(iter(wrong)) in str(caught.value)
