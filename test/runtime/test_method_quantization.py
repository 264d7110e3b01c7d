# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Quantization is part of a method, and its options are every method's."""

from __future__ import annotations

from typing import Annotated

import pytest

from sqap_vla.quantization.options import QuantizationOptions
from sqap_vla.quantization.policy import PRESETS
from sqap_vla.quantization.quantizer import Granularity, Precision
from sqap_vla.quantization.rotation import Rotation
from sqap_vla.runtime.method import METHODS, Method, make_method
from sqap_vla.runtime.methods.options import Option
from sqap_vla.runtime.methods.registry import register

CAN_BE_QUANTIZED = [name for name in METHODS if name != "efficientvla"]


def test_the_paper_s_method_is_w4a4_and_the_baselines_are_as_published():
    assert {name: make_method(name).recipe for name in METHODS} == {
        **dict.fromkeys(METHODS, None),
        "sqap": PRESETS["default"],
    }


@pytest.mark.parametrize("name", CAN_BE_QUANTIZED)
def test_any_method_takes_any_precision(name: str):
    """The paper's Table 4 begins with dense, then adds W4A4, then one part of the selection after the other."""
    assert make_method(name, precision="bf16").recipe is None
    assert make_method(name, precision="w4a4").recipe == PRESETS["default"]
    recipe = make_method(name, precision="w4a8", rotation="none", granularity="tensor", group_size=64).recipe
    assert recipe.policy.precision is Precision.W4A8 and recipe.granularity is Granularity.TENSOR
    assert recipe.rotation == Rotation("none", fold_norms=False) and recipe.group_size == 64
    assert make_method(name, quantization_preset="paper").recipe == PRESETS["paper"]


@pytest.mark.parametrize("name", ["dense", "fastv"])
def test_a_detail_alone_quantizes_nothing(name: str):
    assert make_method(name, rotation="full", granularity="token", group_size=0).recipe is None


def test_rules_come_before_the_one_precision():
    recipe = make_method("dense", precision_rules=("*.down_proj=w8a8",)).recipe
    assert recipe.policy.precision_of("llm_backbone.llm.model.layers.0.mlp.down_proj") is Precision.W8A8
    assert recipe.policy.precision_of("llm_backbone.llm.model.layers.0.mlp.up_proj") is Precision.W4A4
    only = make_method("sqap", precision="bf16", precision_rules=("*.down_proj=w8a8",)).recipe
    assert only.policy.precision_of("llm_backbone.llm.model.layers.0.mlp.up_proj") is Precision.BF16


def test_the_float_network_of_efficientvla_is_not_quantized():
    assert make_method("efficientvla", precision="bf16").recipe is None
    with pytest.raises(
        ValueError, match="leaves out layers and MLP channels of the float network; leave precision unset"
    ):
        make_method("efficientvla", precision="w4a4")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"precision": "w3a3"}, "precision is 'w3a3'; known are w4a4, w4a8, w8a8, bf16"),
        ({"rotation": "random"}, "rotation is 'random'; known are none, qk_input, full"),
        ({"granularity": "row"}, "granularity is 'row'; known are tensor, token, channel"),
        ({"quantization_preset": "best"}, "quantization_preset is 'best'; known are default, calibrated, paper"),
        ({"group_size": -1}, "group_size is -1; it must be from 0 to 65536"),
        ({"precision_rules": ("*.down_proj",)}, "has no '='"),
    ],
)
def test_an_unknown_value_names_the_known_ones(options: dict, reason: str):
    with pytest.raises(ValueError, match=reason):
        make_method("sqap", **options)


def test_a_method_cannot_give_an_option_of_all_another_meaning():
    with pytest.raises(ValueError, match="precision of 'eighth' is an option that every method has already"):

        @register("eighth", summary="")
        def eighth(*, precision: Annotated[int, Option("Something else.")] = 1) -> Method:
            return Method()


def test_what_is_asked_for_is_said_in_words():
    assert str(QuantizationOptions()) == "nothing"
    assert str(QuantizationOptions(precision="w4a8", rules=("a=w4a4",))) == "precision w4a8, rules ('a=w4a4',)"
