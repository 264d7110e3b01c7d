# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Parameters of a node as a dataclass: declared, described, held to their rules. On a real rclpy node.

Pinned: a refused `ros2 param set` says why and changes nothing; what is unset stays None; 5 for a double says 5.0.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

import rclpy
from rclpy.context import Context
from rclpy.node import Node
from rclpy.parameter import Parameter

from sqap_vla.nodes.diagnostics import DiagnosticsParameters
from sqap_vla.nodes.model_loader_parameters import ModelLoaderParameters
from sqap_vla.nodes.node_process import parameter_values
from sqap_vla.nodes.parameter_files import build
from sqap_vla.nodes.parameters import (
    ParameterError,
    checked,
    declare,
    on_change,
    parameter,
    ros_name,
    static_changes,
)
from sqap_vla.nodes.policy_parameters import PolicyParameters
from sqap_vla.nodes.replay_feed import ReplayParameters
from sqap_vla.nodes.tabletop_parameters import TabletopParameters

ALL = (PolicyParameters, DiagnosticsParameters, ModelLoaderParameters, ReplayParameters, TabletopParameters)


@dataclass(frozen=True)
class Example:
    rate_hz: float = parameter(20.0, "Rate [Hz].", minimum=1.0, maximum=500.0)
    count: int = parameter(3, "Count.", minimum=0, maximum=10)
    mode: str = parameter("fast", "Mode.", choices=("fast", "slow"))
    limit: float | None = parameter(
        None, "Limit.", kind=Parameter.Type.DOUBLE, name="limits.max", minimum=0.0, maximum=9.0
    )
    corner_m: tuple[float, ...] = parameter((), "Corner.", kind=Parameter.Type.DOUBLE_ARRAY)
    fixed: bool = parameter(True, "Fixed.", read_only=True)
    frame: str = parameter("base", "Frame.", static=True)

    def __post_init__(self) -> None:
        if self.mode == "slow" and self.rate_hz > 100.0:
            raise ValueError(f"rate_hz is {self.rate_hz}; a slow mode takes at most 100")


@pytest.fixture
def make_node() -> Iterator[Callable[..., Node]]:
    context = Context()
    rclpy.init(context=context, domain_id=int(os.environ["ROS_DOMAIN_ID"]))
    nodes: list[Node] = []

    def make(**overrides: Any) -> Node:
        given = [Parameter(name.replace("__", "."), value=value) for name, value in overrides.items()]
        nodes.append(
            Node(
                f"example_{len(nodes)}",
                context=context,
                parameter_overrides=given,
                start_parameter_services=False,
                enable_rosout=False,
            )
        )
        return nodes[-1]

    yield make
    for node in nodes:
        node.destroy_node()
    rclpy.shutdown(context=context)


class Watched:
    """A node whose parameters may change."""

    def __init__(self, node: Node) -> None:
        self.node, self.params = node, declare(node, Example)
        on_change(node, lambda: self.params, self.apply)

    def apply(self, params: Example) -> None:
        self.params = params

    def set(self, name: str, value: Any) -> tuple[bool, str]:
        (result,) = self.node.set_parameters([Parameter(name, value=value)])
        return result.successful, result.reason


def test_defaults_and_overrides(make_node: Callable[..., Node]):
    assert declare(make_node(), Example) == Example()
    params = declare(make_node(rate_hz=50.0, limits__max=2.0, corner_m=[1.0, 2.0, 3.0], mode="slow"), Example)
    assert params == Example(rate_hz=50.0, limit=2.0, corner_m=(1.0, 2.0, 3.0), mode="slow")


def test_what_has_no_default_stays_unset(make_node: Callable[..., Node]):
    params = declare(make_node(), Example)
    assert params.limit is None and params.corner_m == ()


def test_null_as_param_dump_writes_it_is_unset(make_node: Callable[..., Node]):
    """rcl reads it back as text, and the node that wrote it did not start with it."""
    node = make_node(limits__max="null", corner_m="null")
    assert declare(node, Example) == Example()
    assert node.get_parameter("limits.max").value is None
    assert build(Example, {"limits.max": "null"}, "a file") == Example()
    watched = Watched(make_node(limits__max=2.0))
    assert watched.set("limits.max", "null") == (True, "") and watched.params.limit is None


