# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Offline replay reads a parameter file as rcl reads it for a node; what it refuses.

The oracle is rcl itself: a node in a context of its own that is given the file on its command line.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

import rclpy
from rclpy.context import Context
from rclpy.node import Node

from sqap_vla.nodes.diagnostics import DiagnosticsParameters
from sqap_vla.nodes.parameter_files import RCLPY_PARAMETERS, build, read_parameter_file
from sqap_vla.nodes.parameters import ParameterError
from sqap_vla.nodes.policy_parameters import PolicyParameters
from sqap_vla.nodes.replay_feed import ReplayParameters
from sqap_vla.nodes.tabletop_parameters import TabletopParameters

CONFIG = Path(__file__).parents[2] / "config"
CLASSES = {
    "policy": PolicyParameters,
    "diagnostics": DiagnosticsParameters,
    "replay": ReplayParameters,
    "tabletop": TabletopParameters,
}


def as_rcl_reads(file: Path, node: str) -> dict[str, Any]:
    context = Context()
    rclpy.init(
        args=["--ros-args", "--params-file", str(file)], context=context, domain_id=int(os.environ["ROS_DOMAIN_ID"])
    )
    made = Node(
        node,
        context=context,
        start_parameter_services=False,
        enable_rosout=False,
        automatically_declare_parameters_from_overrides=True,
    )
    try:
        values = {name: parameter.value for name, parameter in made._parameters.items()}
    finally:
        made.destroy_node()
        rclpy.shutdown(context=context)
    values = {name: list(value) if hasattr(value, "tolist") else value for name, value in values.items()}
    return {name: value for name, value in values.items() if name not in RCLPY_PARAMETERS}


