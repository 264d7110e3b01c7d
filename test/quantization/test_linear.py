# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The integer linear layer: near the float one, what it stores, and what it shares with its neighbours."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from sqap_vla.quantization.linear import LinearSpec, QuantizedLinear, quantized_tensors
from sqap_vla.quantization.metrics import sqnr_db
from sqap_vla.quantization.online import InputRotation, RotatedLinear, SharedInput
from sqap_vla.quantization.packing import unpack_int4
from sqap_vla.quantization.quantizer import QuantizedWeight, channel_scale, quantize_input

PRECISIONS = ["w4a4", "w4a8", "w8a8"]
# Uniform noise of step 1/7 (1/127) of the largest of 256 normal values, and of clipped weights: 17 and 19 dB each in
# 4 bits, 42 in 8.
LEAST_SQNR_DB = {"w4a4": 14.0, "w4a8": 18.0, "w8a8": 38.0}


@pytest.fixture(autouse=True)
def no_gradients():
    torch.manual_seed(0)
    with torch.inference_mode():
        yield


def float_linear(bias: bool = False, inputs: int = 256, outputs: int = 96) -> nn.Linear:
    linear = nn.Linear(inputs, outputs, bias=bias)
    linear.weight.copy_(torch.randn(outputs, inputs) / math.sqrt(inputs))
    return linear.requires_grad_(False)


class TestForward:
    @pytest.mark.parametrize("bias", [False, True])
    @pytest.mark.parametrize("group_size", [None, 128])
    @pytest.mark.parametrize("precision", PRECISIONS)
    def test_is_near_the_float_layer(self, precision, group_size, bias):
        linear = float_linear(bias)
        layer = QuantizedLinear.from_float(linear, LinearSpec(precision, group_size=group_size))
        x = torch.randn(2, 50, 256)
        y = layer(x)
        assert y.shape == (2, 50, 96)
        assert sqnr_db(linear(x), y) > LEAST_SQNR_DB[precision]

    @pytest.mark.parametrize("precision", PRECISIONS)
    def test_is_the_product_of_the_rounded_operands(self, precision):
        """Nothing but rounding of weight and input separates it from the float layer."""
        spec = LinearSpec(precision)
        layer = QuantizedLinear.from_float(float_linear(True), spec)
        x = torch.randn(9, 256)
        weight = QuantizedWeight(layer.integer_weight.values(), layer.weight_scale).dequantize()
        expected = quantize_input(x, spec.activation).dequantize().double() @ weight.double().t() + layer.bias.double()
        torch.testing.assert_close(layer(x).double(), expected, atol=1e-5, rtol=1e-5)

    def test_bias_correction_keeps_the_mean_output(self):
        linear, x = float_linear(True), torch.randn(64, 256) + torch.linspace(-2, 2, 256)
        spec = LinearSpec("w4a8", bias_correction=True)
        layer = QuantizedLinear.from_float(linear, spec, input_mean=x.mean(0))
        plain = QuantizedLinear.from_float(linear, LinearSpec("w4a8"))
        drift, plain_drift = ((each(x) - linear(x)).mean(0).square().mean().sqrt() for each in (layer, plain))
        assert drift < 0.1 * plain_drift
        assert sqnr_db(linear(x), layer(x)) > sqnr_db(linear(x), plain(x)) + 2

    def test_fixed_channel_scales_follow_the_channels(self):
        x = torch.randn(64, 256) * torch.logspace(-1, 1, 256)
        linear = float_linear()
        linear.weight /= torch.logspace(-1, 1, 256)
        scale = channel_scale(x.abs().amax(0), 4)
        by_channel = QuantizedLinear.from_float(linear, LinearSpec("w4a4", "channel"), scale)
        by_token = QuantizedLinear.from_float(linear, LinearSpec("w4a4", "token"))
        assert sqnr_db(linear(x), by_channel(x)) > sqnr_db(linear(x), by_token(x)) + 3

    def test_backends_give_the_same_output_to_the_last_bit(self):
        linear, x = float_linear(), torch.randn(5, 256)
        spec = LinearSpec("w4a4", group_size=64)
        outputs = [QuantizedLinear.from_float(linear, spec, backend=name)(x) for name in ("int8", "reference")]
        assert torch.equal(*outputs)

    def test_a_rotation_of_the_input_stays(self):
        rotation = InputRotation(256)
        rotated = RotatedLinear(256, 96, rotation, SharedInput())
        rotated.weight.copy_(rotation(float_linear().weight))
        x = torch.randn(40, 256)
        x[:, 7] = 50.0  # an outlier, which the rotation spreads
        layer = QuantizedLinear.from_float(rotated, LinearSpec("w4a4"))
        assert layer.rotation == rotation
        assert sqnr_db(rotated(x), layer(x)) > 14

    def test_the_callers_dtype_and_leading_axes_stay(self):
        layer = QuantizedLinear.from_float(float_linear().bfloat16(), LinearSpec("w8a8"))
        y = layer(torch.randn(2, 3, 4, 256, dtype=torch.bfloat16))
        assert y.shape == (2, 3, 4, 96)
        assert y.dtype == torch.bfloat16

    def test_nan_comes_out_as_nan_in_its_token_only(self):
        layer = QuantizedLinear.from_float(float_linear(), LinearSpec("w4a4"))
        x = torch.randn(3, 256)
        x[1, 0] = math.nan
        assert layer(x).isnan().all(1).tolist() == [False, True, False]


