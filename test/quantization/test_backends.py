# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Backends multiply the same integers to the last bit; a wrong or absent one is never used."""

from __future__ import annotations

import logging

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sqap_vla.quantization.backends import Backend, registry
from sqap_vla.quantization.backends.int8 import Int8Backend
from sqap_vla.quantization.backends.reference import ReferenceBackend
from sqap_vla.quantization.backends.registry import BackendError, select_backend, self_test
from sqap_vla.quantization.packing import IntegerWeight
from sqap_vla.quantization.quantizer import (
    ActivationSpec,
    Granularity,
    WeightSpec,
    largest,
    quantize_input,
    quantize_weight,
)

CPU = torch.device("cpu")
PRECISIONS = [(4, 4), (4, 8), (8, 8)]


def integers(bits: int, *shape: int, seed: int = 0) -> Tensor:
    limit = largest(bits)
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-limit, limit + 1, shape, generator=generator, dtype=torch.int8)


@pytest.fixture
def fresh_registry(monkeypatch):
    monkeypatch.setattr(registry, "_backends", list(registry._backends))
    registry._select.cache_clear()
    yield
    registry._select.cache_clear()


class TestAccumulators:
    @given(
        tokens=st.integers(1, 40),
        inputs=st.integers(1, 40).map(lambda n: 2 * n),
        outputs=st.integers(1, 40),
        precision=st.sampled_from(PRECISIONS),
        seed=st.integers(0, 2**31),
    )
    @settings(max_examples=60, deadline=None)
    def test_int8_equals_the_reference_at_every_shape(self, tokens, inputs, outputs, precision, seed):
        weight_bits, input_bits = precision
        x = integers(input_bits, tokens, inputs, seed=seed)
        weight = IntegerWeight.from_values(integers(weight_bits, outputs, inputs, seed=seed + 1), weight_bits)
        expected = ReferenceBackend().accumulate(x, weight)
        assert expected.dtype == torch.int32
        assert torch.equal(Int8Backend().accumulate(x, weight), expected)

    @pytest.mark.parametrize("precision", PRECISIONS)
    def test_no_sum_saturates_with_everything_at_the_limit(self, precision):
        """11008 inputs at the limit: 177,546,032 in 8 bits, where pairs summed in 16 bits would saturate."""
        weight_bits, input_bits = precision
        limit = largest(weight_bits) * largest(input_bits)
        values = torch.full((1030, 11008), largest(weight_bits), dtype=torch.int8)
        weight = IntegerWeight.from_values(values, weight_bits)
        x = torch.full((18, 11008), largest(input_bits), dtype=torch.int8)
        x[1] *= -1
        for backend in (Int8Backend(), ReferenceBackend()):
            sums = backend.accumulate(x, weight)
            assert (sums[0] == 11008 * limit).all()
            assert (sums[1] == -11008 * limit).all()

    def test_the_reference_equals_python_integers(self):
        x, values = integers(8, 3, 10), integers(8, 4, 10, seed=1)
        sums = ReferenceBackend().accumulate(x, IntegerWeight.from_values(values, 8))
        assert sums.tolist() == [
            [sum(a * b for a, b in zip(row, column, strict=True)) for column in values.tolist()] for row in x.tolist()
        ]


class TestLinear:
    @pytest.mark.parametrize("group_size", [None, 64])
    @pytest.mark.parametrize("precision", PRECISIONS)
    def test_backends_agree_to_the_last_bit_and_with_the_float_product(self, precision, group_size):
        torch.manual_seed(0)
        weight_bits, input_bits = precision
        quantized = quantize_weight(torch.randn(40, 192), WeightSpec(weight_bits, group_size))
        x = quantize_input(torch.randn(7, 192), ActivationSpec(input_bits, Granularity.TOKEN))
        weight = IntegerWeight.from_values(quantized.values, weight_bits)
        outputs = [backend.linear(x, weight, quantized.scale) for backend in (ReferenceBackend(), Int8Backend())]
        assert torch.equal(*outputs)
        expected = x.dequantize().double() @ quantized.dequantize().double().t()
        torch.testing.assert_close(outputs[0].double(), expected, atol=1e-4, rtol=1e-5)


class Wrong(Int8Backend):
    """Off by one in one place."""

    name = "wrong"

    def accumulate(self, x: Tensor, weight: IntegerWeight) -> Tensor:
        sums = super().accumulate(x, weight)
        sums[-1, -1] += 1
        return sums


class Broken(Int8Backend):
    name = "broken"

    def accumulate(self, x: Tensor, weight: IntegerWeight) -> Tensor:
        raise RuntimeError("no kernel image is available")


class Absent(ReferenceBackend):
    name = "absent"

    def unavailable(self, device: torch.device) -> str | None:
        return "needs a compiler"


class TestRegistry:
    def test_the_fastest_is_chosen_and_logged_once(self, fresh_registry, caplog):
        with caplog.at_level(logging.INFO):
            assert select_backend("cpu").name == "int8"
            assert select_backend(CPU).name == "int8"
        assert [record.message for record in caplog.records] == ["integer products on cpu: int8"]

    def test_one_can_be_asked_for(self):
        assert select_backend("cpu", "reference").name == "reference"

    @pytest.mark.parametrize(
        ("backend", "reason"),
        [
            (Wrong(), "wrong: 1 of 96 sums are wrong on w4a4"),
            (Broken(), "broken: fails on w4a4: no kernel image"),
            (Absent(), "absent: needs a compiler"),
        ],
    )
    def test_one_that_fails_is_passed_over_with_the_reason(self, fresh_registry, caplog, backend: Backend, reason: str):
        registry.register(backend)
        with caplog.at_level(logging.INFO):
            assert select_backend("cpu").name == "int8"
        assert reason in caplog.text
        with pytest.raises(BackendError, match=reason):
            select_backend("cpu", backend.name)

    def test_an_unknown_name_is_refused_with_the_known_ones(self):
        with pytest.raises(ValueError, match="'cuda_s5'; there are auto, int8, reference"):
            select_backend("cpu", "cuda_s5")

    def test_a_taken_name_is_refused(self):
        with pytest.raises(ValueError, match="'int8' already"):
            registry.register(Int8Backend())

    def test_those_that_ship_pass_the_self_test(self):
        assert self_test(Int8Backend(), CPU) is None
        assert self_test(ReferenceBackend(), CPU) is None

    def test_nothing_runs_on_an_unknown_device(self):
        with pytest.raises(BackendError, match="no integer products on meta: int8: .* reference: "):
            select_backend("meta")
