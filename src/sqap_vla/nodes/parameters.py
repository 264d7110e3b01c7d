# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Parameters of a node as one frozen dataclass that declares itself.

A field made with `parameter(...)` becomes a ROS parameter with description, range and read-only flag, so that `ros2
param describe` shows them. The dataclass's `__post_init__` holds the rules between fields; a `ros2 param set` that
breaks one is refused with its reason, and the node never sees it.

    @dataclass(frozen=True)
    class CameraParameters:
        rate_hz: float = parameter(20.0, "Rate of the command timer [Hz].", minimum=1.0, maximum=500.0)

A default of None means: no default, stays unset (None) until someone gives it; `kind` then names the type.
"""

from __future__ import annotations

import dataclasses
import math
from array import array
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter

T = TypeVar("T")
UNSET_TEXT = "null"  # how `ros2 param dump` writes what is unset; rcl reads it back as this text
_ARRAYS = (Parameter.Type.DOUBLE_ARRAY, Parameter.Type.STRING_ARRAY, Parameter.Type.INTEGER_ARRAY)


class ParameterError(ValueError):
    """A parameter has a wrong type or value; the message names it, the rule and the remedy."""


def parameter(
    default: Any,
    description: str,
    *,
    name: str | None = None,
    kind: Parameter.Type | None = None,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: Iterable[str] = (),
    read_only: bool = False,
    static: bool = False,
) -> Any:
    """A dataclass field that is a ROS parameter.

    name: where the ROS name has dots. kind: where the default is None or (). minimum, maximum: both or none.
    read_only: set at start only. static: takes effect when the node is configured; may be set before that, not while
    it is (see `static_changes`).
    """
    if static:
        description += " Takes effect when the node is configured."
    choices = tuple(choices)
    if choices:
        description = f"{description} One of: {', '.join(choices)}."
    metadata = {
        "ros_name": name,
        "kind": kind,
        "description": description,
        "minimum": minimum,
        "maximum": maximum,
        "choices": choices,
        "read_only": read_only,
        "static": static,
    }
    return dataclasses.field(default=default, metadata=metadata)


def ros_name(field: dataclasses.Field) -> str:
    return field.metadata["ros_name"] or field.name


def _kind(field: dataclasses.Field) -> Parameter.Type:
    return field.metadata["kind"] or Parameter.Type.from_parameter_value(field.default)


def _may_be_unset(field: dataclasses.Field) -> bool:
    return field.default is None or field.default == ()


def _descriptor(field: dataclasses.Field) -> ParameterDescriptor:
    meta = field.metadata
    descriptor = ParameterDescriptor(
        name=ros_name(field), description=meta["description"], read_only=meta["read_only"], type=_kind(field).value
    )
    if meta["choices"]:
        descriptor.additional_constraints = "one of: " + ", ".join(meta["choices"])
    if _may_be_unset(field):
        # Typed by us: rclpy answers a request for all values with none where one of them is typed and unset.
        descriptor.dynamic_typing = True
        descriptor.additional_constraints = f"{_kind(field).name.lower().replace('_', ' ')}, or unset"
    if meta["minimum"] is not None:
        if _kind(field) is Parameter.Type.INTEGER:
            descriptor.integer_range = [IntegerRange(from_value=int(meta["minimum"]), to_value=int(meta["maximum"]))]
        else:
            descriptor.floating_point_range = [
                FloatingPointRange(from_value=float(meta["minimum"]), to_value=float(meta["maximum"]))
            ]
    return descriptor


def _from_ros(field: dataclasses.Field, value: Any) -> Any:
    if value is not None and _kind(field) in _ARRAYS:
        value = tuple(value)
    for number in value if isinstance(value, tuple) else (value,):
        if isinstance(number, float) and not math.isfinite(number):  # a range lets NaN through
            raise ParameterError(f"parameter {ros_name(field)} is {value}; it must be finite")
    choices = field.metadata["choices"]
    if choices and value not in choices:
        raise ParameterError(f"parameter {ros_name(field)} is '{value}'; it must be one of: {', '.join(choices)}")
    return value


def _received(field: dataclasses.Field, value: Any) -> Any:
    """A value that came through rcl, which has checked it unless it may be unset. Raises ParameterError."""
    if not _may_be_unset(field):
        return _from_ros(field, value)
    if value in (None, UNSET_TEXT):
        return field.default
    return checked(field, value.tolist() if isinstance(value, array) else value)


_TYPES: dict[Parameter.Type, tuple[type, ...]] = {
    Parameter.Type.BOOL: (bool,),
    Parameter.Type.INTEGER: (int,),
    Parameter.Type.DOUBLE: (float,),
    Parameter.Type.STRING: (str,),
}


def checked(field: dataclasses.Field, value: Any) -> Any:
    """A value that did not come through rcl, held to the same type and range. Raises ParameterError."""
    kind, name, meta = _kind(field), ros_name(field), field.metadata
    if _may_be_unset(field) and value == UNSET_TEXT:
        return field.default
    element = {
        Parameter.Type.DOUBLE_ARRAY: float,
        Parameter.Type.STRING_ARRAY: str,
        Parameter.Type.INTEGER_ARRAY: int,
    }.get(kind)
    fits = (
        (isinstance(value, (list, tuple)) and all(type(v) is element for v in value))
        if element
        else type(value) in _TYPES[kind]
    )
    if not fits:
        raise ParameterError(f"parameter {name} is {value!r}; it is a {kind.name}" + _hint(kind))
    low, high = meta["minimum"], meta["maximum"]
    if low is not None and not low <= value <= high:
        raise ParameterError(f"parameter {name} is {value}; it must be from {low} to {high}")
    return _from_ros(field, value)


def _hint(kind: Parameter.Type) -> str:
    return ": write 5.0, not 5" if kind in (Parameter.Type.DOUBLE, Parameter.Type.DOUBLE_ARRAY) else ""


def declare(node: Node, cls: type[T]) -> T:
    """Declares every field of `cls` on the node and returns the values. Raises ParameterError."""
    values = {}
    for field in dataclasses.fields(cls):
        name = ros_name(field)
        try:
            if not node.has_parameter(name):  # a node that is configured again has declared them already
                node.declare_parameter(name, None if _may_be_unset(field) else field.default, _descriptor(field))
                if _may_be_unset(field) and node.get_parameter(name).value == UNSET_TEXT:
                    node.undeclare_parameter(name)
                    node.declare_parameter(name, None, _descriptor(field), ignore_override=True)
        except InvalidParameterTypeException as error:
            raise ParameterError(
                f"parameter {name} has the wrong type ({error}); it is a {_kind(field).name}" + _hint(_kind(field))
            ) from error
        except InvalidParameterValueException as error:
            raise ParameterError(f"parameter {name}: {error}") from error
        values[field.name] = _received(field, node.get_parameter(name).value)
    try:
        return cls(**values)
    except ValueError as error:
        raise ParameterError(str(error)) from error


def updated(current: T, changes: list[Parameter]) -> T:
    """`current` with the changed parameters. Raises ValueError with the reason where the result breaks a rule."""
    by_name = {ros_name(field): field for field in dataclasses.fields(current)}
    values = {by_name[p.name].name: _received(by_name[p.name], p.value) for p in changes if p.name in by_name}
    return dataclasses.replace(current, **values) if values else current


def static_changes(current: T, new: T) -> list[str]:
    """Names of the static parameters in which two values of a dataclass differ."""
    return [
        ros_name(field)
        for field in dataclasses.fields(current)
        if field.metadata["static"] and getattr(current, field.name) != getattr(new, field.name)
    ]


def on_change(node: Node, get: Callable[[], T], apply: Callable[[T], None]) -> None:
    """Accepts or refuses `ros2 param set` by the dataclass's own rules; `apply` gets the new values."""

    def callback(changes: list[Parameter]) -> SetParametersResult:
        try:
            apply(updated(get(), changes))
        except ValueError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    node.add_on_set_parameters_callback(callback)
