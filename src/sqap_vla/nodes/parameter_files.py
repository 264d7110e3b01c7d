# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Reading ROS parameter files without a node, for offline replay: the same file, names and rules as for the live node.

Keys are those of rcl: a node's name with or without /, and /** before it or alone, which match in any namespace.
"""
from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, TypeVar

import yaml

from sqap_vla.nodes.parameters import ParameterError, checked, ros_name

T = TypeVar("T")
RCLPY_PARAMETERS = ("use_sim_time", "start_type_description_service")  # every node has them


def read_parameter_file(path: Path | str, node: str) -> dict[str, Any]:
    """Parameters of `node` in a YAML file, by ROS name with dots. Raises ParameterError."""
    try:
        document = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ParameterError(f"parameter file {path} cannot be read: {error}") from error
    if not isinstance(document, dict):
        raise ParameterError(f"parameter file {path} holds no mapping; it must be '/**/{node}: ros__parameters: ...'")
    values: dict[str, Any] = {}
    for key in ("/**", node, f"/{node}", f"/**/{node}"):  # a later one is the more specific
        section = document.get(key) or {}
        parameters = section.get("ros__parameters", {}) if isinstance(section, dict) else None
        if not isinstance(parameters, dict):
            raise ParameterError(f"parameter file {path}: '{key}' must hold ros__parameters with a mapping")
        values |= _flat(parameters)
    return {name: value for name, value in values.items() if name not in RCLPY_PARAMETERS}


def build(cls: type[T], values: dict[str, Any], source: str) -> T:
    """A parameter dataclass from values by ROS name. Raises ParameterError for unknown names, wrong types, values out of range."""
    fields = {ros_name(field): field for field in dataclasses.fields(cls)}
    unknown = sorted(set(values) - set(fields))
    if unknown:
        raise ParameterError(f"{source}: unknown parameter {', '.join(unknown)}; known are {', '.join(sorted(fields))}")
    try:
        return cls(**{fields[name].name: checked(fields[name], value) for name, value in values.items()})
    except ValueError as error:
        raise ParameterError(f"{source}: {error}") from error


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        flat |= _flat(value, name + ".") if isinstance(value, dict) else {name: value}
    return flat
