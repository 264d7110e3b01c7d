# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Reading ROS parameter files without a node, for offline replay: the same file, names and rules as for the live node.

As rcl reads them, for a node in the root namespace: a key is a node's full name, nested or with slashes, in which *
stands for one part and ** for any number; all sections that match count, a later one wins. Plain scalars follow rcl,
not PyYAML: 1e-3 is a number, 1:30 and 2024-01-01 are text. Source: rcl_yaml_param_parser, parse.c.
"""

from __future__ import annotations

import dataclasses
import math
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import yaml

from sqap_vla.nodes.parameters import ParameterError, checked, ros_name

T = TypeVar("T")
RCLPY_PARAMETERS = ("use_sim_time", "start_type_description_service")  # every node has them
_PLAIN = "!plain"
_WORDS = {
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"), True),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"), False),
}
_INTEGER = re.compile(r"[-+]?(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)")
_DECIMAL = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[-+]?[0-9]+)?", re.IGNORECASE)
_HEXADECIMAL = re.compile(r"[-+]?0x([0-9a-f]+\.?[0-9a-f]*|\.[0-9a-f]+)(p[-+]?[0-9]+)?", re.IGNORECASE)
_NO_NUMBER = re.compile(r"([-+]?)(\.?inf|infinity)|\.nan|[-+]?nan(\(\w*\))?", re.IGNORECASE)
_INT64 = range(-(2**63), 2**63)
_SMALLEST_NORMAL = sys.float_info.min


class _Plain(str):
    """A scalar without quotes, whose type is not yet decided."""


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = {None: [(_PLAIN, re.compile("", re.DOTALL))]}  # noqa: RUF012 as in its base class


_Loader.add_constructor(_PLAIN, lambda loader, node: _Plain(node.value))


def read_parameter_file(path: Path | str, node: str) -> dict[str, Any]:
    """Parameters of `node` in a YAML file, by ROS name with dots. Raises ParameterError."""
    try:
        document = yaml.load(Path(path).read_text(encoding="utf-8"), _Loader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())  # YAML's errors take several lines
        raise ParameterError(f"parameter file {path} cannot be read: {reason}") from error
    if not isinstance(document, dict):
        raise ParameterError(f"parameter file {path} holds no mapping; it must be '/**/{node}: ros__parameters: ...'")
    values: dict[str, Any] = {}
    try:
        for parts, parameters in _sections(document):
            if _matches(parts, node):
                values |= _flat(parameters)
    except ParameterError as error:
        raise ParameterError(f"parameter file {path}: {error}") from error
    return {name: value for name, value in values.items() if name not in RCLPY_PARAMETERS}


def read_assignments(assignments: Iterable[str]) -> dict[str, Any]:
    """NAME=VALUE each, the value as in a parameter file. Raises ParameterError."""
    values: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not (name and equals):
            raise ParameterError(f"'{assignment}' sets nothing; write NAME=VALUE, such as use_ring=false")
        try:
            values |= _flat({name: yaml.load(text, _Loader)})
        except yaml.YAMLError as error:
            raise ParameterError(f"parameter {name} is '{text}', which cannot be read: {error}") from error
    return values


def build(cls: type[T], values: dict[str, Any], source: str) -> T:
    """A parameter dataclass from values by ROS name.

    Raises ParameterError for unknown names, wrong types, values out of range.
    """
    fields = {ros_name(field): field for field in dataclasses.fields(cls)}
    unknown = sorted(set(values) - set(fields))
    if unknown:
        raise ParameterError(f"{source}: unknown parameter {', '.join(unknown)}; known are {', '.join(sorted(fields))}")
    try:
        return cls(**{fields[name].name: checked(fields[name], value) for name, value in values.items()})
    except ValueError as error:
        raise ParameterError(f"{source}: {error}") from error


def _sections(tree: dict[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Parts of a node's name and its parameters, in the order of the file."""
    for key, value in tree.items():
        if not isinstance(value, dict):
            raise ParameterError(f"'{'/'.join((*above, str(key)))}' must hold ros__parameters with a mapping")
        if key == "ros__parameters":
            yield above, value
        else:
            yield from _sections(value, (*above, *filter(None, str(key).split("/"))))


def _matches(parts: tuple[str, ...], node: str) -> bool:
    wildcards = {"**": r"(/\w+)*", "*": r"/\w+"}
    return bool(re.fullmatch("".join(wildcards.get(part, "/" + re.escape(part)) for part in parts), f"/{node}"))


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            flat |= _flat(value, name + ".")
        elif isinstance(value, list):
            flat[name] = [_typed(name, element) for element in value]
        else:
            flat[name] = _typed(name, value)
    return flat


def _typed(name: str, value: Any) -> Any:
    if not isinstance(value, _Plain):
        return value
    if not value:
        raise ParameterError(f"parameter {name} has no value; write '' for an empty text")
    if value in _WORDS:
        return _WORDS[value]
    if _INTEGER.fullmatch(value):
        octal = re.fullmatch(r"([-+]?)0([0-7]+)", value)
        integer = int(octal[1] + octal[2], 8) if octal else int(value, 0)
        if integer in _INT64:
            return integer
    number = _double(value)
    return str(value) if number is None else number


def _double(text: str) -> float | None:
    """As strtod reads all of it; None where it does not, or where the number is out of a double's range."""
    if _HEXADECIMAL.fullmatch(text):
        try:
            return float.fromhex(text)
        except OverflowError:
            return None
    if _DECIMAL.fullmatch(text):
        number = float(text)
        has_digits = re.search("[1-9]", re.split("e", text, flags=re.IGNORECASE)[0])
        in_range = math.isfinite(number) and (abs(number) >= _SMALLEST_NORMAL or not has_digits)
        return number if in_range else None
    special = _NO_NUMBER.fullmatch(text)
    if special is None:
        return None
    return float(special[1] + "inf") if special[2] else math.nan
