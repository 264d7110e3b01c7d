# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The methods' options as ROS parameters: every one is there, described, typed, and reaches the method."""

from __future__ import annotations

import dataclasses
from argparse import Namespace
from pathlib import Path

import pytest

from sqap_vla.nodes.method_parameters import PARAMETER_NAMES, MethodParameters
from sqap_vla.nodes.parameter_files import build, read_assignments
from sqap_vla.nodes.parameters import ParameterError
from sqap_vla.nodes.policy_parameters import PolicyParameters
from sqap_vla.nodes.replay import read_config
from sqap_vla.runtime.method import METHODS, make_method, method_options


def policy(**values: object) -> PolicyParameters:
    return build(PolicyParameters, values, "test")


@pytest.mark.parametrize("name", METHODS)
def test_unset_parameters_give_the_method_with_its_own_defaults(name: str):
    assert policy(method=name).make_method() == make_method(name)


def test_every_option_is_a_parameter_with_description_and_methods():
    fields = {field.name: field for field in dataclasses.fields(MethodParameters)}
    assert set(fields) == set(PARAMETER_NAMES.values()) and PARAMETER_NAMES["ratio"] == "pruning_ratio"
    for option, by_method in method_options().items():
        description = fields[PARAMETER_NAMES[option]].metadata["description"]
        assert len(by_method) == len(METHODS) or all(name in description for name in by_method)


def test_a_default_that_differs_between_methods_is_unset_and_told():
    field = next(field for field in dataclasses.fields(MethodParameters) if field.name == "prune_layer")
    assert field.default is None
    assert "Unset: 3 random, 2 fastv, 2 efficientvla, 3 sqap." in field.metadata["description"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"method": "sqap", "pruning_ratio": 0.5}, make_method("sqap", ratio=0.5)),
        ({"method": "sqap", "use_ring": False, "use_fps": False}, make_method("sqap", use_ring=False, use_fps=False)),
        (
            {"method": "sqap", "ee_points_m": [0.0] * 5 + [0.1]},
            make_method("sqap", ee_points_m=((0, 0, 0), (0, 0, 0.1))),
        ),
        ({"method": "fastv", "prune_layer": 3}, make_method("fastv", prune_layer=3)),
        ({"method": "vla_cache", "reuse_layers": [1, 2]}, make_method("vla_cache", reuse_layers=(1, 2))),
        ({"method": "efficientvla", "layers_dropped": [3]}, make_method("efficientvla", layers_dropped=(3,))),
        ({"method": "dense", "use_ring": False}, make_method("dense")),
    ],
)
def test_a_parameter_reaches_its_method(values: dict[str, object], expected: object):
    assert policy(**values).make_method() == expected


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"method": "dense", "static_tokens": 257}, "static_tokens is 257; it must be from 0 to 256"),
        ({"method": "sqap", "use_fps": False, "use_attention": False}, "both off"),
        ({"reuse_layers": [2.0]}, "reuse_layers is [2.0]; it is a INTEGER_ARRAY"),
        ({"use_ring": 1}, "use_ring is 1; it is a BOOL"),
    ],
)
def test_wrong_values_are_refused(values: dict[str, object], said: str):
    with pytest.raises(ParameterError) as caught:
        policy(**values)
    assert said in str(caught.value)


class TestAssignments:
    def test_values_are_typed_as_in_a_parameter_file(self):
        values = read_assignments(["use_ring=false", "pruning_ratio=0.5", "limits.max_linear_m_s=1e-1", "prune_layer=4",
                                   "reuse_layers=[2, 6]", "instruction=open = close"])  # fmt: skip
        assert values == {"use_ring": False, "pruning_ratio": 0.5, "limits.max_linear_m_s": 0.1, "prune_layer": 4,
                          "reuse_layers": [2, 6], "instruction": "open = close"}  # fmt: skip

    @pytest.mark.parametrize("text", ["use_ring", "=3", ""])
    def test_what_sets_nothing_is_refused(self, text: str):
        with pytest.raises(ParameterError, match="write NAME=VALUE"):
            read_assignments([text])

    def test_they_win_over_the_other_arguments_of_replay(self):
        args = Namespace(config=None, checkpoint=Path("any"), tokenizer=None, seed=None, method="fastv",
                         unnorm_key=None, instruction=None, set=["pruning_ratio=0.5", "method=random"])  # fmt: skip
        assert read_config(args)[0].make_method() == make_method("random", ratio=0.5)
