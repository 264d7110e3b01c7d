# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""What every launch file would start, with upstream's launch; nothing is started.

Without launch_ros this is skipped; test/nodes/test_launch_arguments.py covers how arguments are read.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

pytest.importorskip("launch_ros", reason="launch_ros is not installed; see test/nodes/test_launch_arguments.py")

from ament_index_python.packages import get_package_share_directory
from launch.actions import DeclareLaunchArgument, ExecuteProcess
from launch.launch_description_entity import LaunchDescriptionEntity
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch_ros.actions import Node

from launch import LaunchContext, LaunchDescription
from sqap_vla.sim import FAMILIES, SCENARIOS

NEEDED = {
    "policy": {},
    "sim": {},
    "replay": {"bag": "/bags/one", "checkpoint": "/models/a"},
    "simpler": {"socket": "/tmp/a_socket"},
    "gazebo": {},
}
POLICY = ["diagnostics_node", "model_loader_node", "policy_node"]


def description(name: str, context: LaunchContext) -> LaunchDescription:
    file = f"{get_package_share_directory('sqap_vla')}/launch/{name}.launch.py"
    return PythonLaunchDescriptionSource(file).get_launch_description(context)


def declared(name: str) -> dict[str, DeclareLaunchArgument]:
    return {argument.name: argument for argument in description(name, LaunchContext()).get_launch_arguments()}


def started(name: str, **given: str) -> list[str]:
    """Executables of the nodes, and the first words of other commands, of the file and of what it includes."""
    context = LaunchContext()
    context.launch_configurations.update(NEEDED[name] | given)
    found: list[str] = []

    def visit(entities: Sequence[LaunchDescriptionEntity]) -> None:
        for entity in entities:
            if isinstance(entity, Node):
                found.append(entity.node_executable)
            elif isinstance(entity, ExecuteProcess):
                found.append(Path(entity.cmd[0][0].perform(context)).name)
            else:
                visit(entity.visit(context) or [])

    visit([description(name, context)])
    return sorted(found)


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
                text = "import launch\ndef generate_launch_description(): return launch.LaunchDescription([])"
                (tmp_path / "share" / name / "launch" / launch_file).write_text(text)

    monkeypatch.setenv("AMENT_PREFIX_PATH", f"{tmp_path}{os.pathsep}{os.environ['AMENT_PREFIX_PATH']}")
    return make


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
    assert started("policy") == POLICY
    assert started("sim") == [*POLICY, "tabletop_node"]
    assert started("replay") == [*POLICY, "sqap-vla"]
    assert started("simpler") == [*POLICY, "simpler_bridge_node"]
    assert started("simpler", simpler_python="/opt/simpler/bin/python") == [*POLICY, "python", "simpler_bridge_node"]


def test_gazebo_gets_bridge_arm_and_policy(packages):
    with pytest.raises(RuntimeError, match="sudo apt install ros-jazzy-ros-gz"):
        started("gazebo")
    packages("ros_gz_bridge")
    packages("ros_gz_sim", launch_file="gz_sim.launch.py")
    assert started("gazebo") == sorted([*POLICY, "gazebo_arm_node", "parameter_bridge"])


@pytest.mark.parametrize("name", ["policy", "sim", "replay", "simpler"])
def test_rviz_is_started_where_it_is_asked_for_and_there(name: str, packages):
    with pytest.raises(RuntimeError, match=r"rviz:=true needs .* sudo apt install ros-jazzy-rviz2"):
        started(name, rviz="true")
    packages("rviz2")
    assert "rviz2" in started(name, rviz="true")


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("policy", {"rviz": "perhaps"}),
        ("policy", {"autostart": "1"}),
        ("policy", {"log_level": "loud"}),
        ("policy", {"params_file": "no_such.yaml"}),
        ("sim", {"family": "dance"}),
        ("sim", {"step_mode": "slowly"}),
        ("simpler", {"socket": ""}),
        ("simpler", {"task": "humanoid_walk"}),
    ],
)
def test_what_an_argument_cannot_be_is_refused_by_name(name: str, wrong: dict[str, str]):
    with pytest.raises((ValueError, RuntimeError, FileNotFoundError)) as caught:
        started(name, **wrong)
    assert next(iter(wrong)) in str(caught.value)