def with_types(values: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """5 and 5.0 are equal in Python and not in ROS; NaN is not equal to itself."""
    return {name: (type(value).__name__, repr(value)) for name, value in values.items()}


@pytest.mark.parametrize("name", ["widowx", "google_robot", "tabletop"])
@pytest.mark.parametrize("node", CLASSES)
def test_the_presets_are_read_as_rcl_reads_them_and_are_valid(name: str, node: str):
    values = read_parameter_file(CONFIG / f"{name}.yaml", node)
    assert with_types(values) == with_types(as_rcl_reads(CONFIG / f"{name}.yaml", node))
    if node == "policy":
        build(PolicyParameters, values, name).make_limits()
    else:
        build(CLASSES[node], values, name)


@pytest.mark.parametrize(
    "scalars",
    [
        "{a: 1e-3, b: 5, c: 5.0, d: 5., e: .5, f: +5, g: -1E3, h: 1.0e+3}",
        "{a: yes, b: off, c: 'on', d: True, e: y, f: nO, g: N}",
        "{a: 0x1F, b: 010, c: 00, d: 0, e: -0x10}",
        "\n    a: 1:30\n    b: 2024-01-01\n    c: 1_000\n    d: ~\n    e: 1f\n    f: null\n    g: ''\n    h: !!str 5",
        "{a: .inf, b: -.INF, c: .nan, d: inf, e: +.inf}",
        "{a: 0x1.8p3, b: 0X1P3, c: -0x.8, d: 0x1F.8, e: 0x1e5, f: 0x, g: 0b1, h: 1_0}",
        "{a: 1e400, b: -1e400, c: 1e-400, d: 1e-310, e: 0e400, f: 1e308}",
        "{a: 99999999999999999999, b: 9223372036854775808, c: -9223372036854775808, d: 0xFFFFFFFFFFFFFFFFFF}",
        "{a: 077777777777777777777777777, b: 08, c: infinity, d: -Infinity, e: nan(1), f: +.nan, g: -.nan, h: NaN}",
        "{a: [1, 2], b: [1.0, 2e0, .5], c: [x, 'y z'], d: [yes, off], e: ['1', x]}",
        "{a: {b: {c: 1}}, a.d: 2, on: 3, 1: 4}",
        "{a.b: 1, a: {b: 2}}",
        "{a: {b: 2}, a.b: 1}",
    ],
)
def test_scalars_have_the_type_that_rcl_gives_them(scalars: str, tmp_path: Path):
    """PyYAML alone takes 1e-3 for text, 1:30 for 90 and y for a letter."""
    file = tmp_path / "parameters.yaml"
    file.write_text(f"policy:\n  ros__parameters: {scalars}\n")
    assert with_types(read_parameter_file(file, "policy")) == with_types(as_rcl_reads(file, "policy"))


@pytest.mark.parametrize(
    "sections",
    [
        ["/**", "policy"],
        ["policy", "/**"],
        ["/**/policy", "/policy", "/**"],
        ["/policy", "/**/policy"],
        ["/**", "/**/policy", "policy", "/policy"],
        ["/*", "policy"],
        ["/robot/policy", "/*/policy", "/**/robot/policy"],
        ["/**/diagnostics", "policy2", "/**/policy"],
    ],
)
def test_sections_count_and_override_as_in_rcl(sections: list[str], tmp_path: Path):
    file = tmp_path / "parameters.yaml"
    file.write_text(
        "".join(
            f"{name}:\n  ros__parameters: {{x: {number}, own{number}: 1}}\n" for number, name in enumerate(sections)
        )
    )
    assert read_parameter_file(file, "policy") == as_rcl_reads(file, "policy")


def test_a_nested_name_is_the_same_as_one_with_slashes(tmp_path: Path):
    file = tmp_path / "parameters.yaml"
    file.write_text("/**: {policy: {ros__parameters: {x: 1}}}\nrobot: {policy: {ros__parameters: {x: 2}}}\n")
    assert read_parameter_file(file, "policy") == as_rcl_reads(file, "policy") == {"x": 1}


@pytest.mark.parametrize(
    "text, said",
    [
        ("", "holds no mapping"),
        ("- 1\n", "holds no mapping"),
        ("a: [1\n", "cannot be read"),
        ("policy: 5\n", "'policy' must hold ros__parameters"),
        ("policy: {ros__parameters: 5}\n", "'policy/ros__parameters' must hold"),
        ("policy: {ros__parameters: {x: }}\n", "parameter x has no value"),
        ("policy: {ros__parameters: {x: !!python/object:os.system a}}\n", "cannot be read"),
    ],
)
def test_a_file_without_parameters_says_what_is_wrong(text: str, said: str, tmp_path: Path):
    file = tmp_path / "parameters.yaml"
    file.write_text(text)
    with pytest.raises(ParameterError) as caught:
        read_parameter_file(file, "policy")
    assert said in str(caught.value) and str(file) in str(caught.value)


def test_a_missing_and_a_binary_file_say_so(tmp_path: Path):
    with pytest.raises(ParameterError, match=r"nowhere\.yaml cannot be read"):
        read_parameter_file(tmp_path / "nowhere.yaml", "policy")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ParameterError, match=r"binary\.yaml cannot be read"):
        read_parameter_file(tmp_path / "binary.yaml", "policy")


@pytest.mark.parametrize(
    "values, said",
    [
        ({"step_s": 1}, "step_s is 1; it is a DOUBLE: write 5.0, not 5"),
        ({"ddim_steps": 5.0}, "ddim_steps is 5.0; it is a INTEGER"),
        ({"limits.workspace_min_m": [0, 0, 0]}, "limits.workspace_min_m is [0, 0, 0]; it is a DOUBLE_ARRAY: write 5.0"),
        ({"dry_run": "false"}, "dry_run is 'false'; it is a BOOL"),
        ({"rate_hz": 0.0}, "rate_hz is 0.0; it must be from 1.0 to 500.0"),
        ({"rate_hz": float("nan")}, "rate_hz is nan"),
        ({"method": "magic"}, "method is 'magic'; it must be one of: dense, random"),
        ({"metod": "sqap"}, "unknown parameter metod; known are attention_share"),
        ({"score_layer": 3, "prune_layer": 3}, "score_layer is 3"),
        ({"ee_frame": "base_link"}, "both must be named, and differ"),
        ({"ee_points_m": [0.0, 1.0]}, "ee_points_m has 2 numbers"),
    ],
)
def test_values_are_held_to_the_rules_of_the_node(values: dict[str, Any], said: str):
    with pytest.raises(ParameterError) as caught:
        build(PolicyParameters, values, "robot.yaml")
    assert said in str(caught.value) and str(caught.value).startswith("robot.yaml: ")
