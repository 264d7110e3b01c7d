# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Integers and scales: ranges, rounding, what shares a scale, and what happens to zeros and NaN."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sqap_vla.quantization.quantizer import (
    ActivationSpec,
    Granularity,
    Precision,
    WeightSpec,
    channel_scale,
    fold_input_scale,
    quantize_input,
    quantize_weight,
)

TOKEN4, TENSOR4, CHANNEL4 = (ActivationSpec(4, granularity) for granularity in ("token", "tensor", "channel"))


def squared_error(weight: torch.Tensor, spec: WeightSpec) -> float:
    return (quantize_weight(weight, spec).dequantize() - weight).square().sum().item()


class TestWeights:
    @given(rows=st.integers(1, 5), inputs=st.integers(1, 70), bits=st.sampled_from([4, 8]), seed=st.integers(0, 2**31))
    @settings(max_examples=50, deadline=None)
    def test_values_are_in_the_symmetric_range_and_near(self, rows, inputs, bits, seed):
        weight = torch.randn(rows, inputs, generator=torch.Generator().manual_seed(seed)) * 0.02
        spec = WeightSpec(bits, clip_search=False)
        quantized = quantize_weight(weight, spec)
        limit = 2 ** (bits - 1) - 1
        assert quantized.values.dtype == torch.int8
        assert quantized.values.abs().amax() == limit  # the largest of a channel lands on the last integer
        assert quantized.scale.shape == (rows, 1)
        assert ((quantized.dequantize() - weight).abs() <= quantized.scale * 0.5001).all()

    @pytest.mark.parametrize("bits", [4, 8])
    @pytest.mark.parametrize("group_size", [None, 32])
    def test_clip_search_never_makes_the_error_larger(self, bits, group_size):
        torch.manual_seed(0)
        for weight in (torch.randn(16, 256), torch.randn(16, 256) ** 3, torch.rand(16, 256)):
            searched = squared_error(weight, WeightSpec(bits, group_size))
            assert searched <= squared_error(weight, WeightSpec(bits, group_size, clip_search=False))

    def test_clip_search_finds_what_is_known_of_a_normal_channel(self):
        """15 levels over N(0, 1): mean squared error 0.0115 at best (Max, 1960: 0.01154 for 16), 0.03 unclipped."""
        weight = torch.randn(8, 8192, generator=torch.Generator().manual_seed(1))
        assert squared_error(weight, WeightSpec(4)) / weight.numel() < 0.0140
        assert squared_error(weight, WeightSpec(4, clip_search=False)) / weight.numel() > 0.02

    def test_groups_have_scales_of_their_own(self):
        weight = torch.ones(2, 256)
        weight[:, 128:] = 0.001
        quantized = quantize_weight(weight, WeightSpec(4, 128))
        assert quantized.scale.shape == (2, 2)
        assert quantized.scale.dtype == torch.bfloat16
        torch.testing.assert_close(quantized.dequantize(), weight, rtol=4e-3, atol=0)

    def test_a_large_matrix_in_pieces_equals_its_rows_alone(self):
        weight = torch.randn(700, 2048, generator=torch.Generator().manual_seed(2))
        whole = quantize_weight(weight, WeightSpec(4))
        part = quantize_weight(weight[600:603], WeightSpec(4))
        assert torch.equal(whole.values[600:603], part.values)
        assert torch.equal(whole.scale[600:603], part.scale)

    def test_zero_rows_have_scale_one(self):
        weight = torch.zeros(2, 64)
        weight[1] = 1e-45  # its scale would be 0
        quantized = quantize_weight(weight, WeightSpec(4))
        assert not quantized.values.any()
        assert (quantized.scale == 1).all()

    @pytest.mark.parametrize("bad", [math.nan, math.inf])
    def test_nan_and_infinity_are_refused(self, bad):
        weight = torch.ones(3, 64)
        weight[2, 5] = bad
        with pytest.raises(ValueError, match="NaN or infinite .* damaged"):
            quantize_weight(weight, WeightSpec(8))

    def test_a_group_that_does_not_divide_is_refused(self):
        with pytest.raises(ValueError, match="96 inputs do not divide into groups of 128"):
            quantize_weight(torch.ones(4, 96), WeightSpec(4, 128))


