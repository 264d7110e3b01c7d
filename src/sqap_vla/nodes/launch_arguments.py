# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""What the launch files have in common: arguments that mean the same in each, and how their texts are read.

Imports no launch, so that it can be tested without it. An argument is what DeclareLaunchArgument takes beside a name.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ament_index_python.packages import PackageNotFoundError, get_package_prefix, get_package_share_directory

from sqap_vla.training.shipped import SHIPPED_POLICY

SHARE = Path(get_package_share_directory("sqap_vla"))


def argument(description: str, default: str | None = "", choices: Sequence[str] = ()) -> dict[str, Any]:
    """default: None where it must be given."""
    shown = {"choices": list(choices)} if choices else {}
    return {"description": description, "default_value": default, **shown}


NAMESPACE = argument("Namespace of the nodes and of their relative topics, such as /robot1.")
CHECKPOINT = argument("CogACT checkpoint directory, or an artifact directory. Empty: as the parameter file says.")
TABLETOP_CHECKPOINT = argument(
    "CogACT checkpoint directory, or an artifact directory. The default is the package's own small policy. Empty: as "
    "the parameter file says.",
    str(SHIPPED_POLICY),
)
TOKENIZER = argument("Hugging Face tokenizer: a tokenizer.json or a directory. Empty: the one beside the checkpoint.")
ARTIFACT_DIR = argument("Directory where the loader keeps the prepared model. Empty: ~/.cache/sqap_vla/artifacts/.")
LOG_LEVEL = argument(
    "How much the nodes say. Other libraries stay at info.", "info", ("debug", "info", "warn", "error", "fatal")
)
RVIZ = argument(
    "true: start RViz with the camera, the kept tokens, the commanded pose and the transforms. Needs rviz2.", "false"
)


def params_file(default: str, empty: str = "") -> dict[str, Any]:
    """empty: what an empty one means."""
    text = "Parameter file: a path, or the name of a preset (google_robot.yaml, widowx.yaml, tabletop.yaml)."
    return argument(f"{text} Empty: {empty}." if empty else text, default)


def boolean(name: str, text: str) -> bool:
    """Raises ValueError."""
    if text.lower() not in ("true", "false"):
        raise ValueError(f"{name} is '{text}'; it must be true or false")
    return text.lower() == "true"


def number(name: str, text: str, kind: type[int] | type[float] = int) -> int | float:
    """Raises ValueError."""
    try:
        return kind(text)
    except ValueError:
        raise ValueError(f"{name} is '{text}'; it must be {'an integer' if kind is int else 'a number'}") from None


def parameter_file(name: str) -> str:
    """Path of a file or preset. Raises FileNotFoundError."""
    tried = [Path(name), SHARE / "config" / name]
    for path in tried:
        if path.is_file():
            return str(path)
    raise FileNotFoundError(f"params_file '{name}' is neither {' nor '.join(map(str, tried))}")


def need(package: str, what: str, debian: str) -> None:
    """Raises RuntimeError where a ROS package is not installed, with the command that installs it."""
    try:
        get_package_prefix(package)
    except PackageNotFoundError as error:
        raise RuntimeError(f"{what} needs the ROS package {package}: sudo apt install {debian}") from error
