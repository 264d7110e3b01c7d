# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""docker/robot.yaml and docker/jetson.yaml: what they build, mount and start is there, and only one service moves."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import compose
import pytest
from dockerfile import Stage, read

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "docker"
FILES = {machine: DOCKER / f"{machine}.yaml" for machine in ("robot", "jetson")}
SERVICES = ("demo", "policy", "motion")


@pytest.fixture(params=FILES)
def machine(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=SERVICES)
def service(request: pytest.FixtureRequest, machine: str) -> dict[str, Any]:
    return compose.services(FILES[machine])[request.param]


@pytest.fixture
def runtime(machine: str) -> Stage:
    return read(DOCKER / "Dockerfile", MACHINE=machine)[-1]


def test_both_machines_have_the_same_services() -> None:
    assert all(tuple(compose.services(path)) == SERVICES for path in FILES.values())


def test_it_builds_the_image_of_its_machine(machine: str, service: dict[str, Any]) -> None:
    context = (DOCKER / service["build"]["context"]).resolve()
    assert context == ROOT
    dockerfile = context / service["build"]["dockerfile"]
    declared = set(re.findall(r"^ARG (\w+)", dockerfile.read_text(), re.MULTILINE))
    assert set(service["build"]["args"]) <= declared
    assert service["build"]["args"]["MACHINE"] == machine
    version = ElementTree.parse(ROOT / "package.xml").findtext("version")
    assert service["image"] == f"sqap_vla:{version}-{machine}"


def test_it_shares_network_and_memory_with_the_robot(service: dict[str, Any]) -> None:
    assert (service["network_mode"], service["ipc"]) == ("host", "host")


def test_it_has_a_gpu_and_no_rights_besides(machine: str, service: dict[str, Any]) -> None:
    if machine == "robot":
        (device,) = service["deploy"]["resources"]["reservations"]["devices"]
        assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])
    else:
        assert service["runtime"] == "nvidia" and "deploy" not in service
        assert service["environment"]["NVIDIA_VISIBLE_DEVICES"] == "all"
        assert len(service["group_add"]) == 2  # device files of the GPU are not for everybody
    assert service["cap_drop"] == ["ALL"] and service["security_opt"] == ["no-new-privileges:true"]
    assert not {"user", "privileged", "cap_add", "devices", "pid"} & set(service)


def test_what_it_mounts_is_there(machine: str, service: dict[str, Any], runtime: Stage) -> None:
    made = {word for words in runtime.commands if words[0] == "install" for word in words}
    for volume in service["volumes"]:
        if volume["type"] == "volume":
            assert volume["source"] in compose.volumes(FILES[machine])
            assert volume["target"] in made, "a volume takes its owner from the image's directory"
        else:
            assert volume["read_only"] and volume["bind"] == {"create_host_path": False}
            if not volume["source"].startswith("/"):
                assert (DOCKER / volume["source"]).is_dir()


def test_every_variable_is_in_the_example_with_its_default() -> None:
    lines = (DOCKER / "env.example").read_text().splitlines()
    example = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    used = {}
    for path in (*FILES.values(), DOCKER / "services.yaml"):
        assert path.read_text().count("${") == len(compose.VARIABLE.findall(path.read_text()))
        used |= compose.variables(path)
    assert example == used


def test_the_demo_is_the_command_of_the_image(machine: str) -> None:
    demo = compose.services(FILES[machine])["demo"]
    assert not {"command", "entrypoint", "profiles"} & set(demo)
    assert demo["restart"] == "no"


@pytest.mark.parametrize("name", ["policy", "motion"])
def test_the_launch_file_is_started_with_arguments_that_it_has(machine: str, name: str, runtime: Stage) -> None:
    service = compose.services(FILES[machine])[name]
    (entry,) = (instruction.words for instruction in runtime.all("ENTRYPOINT"))
    words = [*service["entrypoint"], *service["command"]]
    assert words[:4] == [*entry, "ros2", "launch", "sqap_vla"]
    launch_file, given = ROOT / "launch" / words[4], dict(word.split(":=") for word in words[5:])
    assert set(given) <= arguments_of(launch_file)
    mounted = {volume["target"]: volume["source"] for volume in service["volumes"]}
    assert (DOCKER / mounted["/config"] / Path(given["params_file"]).relative_to("/config")).is_file()
    assert all(Path(given[name]).is_relative_to("/models") for name in ("checkpoint", "tokenizer"))


def arguments_of(launch_file: Path) -> set[str]:
    """The keys of ARGUMENTS, without importing launch."""
    for node in ast.parse(launch_file.read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "ARGUMENTS":
            return {ast.literal_eval(key) for key in node.value.keys}
    raise AssertionError(f"{launch_file} has no ARGUMENTS")


def test_only_motion_moves_and_it_is_started_by_hand_alone(machine: str) -> None:
    named = compose.services(FILES[machine])
    assert named["policy"]["command"] == ["dry_run:=true"]
    assert named["policy"]["restart"] == "unless-stopped"
    assert named["motion"]["command"] == ["dry_run:=false"]
    assert named["motion"]["restart"] == "no"
    assert named["motion"]["profiles"] == ["motion"] and named["policy"]["profiles"] == ["policy"]