class TestActivations:
    def test_halves_round_to_even(self):
        x = torch.tensor([[0.5, 1.5, 2.5, 3.5, -0.5, -1.5, -2.5, 7.0]])  # scale 1
        assert quantize_input(x, TOKEN4).values.tolist() == [[0, 2, 2, 4, 0, -2, -2, 7]]

    def test_every_token_has_its_scale(self):
        x = torch.tensor([[[7.0, 1.0], [0.07, 0.01]]])  # [B, T, K]
        quantized = quantize_input(x, TOKEN4)
        torch.testing.assert_close(quantized.scale, torch.tensor([[1.0], [0.01]]))
        assert quantized.values.tolist() == [[7, 1], [7, 1]]

    def test_a_tensor_has_one_scale(self):
        x = torch.tensor([[7.0, 1.0], [0.07, 2.0]])
        quantized = quantize_input(x, TENSOR4)
        assert quantized.scale.tolist() == [[1.0], [1.0]]
        assert quantized.values.tolist() == [[7, 1], [0, 2]]

    def test_fixed_channel_scales_leave_the_product_through_the_weight(self):
        torch.manual_seed(3)
        x = torch.randn(40, 32) * torch.logspace(-2, 2, 32)
        weight = torch.randn(8, 32) / torch.logspace(-2, 2, 32)
        scale = channel_scale(x.abs().amax(0), 8)
        quantized = quantize_input(x, ActivationSpec(8, Granularity.CHANNEL), scale)
        assert (quantized.scale == 1).all()
        product = quantized.dequantize() @ fold_input_scale(weight, scale).t()
        error = (product - x @ weight.t()).square().mean() / (x @ weight.t()).square().mean()
        assert 10 * math.log10(error) < -38

    def test_a_channel_at_rest_during_calibration_has_a_scale_for_later(self):
        scale = channel_scale(torch.tensor([0.0, 7.0]), 4)
        assert scale.tolist() == [2.0**-12, 1.0]
        assert channel_scale(torch.zeros(2), 4).tolist() == [1.0, 1.0]
        with pytest.raises(ValueError, match="not finite"):
            channel_scale(torch.tensor([math.nan]), 4)

    def test_only_four_bits_are_clipped(self):
        x = torch.tensor([[7.0, 3.5, 1.0]])
        assert quantize_input(x, ActivationSpec(4, clip_ratio=0.5)).values.tolist() == [[7, 7, 2]]
        assert quantize_input(x, ActivationSpec(8, clip_ratio=0.5)).values.tolist() == [[127, 64, 18]]

    @pytest.mark.parametrize("spec", [TOKEN4, TENSOR4])
    def test_zero_tokens_have_scale_one(self, spec):
        quantized = quantize_input(torch.zeros(2, 8), spec)
        assert not quantized.values.any()
        assert (quantized.scale == 1).all()

    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
    def test_nan_and_infinity_make_their_token_nan_and_no_other(self, bad):
        x = torch.ones(3, 8)
        x[1, 4] = bad
        for spec, scale in ((TOKEN4, None), (CHANNEL4, torch.ones(8))):
            quantized = quantize_input(x, spec, scale)
            assert quantized.values.abs().amax() <= 7
            assert quantized.dequantize().isnan().all(1).tolist() == [False, True, False]
        assert quantize_input(x, TENSOR4).dequantize().isnan().all()

    @pytest.mark.parametrize(("spec", "scale"), [(CHANNEL4, None), (TOKEN4, torch.ones(8))])
    def test_channel_scales_belong_to_channel_granularity(self, spec, scale):
        with pytest.raises(ValueError, match="calibrate for channel"):
            quantize_input(torch.ones(2, 8), spec, scale)

    def test_half_precision_is_quantized_in_float32(self):
        x = torch.randn(5, 64).bfloat16()
        assert torch.equal(quantize_input(x, TOKEN4).values, quantize_input(x.float(), TOKEN4).values)


class TestSpecs:
    def test_precisions_say_their_bits(self):
        assert [(p.weight_bits, p.activation_bits) for p in Precision] == [(4, 4), (4, 8), (8, 8), (16, 16)]
        assert [p.is_quantized for p in Precision] == [True, True, True, False]

    @pytest.mark.parametrize(
        "build",
        [
            lambda: WeightSpec(3),
            lambda: WeightSpec(4, 1),
            lambda: ActivationSpec(16),
            lambda: ActivationSpec(4, clip_ratio=0.0),
            lambda: ActivationSpec(4, "row"),
        ],
    )
    def test_what_does_not_exist_is_refused(self, build):
        with pytest.raises(ValueError):
            build()
