# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The methods' own options as ROS parameters, made from what the methods say of themselves (runtime/methods).

An option on whose default all methods agree has that default; the others are unset, and then each method takes its
own. So a method's published values hold whatever the name, and a new method needs nothing here.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from rclpy.parameter import Parameter

from sqap_vla.nodes.parameters import parameter
from sqap_vla.quantization.options import QuantizationOptions
from sqap_vla.runtime.method import METHODS, method_options
from sqap_vla.runtime.methods.options import Points
from sqap_vla.runtime.methods.quantization import quantization_options
from sqap_vla.runtime.methods.registry import Keyword, common_options

KINDS = {
    float: Parameter.Type.DOUBLE,
    int: Parameter.Type.INTEGER,
    bool: Parameter.Type.BOOL,
    str: Parameter.Type.STRING,
    tuple[int, ...]: Parameter.Type.INTEGER_ARRAY,
    tuple[str, ...]: Parameter.Type.STRING_ARRAY,
    Points: Parameter.Type.DOUBLE_ARRAY,
}


def _parameter_name(option: str) -> str:
    return next(iter(method_options()[option].values())).option.parameter or option


PARAMETER_NAMES = {option: _parameter_name(option) for option in method_options()}


def _field(by_method: dict[str, Keyword]) -> Any:
    keyword = next(iter(by_method.values()))
    defaults = {name: described.default for name, described in by_method.items()}
    text = keyword.option.description + ("" if len(by_method) == len(METHODS) else f" For {', '.join(by_method)}.")
    default = keyword.default
    if len(set(defaults.values())) > 1:
        default = None
        text += f" Unset: {', '.join(f'{value:g} {name}' for name, value in defaults.items())}."
    elif keyword.kind == Points:
        default = tuple(number for point in default for number in point)
    option = keyword.option
    return parameter(
        default,
        text,
        kind=KINDS[keyword.kind],
        minimum=option.minimum,
        maximum=option.maximum,
        choices=option.choices,
        static=True,
    )


def _fields(options: dict[str, dict[str, Keyword]]) -> list[tuple[str, Any, Any]]:
    return [(PARAMETER_NAMES[option], Any, _field(by_method)) for option, by_method in options.items()]


# What the policy and the model loader have in common.
QuantizationParameters = dataclasses.make_dataclass(
    "QuantizationParameters",
    _fields({option: by_method for option, by_method in method_options().items() if option in common_options()}),
    frozen=True,
)
MethodParameters = dataclasses.make_dataclass("MethodParameters", _fields(method_options()), frozen=True)


def quantization_of(parameters: Any) -> QuantizationOptions:
    """From a QuantizationParameters. Raises ValueError for values that do not exist."""
    return quantization_options(**{option: getattr(parameters, PARAMETER_NAMES[option]) for option in common_options()})


def options_of(parameters: Any) -> dict[str, Any]:
    """Keywords for make_method from a MethodParameters; what is unset is None.

    Raises ValueError for incomplete points.
    """
    options = {}
    for option, by_method in method_options().items():
        name = PARAMETER_NAMES[option]
        value = getattr(parameters, name)
        if next(iter(by_method.values())).kind == Points:
            if len(value) % 3:
                raise ValueError(f"{name} has {len(value)} numbers; give x y z for each point")
            value = tuple(tuple(value[i : i + 3]) for i in range(0, len(value), 3))
        options[option] = value
    return options
