# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Make or refresh a venv by a plan, and skip what the stamps say is done.

Two stamps: `environment` (pins, this builder, the shims) and `package` (the package's own metadata and
installed data, and how this machine renders). A second run with nothing changed reads a few files and ends.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

from ros_venv import activation, system
from ros_venv.ament import register_package
from ros_venv.plan import Machine, Plan
from ros_venv.probe import base_python

HERE = Path(__file__).resolve().parent
INTERFACES = {"tf2_msgs": ("geometry_msgs", "std_msgs", "builtin_interfaces")}
PYTHON_SHIMS = ("tf2_py", "tf2_ros", "cv_bridge")
PACKAGE_FILES = ("setup.py", "setup.cfg", "package.xml", "config", "launch", "resource")
STAMP = "sqap_vla_stamp.json"


class Builder:
    """One venv for the package in `root`."""

    def __init__(self, root: Path, venv: Path, machine: Machine, plan: Plan) -> None:
        self.root, self.venv, self.machine, self.plan = root, venv, machine, plan
        self.python = venv / "bin" / "python"
        self.site = venv / "lib" / f"python{machine.python[0]}.{machine.python[1]}" / "site-packages"

    def build(self, install_system_packages: bool) -> bool:
        """Bring the venv up to date; False if it already was. Raises CalledProcessError,
        MissingSystemPackages.
        """
        system.ensure(self.plan.shims, install_system_packages)
        stamp = self._read_stamp()
        wanted = {
            "identity": self._identity(),
            "environment": self._environment_hash(),
            "package": self._package_hash(),
        }
        if stamp == wanted:
            return False
        if stamp.get("identity") != wanted["identity"] or not self.python.exists():
            self._create()
            stamp = {}  # nothing of what the old one held is there any more
        if stamp.get("environment") != wanted["environment"]:
            # Until the end only the identity holds: a build that is cut short must not look finished.
            self._write_stamp({"identity": wanted["identity"]})
            for arguments in self.plan.installs:
                self._pip(*arguments)
        activation.write_environment(self.venv, self.site, activation.variables(self.root, system.offscreen_gl()))
        if stamp.get("environment") != wanted["environment"] and self.plan.shims:
            self._install_shims()
        self._install_package()
        self._write_stamp(wanted)
        return True

    def _create(self) -> None:
        if self.venv.exists():
            if not (self.venv / STAMP).exists():
                raise RuntimeError(
                    f"{self.venv} exists and was not made by this builder; remove it, or choose another "
                    "directory with 'make VENV=DIR ...'"
                )
            shutil.rmtree(self.venv)
        self.venv.mkdir(parents=True)
        self._write_stamp({})  # first of all, so that one that is interrupted is known as ours
        options = ["--system-site-packages"] if self.plan.system_site_packages else []
        self._run(base_python(), "-m", "venv", *options, str(self.venv))

    def _install_shims(self) -> None:
        for name in PYTHON_SHIMS:
            shutil.rmtree(self.site / name, ignore_errors=True)
            shutil.copytree(
                HERE / "shims" / name,
                self.site / name,
                ignore=shutil.ignore_patterns("package.xml", "__pycache__"),
            )
            register_package(self.venv, name, HERE / "shims" / name / "package.xml")
        for name, dependencies in INTERFACES.items():
            self._run(
                str(self.python),
                "-m",
                "ros_venv.interfaces",
                str(HERE / "shims" / name),
                str(self.venv),
                *dependencies,
                cwd=HERE.parent,
            )

    def _install_package(self) -> None:
        self._pip("--no-deps", "--no-build-isolation", "--editable", str(self.root))
        entries = ConfigParser()
        distribution = next(self.site.glob("sqap_vla-*.dist-info"))
        entries.read(distribution / "entry_points.txt")
        activation.link_package(self.venv, self.root, "sqap_vla", list(entries["console_scripts"]))

    def _pip(self, *arguments: str) -> None:
        self._run(str(self.python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments)

    def _run(self, *command: str, cwd: Path | None = None) -> None:
        sys.stderr.write(f"+ {' '.join(command)}\n")
        environment = dict(os.environ)
        # Inherited from another wheels venv, this would keep ours from setting its library path.
        environment.pop("_ROS_WHEELS_BOOTSTRAP_COMPLETE", None)
        subprocess.run(command, check=True, cwd=cwd, env=environment, stdin=subprocess.DEVNULL)

    def _write_stamp(self, stamp: dict[str, str]) -> None:
        (self.venv / STAMP).write_text(json.dumps(stamp, indent=1), encoding="utf-8")

    def _read_stamp(self) -> dict[str, str]:
        try:
            return json.loads((self.venv / STAMP).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}

    def _identity(self) -> str:
        """What a venv cannot change in place: interpreter and mode."""
        return f"{os.path.realpath(base_python())} {sys.version.split()[0]} {self.plan.mode}"

    def _environment_hash(self) -> str:
        files = [HERE / "requirements" / name for name in self.plan.requirements]
        files += [path for path in HERE.rglob("*") if path.suffix in (".py", ".msg", ".xml")]
        return _digest(HERE, files, repr(self.plan.installs), str(self.root))

    def _package_hash(self) -> str:
        paths = [self.root / name for name in PACKAGE_FILES]
        files = [file for path in paths for file in (path.rglob("*") if path.is_dir() else [path])]
        return _digest(self.root, files, system.offscreen_gl())


def _digest(base: Path, files: list[Path], *more: str) -> str:
    digest = hashlib.sha256("\0".join(more).encode())
    for path in sorted(set(files)):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(f"\0{path.relative_to(base)}\0".encode() + path.read_bytes())
    return digest.hexdigest()
