# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The finished venv: variables in a bare shell, stamps, entry points, and what a missing library is answered
with.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from ros_venv import activation, system
from ros_venv.builder import STAMP, Builder
from ros_venv.plan import Machine, Plan

ROOT = Path(__file__).resolve().parents[2]
made_by_builder = pytest.mark.skipif(
    not (Path(sys.prefix) / STAMP).exists(),
    reason="this interpreter's environment was not made by docker/ros_venv",
)


@made_by_builder
def test_a_bare_shell_gets_the_ros_environment(tmp_path: Path) -> None:
    code = "import os; print(os.environ['AMENT_PREFIX_PATH'], os.environ['FASTRTPS_DEFAULT_PROFILES_FILE'])"
    bare = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    found = subprocess.run([sys.executable, "-c", code], env=bare, capture_output=True, text=True, check=True)
    prefix, profile = found.stdout.split()
    assert Path(prefix).samefile(sys.prefix)
    assert Path(profile).name == "fastdds_shm.xml" and Path(profile).exists()


@made_by_builder
def test_variables_that_are_set_stay_and_prefixes_add_up(tmp_path: Path) -> None:
    code = "import os; print(os.environ['AMENT_PREFIX_PATH'], os.environ['MUJOCO_GL'])"
    bare = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
        "AMENT_PREFIX_PATH": "/opt/ros/jazzy",
        "MUJOCO_GL": "glfw",
    }
    found = subprocess.run([sys.executable, "-c", code], env=bare, capture_output=True, text=True, check=True)
    assert found.stdout.split() == [f"{sys.prefix}:/opt/ros/jazzy", "glfw"]


def test_activating_twice_written_is_written_once(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "activate").write_text("VIRTUAL_ENV=/v\n", encoding="utf-8")
    for _ in range(2):
        activation.write_environment(tmp_path, tmp_path, {"MUJOCO_GL": "egl"})
    text = (tmp_path / "bin" / "activate").read_text(encoding="utf-8")
    assert text.count("export AMENT_PREFIX_PATH") == 1
    shell = subprocess.run(
        ["bash", "-euc", f". {tmp_path}/bin/activate; echo $AMENT_PREFIX_PATH $MUJOCO_GL"],
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert shell.stdout.split() == ["/v", "egl"]


def test_a_directory_of_somebody_else_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    plan = Plan("wheels", False, False, (), ())
    with pytest.raises(RuntimeError, match="was not made by this builder"):
        Builder(ROOT, tmp_path, Machine(sys.version_info[:2]), plan).build(install_system_packages=False)
    assert (tmp_path / "thesis.tex").exists()


def test_missing_libraries_are_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "loadable", lambda *libraries: False)
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(system.MissingSystemPackages, match="apt-get install.*g[+][+].*libegl-mesa0"):
        system.ensure(compiler=True, install=False)
    assert system.offscreen_gl() == ""


def test_root_on_debian_gets_what_is_missing_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    apt = tmp_path / "apt-get"
    apt.write_text(f"#!/bin/sh\necho $* >> {tmp_path}/calls\n", encoding="utf-8")
    apt.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(system.os, "geteuid", lambda: 0)
    answers = iter([[system.OPENGL], []])
    monkeypatch.setattr(system, "missing", lambda compiler: next(answers))
    system.ensure(compiler=True, install=True)
    update, install = (tmp_path / "calls").read_text(encoding="utf-8").splitlines()
    assert update == "update"
    assert install.startswith("install -y") and install.endswith("libegl1 libegl-mesa0 libgl1-mesa-dri")


def test_a_robot_that_never_renders_needs_no_opengl(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(system, "missing", lambda compiler: [system.OPENGL])
    system.ensure(compiler=True, install=False)
    assert "apt-get install" in capsys.readouterr().err


def test_osmesa_serves_where_there_is_no_egl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "loadable", lambda *libraries: libraries == ("libOSMesa.so.8",))
    assert system.offscreen_gl() == "osmesa"
    # The dispatcher alone, without a driver, cannot render.
    monkeypatch.setattr(system, "loadable", lambda *libraries: libraries == ("libEGL.so.1",))
    assert system.offscreen_gl() == ""


def test_the_package_is_found_as_ros_finds_it() -> None:
    from ament_index_python.packages import get_package_prefix, get_package_share_directory

    share = Path(get_package_share_directory("sqap_vla"))
    assert (share / "package.xml").exists()
    assert (share / "config" / "fastdds_shm.xml").exists()
    launched = [name for _, _, names in os.walk(share) for name in names]  # as `ros2 launch` looks for a file
    assert {"policy.launch.py", "replay.launch.py"} <= set(launched)
    executables = {path.name for path in (Path(get_package_prefix("sqap_vla")) / "lib" / "sqap_vla").iterdir()}
    assert {
        "policy_node",
        "model_loader_node",
        "diagnostics_node",
        "tabletop_node",
        "sqap-vla",
    } <= executables


def test_a_venv_for_another_interpreter_gets_its_packages_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[tuple[str, ...]] = []
    monkeypatch.setattr(Builder, "_run", lambda self, *command, cwd=None: commands.append(command))
    monkeypatch.setattr(Builder, "_install_shims", lambda self: None)
    monkeypatch.setattr(Builder, "_install_package", lambda self: None)
    monkeypatch.setattr(system, "ensure", lambda compiler, install: None)
    plan = Plan("wheels", False, False, (("a-package",),), ("ros.txt",))
    venv = tmp_path / "venv"

    def build(identity: str) -> list[tuple[str, ...]]:
        monkeypatch.setattr(Builder, "_identity", lambda self: identity)
        commands.clear()
        Builder(ROOT, venv, Machine(sys.version_info[:2]), plan).build(install_system_packages=False)
        return list(commands)

    monkeypatch.setattr("ros_venv.activation.write_environment", lambda *arguments: None)
    first = build("python A")
    assert any("a-package" in command for command in first)
    (venv / "bin").mkdir()
    (venv / "bin" / "python").touch()
    assert build("python A") == []
    again = build("python B")
    assert ["venv" in command for command in again].count(True) == 1
    assert any("a-package" in command for command in again)