def test_descriptors_tell_description_range_choices_and_read_only(make_node: Callable[..., Node]):
    node = make_node()
    declare(node, Example)
    rate, count, mode, fixed = (node.describe_parameter(name) for name in ("rate_hz", "count", "mode", "fixed"))
    assert rate.description == "Rate [Hz]."
    assert (rate.floating_point_range[0].from_value, rate.floating_point_range[0].to_value) == (1.0, 500.0)
    assert (count.integer_range[0].from_value, count.integer_range[0].to_value) == (0, 10)
    assert "One of: fast, slow" in mode.description and mode.additional_constraints == "one of: fast, slow"
    assert fixed.read_only and not rate.read_only
    assert "Takes effect when the node is configured" in node.describe_parameter("frame").description


@pytest.mark.parametrize(
    "override, said",
    [
        ({"rate_hz": 5}, "rate_hz has the wrong type"),
        ({"rate_hz": 5}, "it is a DOUBLE: write 5.0, not 5"),
        ({"corner_m": [0, 0, 0]}, "it is a DOUBLE_ARRAY: write 5.0, not 5"),
        ({"limits__max": 1}, "limits.max is 1; it is a DOUBLE: write 5.0, not 5"),
        ({"count": 2.0}, "it is a INTEGER"),
        ({"fixed": "true"}, "it is a BOOL"),
        ({"rate_hz": 0.5}, "rate_hz"),
        ({"count": 11}, "count"),
        ({"limits__max": 9.5}, "limits.max"),
        ({"mode": "magic"}, "parameter mode is 'magic'; it must be one of: fast, slow"),
        ({"mode": "slow", "rate_hz": 200.0}, "a slow mode takes at most 100"),
    ],
)
def test_a_wrong_start_value_names_parameter_and_rule(make_node: Callable[..., Node], override: dict, said: str):
    with pytest.raises(ParameterError) as caught:
        declare(make_node(**override), Example)
    assert said in str(caught.value)


def test_a_change_arrives_and_a_wrong_one_is_refused_with_its_reason(make_node: Callable[..., Node]):
    watched = Watched(make_node())
    assert watched.set("rate_hz", 200.0) == (True, "")
    assert watched.params.rate_hz == 200.0
    refused = [
        ("mode", "slow", "a slow mode takes at most 100"),
        ("mode", "magic", "must be one of: fast, slow"),
        ("rate_hz", 0.0, ""),
        ("rate_hz", 7, ""),
        ("fixed", False, "read-only"),
    ]
    for name, value, said in refused:
        successful, reason = watched.set(name, value)
        assert not successful and said in reason and reason, (name, value)
    assert watched.params == Example(rate_hz=200.0)
    assert watched.node.get_parameter("mode").value == "fast", "refused for the node and for its parameter server"


def test_an_unset_limit_can_be_given_later(make_node: Callable[..., Node]):
    watched = Watched(make_node())
    assert watched.set("limits.max", 3.0) == (True, "")
    assert watched.params.limit == 3.0
    assert watched.set("corner_m", [1.0, 2.0]) == (True, "")
    assert watched.params.corner_m == (1.0, 2.0)


@pytest.mark.parametrize(
    "name, value, said",
    [
        ("limits.max", 1, "parameter limits.max is 1; it is a DOUBLE: write 5.0, not 5"),
        ("limits.max", "fast", "it is a DOUBLE"),
        ("limits.max", 9.5, "9.5"),
        ("limits.max", float("nan"), "nan"),
        ("corner_m", [1, 2], "it is a DOUBLE_ARRAY: write 5.0, not 5"),
        ("corner_m", 1.0, "it is a DOUBLE_ARRAY"),
    ],
)
def test_what_may_be_unset_has_its_type_and_range_all_the_same(
    make_node: Callable[..., Node], name: str, value: Any, said: str
):
    watched = Watched(make_node(limits__max=2.0))
    successful, reason = watched.set(name, value)
    assert not successful and said in reason
    assert watched.params == Example(limit=2.0)


