# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Find out what `plan` needs to know of this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from ros_venv.plan import Machine, PlanError

_ASK = """
import importlib.metadata, importlib.util, json
try:
    import rclpy  # found is not enough: a sourced ROS is on the path of every interpreter, and fits one
except ImportError:
    rclpy = None
try:
    numpy = importlib.metadata.version("numpy") if importlib.util.find_spec("numpy") else ""
except importlib.metadata.PackageNotFoundError:
    import numpy as module
    numpy = module.__version__
print(json.dumps({"rclpy": rclpy.__file__ if rclpy else "", "numpy": numpy}))
"""


def base_python() -> str:
    """The interpreter itself, also where this process runs in a virtual environment."""
    return getattr(sys, "_base_executable", "") or sys.executable


def look() -> Machine:
    """The facts of this interpreter in this shell."""
    version = (sys.version_info.major, sys.version_info.minor)
    torch_index = os.environ.get("TORCH_INDEX", "")
    distro = os.environ.get("ROS_DISTRO", "")
    if not distro:
        return Machine(version, torch_index=torch_index)
    answer = subprocess.run([base_python(), "-c", _ASK], capture_output=True, text=True, check=False)
    if answer.returncode:
        raise PlanError(f"{base_python()} does not start in the sourced environment:\n{answer.stderr}")
    found = json.loads(answer.stdout)
    return Machine(
        version, distro, os.environ.get("AMENT_PREFIX_PATH", ""), found["rclpy"], found["numpy"], torch_index
    )