class TestStorage:
    def test_four_bit_weights_take_half_a_byte_and_no_float_copy_stays(self):
        layer = QuantizedLinear.from_float(float_linear(), LinearSpec("w4a4"))
        assert not list(layer.parameters())
        stored = {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in layer.state_dict().items()}
        assert stored == {"weight": (torch.uint8, (96, 128)), "weight_scale": (torch.float32, (96, 1))}

    @pytest.mark.parametrize("granularity", ["token", "channel"])
    @pytest.mark.parametrize("group_size", [None, 64])
    @pytest.mark.parametrize(("bias", "correction"), [(False, False), (True, False), (False, True), (True, True)])
    @pytest.mark.parametrize("precision", PRECISIONS)
    def test_tensors_made_without_the_module_fit_an_empty_one(
        self, precision, group_size, granularity, bias, correction
    ):
        spec = LinearSpec(precision, granularity, group_size, bias_correction=correction)
        linear, x = float_linear(bias), torch.randn(4, 256)
        scale = channel_scale(x.abs().amax(0), 8) if granularity == "channel" else None
        mean = x.mean(0) if correction else None
        empty = QuantizedLinear(256, 96, spec, bias=bias, device="meta")
        expected = {name: (tensor.dtype, tensor.shape) for name, tensor in empty.state_dict().items()}
        tensors = quantized_tensors(linear.weight, spec, linear.bias, scale, mean)
        assert {name: (tensor.dtype, tensor.shape) for name, tensor in tensors.items()} == expected
        empty.load_state_dict(tensors, assign=True)
        assert torch.equal(empty(x), QuantizedLinear.from_float(linear, spec, scale, mean)(x))

    def test_integers_are_those_of_the_packed_weight(self):
        layer = QuantizedLinear.from_float(float_linear(), LinearSpec("w4a8"))
        assert torch.equal(layer.integer_weight.values(), unpack_int4(layer.weight))
        assert layer.integer_weight.values().abs().amax() == 7

    @pytest.mark.parametrize(
        ("inputs", "spec", "message"),
        [
            (255, LinearSpec("w4a4"), "w8a8 or bf16"),
            (96, LinearSpec("w8a8", group_size=128), "groups of 128"),
        ],
    )
    def test_sizes_that_do_not_fit_are_refused(self, inputs, spec, message):
        with pytest.raises(ValueError, match=message):
            QuantizedLinear(inputs, 8, spec)

    def test_missing_calibration_is_refused(self):
        with pytest.raises(ValueError, match="channel scales are missing"):
            QuantizedLinear.from_float(float_linear(), LinearSpec("w4a4", "channel"))
        with pytest.raises(ValueError, match="channel scales are given"):
            QuantizedLinear.from_float(float_linear(), LinearSpec("w4a4"), torch.ones(256))
        with pytest.raises(ValueError, match="input means are missing"):
            QuantizedLinear.from_float(float_linear(), LinearSpec("w4a4", bias_correction=True))

    def test_bf16_is_no_integer_format(self):
        with pytest.raises(ValueError, match="leave such a layer as it is"):
            LinearSpec("bf16")


class TestSharing:
    def test_layers_that_share_quantize_their_input_once(self):
        shared = SharedInput()
        spec = LinearSpec("w4a4")
        first, second = (QuantizedLinear.from_float(float_linear(), spec, shared=shared) for _ in range(2))
        alone = QuantizedLinear.from_float(float_linear(), spec)
        x = torch.randn(3, 256)
        assert first.quantize(x) is second.quantize(x)
        assert first.quantize(x) is not alone.quantize(x)
        assert first.quantize(x) is not second.quantize(x.clone())

    def test_a_copy_works_and_shares_with_nobody(self):
        layer = QuantizedLinear.from_float(float_linear(), LinearSpec("w4a4"))
        x = torch.randn(3, 256)
        other = copy.deepcopy(layer)
        assert torch.equal(layer(x), other(x))
        assert other.shared is not layer.shared