def test_what_is_unset_can_be_asked_for_and_is_described_with_its_type(make_node: Callable[..., Node]):
    node = make_node()
    declare(node, Example)
    assert node.get_parameter("limits.max").value is None
    assert node.describe_parameter("limits.max").additional_constraints == "double, or unset"
    assert node.describe_parameter("corner_m").additional_constraints == "double array, or unset"


def test_two_changes_at_once_are_judged_together(make_node: Callable[..., Node]):
    watched = Watched(make_node(rate_hz=200.0))
    changes = [Parameter("mode", value="slow"), Parameter("rate_hz", value=50.0)]
    assert watched.node.set_parameters_atomically(changes).successful
    assert (watched.params.mode, watched.params.rate_hz) == ("slow", 50.0)


def test_parameters_of_others_pass(make_node: Callable[..., Node]):
    watched = Watched(make_node())
    assert watched.set("use_sim_time", True) == (True, "")
    assert watched.params == Example()


def test_a_second_declaration_reads_what_is_set_now(make_node: Callable[..., Node]):
    node = make_node()
    declare(node, Example)
    node.set_parameters([Parameter("count", value=7)])
    assert declare(node, Example).count == 7


def test_static_changes_names_those_and_only_those():
    assert static_changes(Example(), Example(rate_hz=30.0)) == []
    assert static_changes(Example(), Example(frame="world", count=4)) == ["frame"]


@pytest.mark.parametrize("cls", ALL)
def test_every_parameter_has_a_description_and_numbers_have_a_range(cls: type):
    for field in fields(cls):
        assert len(field.metadata["description"]) > 10 and "." in field.metadata["description"], field.name
        number = isinstance(field.default, (int, float)) and not isinstance(field.default, bool)
        low, high = field.metadata["minimum"], field.metadata["maximum"]
        assert not number or (low is not None and low <= field.default <= high), field.name


@pytest.mark.parametrize("cls", ALL)
def test_a_dataclass_of_ours_survives_the_way_through_a_node(make_node: Callable[..., Node], cls: type):
    values = {name.replace(".", "__"): value for name, value in parameter_values(cls()).items()}
    assert declare(make_node(**values), cls) == cls()


def test_unit_suffixes_are_explained_in_brackets():
    for cls in ALL:
        for field in fields(cls):
            for suffix, unit in (("_hz", "[Hz]"), ("_m_s", "[m/s]"), ("_ms", "[ms]"), ("_mb", "[MB]"), ("_px", "[px]")):
                if ros_name(field).endswith(suffix):
                    assert unit in field.metadata["description"], ros_name(field)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_numbers_must_be_finite_though_a_range_lets_nan_through(value: float):
    by_name = {field.name: field for field in fields(PolicyParameters)}
    with pytest.raises(ParameterError, match="max_image_age_s is nan; it must be finite|must be from"):
        checked(by_name["max_image_age_s"], value)
    with pytest.raises(ParameterError, match="workspace_min_m .* must be finite"):
        checked(by_name["workspace_min_m"], [0.0, value, 0.0])


@pytest.mark.parametrize("name", ["", "my camera", "camera/", "9camera"])
def test_what_is_no_topic_name_is_refused_with_the_parameter_named(name: str):
    with pytest.raises(ValueError, match=f"image_topic is '{name}'"):
        PolicyParameters(image_topic=name)


@pytest.mark.parametrize("name", ["max_chunk_age_s", "max_silence_s", "max_ee_age_s", "max_joint_age_s"])
def test_live_commands_end_within_two_seconds_whatever_is_set(name: str):
    PolicyParameters(dry_run=True, **{name: 5.0})
    PolicyParameters(dry_run=False, **{name: 2.0})
    with pytest.raises(ValueError, match=f"{name} is 2.1 s and dry_run is false; a robot that hears nothing more"):
        PolicyParameters(dry_run=False, **{name: 2.1})
