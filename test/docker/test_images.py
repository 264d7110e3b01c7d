# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""docker/Dockerfile without building it: what it stands on, installs, copies and starts is there and pinned."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
from importlib.metadata import entry_points, packages_distributions
from pathlib import Path
from xml.etree import ElementTree

import image_rules as rules
import pytest
from dockerfile import Stage, parse, read
from ros_venv.plan import sourced_numpy

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "docker" / "Dockerfile"
IGNORE = (ROOT / "docker" / "Dockerfile.dockerignore").read_text()
REQUIREMENTS = ROOT / "docker" / "ros_venv" / "requirements"
# Under the NumPy of Ubuntu 24.04, which Jazzy is compiled against.
FOR_NUMPY_1 = dict(requirement.split("==") for requirement in sourced_numpy("1.26.4"))
# Imported where they are wanted, with a message where they are missing; `compression` is Python 3.14's backports.zstd.
OPTIONAL = {"ray", "rerun", "simpler_env", "mani_skill2_real2sim", "pynvml", "compression"}
# rosdep's keys for packages that the images take from PyPI, and ROS's module that is not named as its package
PYPI_OF_KEY = {"python3-opencv": "opencv-python-headless", "python3-pil": "pillow", "python3-yaml": "pyyaml"}
ROS_OF_MODULE = {"tf2_ros": "tf2_ros_py"}


@pytest.fixture(params=["robot", "jetson"])
def machine(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def stages(machine: str) -> list[Stage]:
    """The stages that make the image of one machine: its own base, and what stands on it."""
    read_stages = read(DOCKERFILE, MACHINE=machine)
    return [stage for stage in read_stages if stage.name not in {"robot", "jetson"} - {machine}]


def test_every_base_is_an_earlier_stage_or_has_a_version(stages: list[Stage]) -> None:
    assert not rules.unpinned_bases(stages)


def test_each_machine_has_its_own_base(machine: str, stages: list[Stage]) -> None:
    assert [stage.base for stage in stages if stage.name == "ros"] == [machine]
    assert {"robot": "nvidia/cuda:13.0", "jetson": "-py3-igpu"}[machine] in stages[0].base


def test_what_builds_stays_behind(stages: list[Stage]) -> None:
    build, runtime = stages[-2:]
    assert any("colcon" in " ".join(command) for command in build.commands)
    assert not rules.pip_installs([runtime])
    assert {copy.flag("from") for copy in runtime.all("COPY")} == {build.name, None}


def test_the_image_runs_as_a_user_of_its_own(stages: list[Stage]) -> None:
    assert not rules.runs_as_root(stages)


def test_nothing_is_downloaded_unchecked(stages: list[Stage]) -> None:
    assert not rules.downloads(stages)
    assert not [words for stage in stages for words in stage.commands if words[0] in ("curl", "wget")]


def test_what_is_copied_is_in_the_build_context(stages: list[Stage]) -> None:
    assert not rules.missing_sources(stages, ROOT, IGNORE)


def test_python_packages_have_the_versions_of_the_environment(stages: list[Stage]) -> None:
    assert not rules.unpinned_packages(stages, REQUIREMENTS, FOR_NUMPY_1)


def test_torch_is_the_pinned_one_except_where_the_base_brings_its_own(machine: str) -> None:
    build = next(stage for stage in read(DOCKERFILE, MACHINE=machine) if stage.name == "build")
    condition = f'[ "{machine}" = robot ]'
    assert any(condition in instruction.value for instruction in build.all("RUN"))
    assert any(rules.files_of(words, "-r", REQUIREMENTS) for words in rules.pip_installs([build]))
    assert any("torch.version.cuda" in instruction.value for instruction in build.all("RUN"))


def test_dependencies_of_the_package_are_installed(stages: list[Stage]) -> None:
    manifest = ElementTree.parse(ROOT / "package.xml").getroot()
    apt, pip = rules.installed_by_apt(stages), rules.installed_by_pip(stages, REQUIREMENTS)
    for key in (element.text for element in manifest.iter("exec_depend")):
        if key.startswith("python3-"):
            assert PYPI_OF_KEY.get(key, key.removeprefix("python3-")) in pip, key
        else:
            assert f"ros-jazzy-{key.replace('_', '-')}" in apt, key


@functools.cache
def imported() -> set[str]:
    """Top-level names of every module that the package's source imports, anywhere in it."""
    names = set()
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names.add(node.module.partition(".")[0])
    return names - set(sys.stdlib_module_names) - OPTIONAL - {"sqap_vla"}


def test_whatever_the_source_imports_is_installed(stages: list[Stage]) -> None:
    apt, pip = rules.installed_by_apt(stages), rules.installed_by_pip(stages, REQUIREMENTS)
    distributions = packages_distributions()
    missing = []
    for module in imported():
        from_ros = f"ros-jazzy-{ROS_OF_MODULE.get(module, module).replace('_', '-')}" in apt
        from_pip = pip & {rules.normal(name) for name in distributions.get(module, [])}
        if not from_ros and not from_pip and module != "triton":  # which torch brings, where it is for CUDA
            missing.append(module)
    assert not missing


def test_the_command_is_the_demo(stages: list[Stage]) -> None:
    (command,) = (instruction.words for instruction in stages[-1].all("CMD"))
    assert command == ["sqap-vla", "demo"]
    assert command[0] in {entry.name for entry in entry_points(group="console_scripts", module="sqap_vla.cli")}
    assert command[1] in commands_of_the_command_line()
    # colcon puts scripts into lib/sqap_vla (setup.cfg), and that must be on the path.
    assert f"{install_base(stages)}/lib/sqap_vla" in stages[-1].variables["PATH"].split(":")


@functools.cache
def commands_of_the_command_line() -> set[str]:
    shown = subprocess.run([sys.executable, "-m", "sqap_vla.cli", "--help"], capture_output=True, text=True, check=True)
    return set(re.findall(r"^    (\w+) ", shown.stdout, re.MULTILINE))


def install_base(stages: list[Stage]) -> str:
    (base,) = re.findall(r"--install-base (\S+)", " ".join(run.value for run in stages[-2].all("RUN")))
    return base


def test_the_install_is_copied_to_where_it_was_built(stages: list[Stage]) -> None:
    copied = [copy.words for copy in stages[-1].all("COPY") if copy.flag("from")]
    assert copied == [["/opt/venv"] * 2, [install_base(stages)] * 2]


@pytest.mark.parametrize("variable", ["FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE"])
def test_images_go_through_the_shared_memory_profile(stages: list[Stage], variable: str) -> None:
    profile = Path(stages[-1].variables[variable])
    assert profile.is_relative_to(f"{install_base(stages)}/share/sqap_vla/config")
    assert (ROOT / "config" / profile.name).is_file()


def test_the_entry_point_sources_ros_and_the_package(stages: list[Stage]) -> None:
    (entry,) = (instruction.words for instruction in stages[-1].all("ENTRYPOINT"))
    script = next(copy for copy in stages[-1].all("COPY") if copy.words[1].endswith(f"/{entry[0]}"))
    assert script.flag("chmod") == "755"
    path = ROOT / script.words[0]
    assert subprocess.run(["bash", "-n", path], check=False).returncode == 0
    sourced = re.findall(r"^source (\S+)$", path.read_text(), re.MULTILINE)
    assert sourced == ["/opt/ros/jazzy/setup.bash", f"{install_base(stages)}/setup.bash"]


GOOD = (
    "FROM a/b:1.2 AS one\nRUN pip install torch==2.13.0\nFROM one\nCOPY --from=one /x /x\nCOPY setup.py .\nUSER 1000\n"
)


@pytest.mark.parametrize(
    ("written", "instead"),
    [
        ("a/b:1.2", "a/b"),
        ("a/b:1.2", "a/b:latest"),
        ("a/b:1.2", "a:5000/b"),
        ("USER 1000", "USER root"),
        ("USER 1000", "USER 0:0"),
        ("USER 1000\n", ""),
        ("torch==2.13.0", "torch==2.12.0"),
        ("torch==2.13.0", "torch"),
        ("torch==2.13.0", "-r requirements/none.txt"),
        ("COPY setup.py .", "COPY setup.pie ."),
        ("COPY setup.py .", "COPY test test"),
        ("--from=one", "--from=two"),
        ("COPY setup.py .", "ADD https://example.org/x.tar ."),
    ],
)
def test_the_rules_find_a_fault(written: str, instead: str) -> None:
    def faults(text: str) -> list[str]:
        stages = parse(text)
        return [
            *rules.unpinned_bases(stages),
            *rules.runs_as_root(stages),
            *rules.downloads(stages),
            *rules.missing_sources(stages, ROOT, IGNORE),
            *rules.unpinned_packages(stages, REQUIREMENTS, {}),
        ]

    assert not faults(GOOD)
    assert len(faults(GOOD.replace(written, instead))) == 1
