# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Triton's kernels in its interpreter, on the CPU: a wrong index or mask shows without a GPU."""

from __future__ import annotations

import os

import pytest
import torch
from torch import Tensor

from sqap_vla.pruning.sampling import farthest_point_sampling
from sqap_vla.quantization.backends.reference import ReferenceBackend
from sqap_vla.quantization.backends.registry import self_test
from sqap_vla.quantization.backends.triton_w4a4 import TritonBackend
from sqap_vla.quantization.online import InputRotation
from sqap_vla.quantization.packing import IntegerWeight
from sqap_vla.quantization.quantizer import (
    ActivationSpec,
    Granularity,
    QuantizedInput,
    WeightSpec,
    largest,
    quantize_input,
    quantize_weight,
)

pytest.importorskip("triton", reason="Triton is not here; make test-kernels runs these with it")
if os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("TRITON_INTERPRET is set to something else than 1", allow_module_level=True)

TRITON, CPU = TritonBackend(), torch.device("cpu")


def integers(bits: int, *shape: int, seed: int = 0) -> Tensor:
    limit = largest(bits)
    values = torch.randint(-limit, limit + 1, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.int8)
    values[0] = limit
    return values


@pytest.mark.parametrize("shape", [(1, 64, 16), (17, 70, 33), (150, 300, 70)], ids=str)
@pytest.mark.parametrize("bits", [(4, 4), (4, 8), (8, 8)], ids=str)
def test_sums_equal_the_reference(bits, shape):
    (weight_bits, input_bits), (tokens, inputs, outputs) = bits, shape
    x = integers(input_bits, tokens, inputs)
    weight = IntegerWeight.from_values(integers(weight_bits, outputs, inputs, seed=1), weight_bits)
    assert torch.equal(TRITON.accumulate(x, weight), ReferenceBackend().accumulate(x, weight))


def test_sums_of_strided_views_equal_the_reference():
    x, weight = integers(8, 5, 200), IntegerWeight.from_values(integers(4, 20, 200, seed=1), 4)
    views = x[:, 40:168], weight.columns(40, 168)
    assert torch.equal(TRITON.accumulate(*views), ReferenceBackend().accumulate(*views))


def test_the_registrys_self_test_passes():
    assert self_test(TRITON, CPU) is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("group_size", [None, 32])
def test_scales_and_bias_equal_the_reference(group_size, bias, dtype):
    torch.manual_seed(0)
    quantized = quantize_weight(torch.randn(40, 96), WeightSpec(4, group_size))
    x = quantize_input(torch.randn(20, 96), ActivationSpec(4))
    weight = IntegerWeight.from_values(quantized.values, 4)
    arguments = (x, weight, quantized.scale, torch.randn(40) if bias else None, dtype)
    made, expected = TRITON.linear(*arguments), ReferenceBackend().linear(*arguments)
    assert made.dtype == dtype
    # The interpreter cuts bfloat16 off where GPUs round it, so there it may be one step away.
    torch.testing.assert_close(made, expected, atol=0, rtol=0 if dtype == torch.float32 else 2**-7)


@pytest.mark.parametrize("granularity", list(Granularity))
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_activations_are_quantized_as_the_definition_says(dtype, bits, granularity):
    torch.manual_seed(0)
    x = torch.randn(2, 5, 172).to(dtype)
    x[0, 1] = 0
    x[0, 2, :7] = torch.tensor([0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 7.0])  # halves, at a scale of 1
    x[0, 2, 7:] = 0
    spec = ActivationSpec(bits, granularity, 1.0)
    scale = torch.rand(172) + 0.5 if granularity is Granularity.CHANNEL else None
    expected, made = quantize_input(x, spec, scale), TRITON.quantize(x, spec, scale)
    assert made.planar == (bits == 4 and granularity is not Granularity.TENSOR)
    made = made.in_order()
    assert torch.equal(made.values, expected.values)
    assert torch.equal(made.scale, expected.scale)


def test_clipped_and_not_finite_tokens():
    x = torch.randn(4, 64)
    x[1, 3], x[2, 4] = torch.nan, torch.inf
    spec = ActivationSpec(4, Granularity.TOKEN, 0.8)
    expected, made = quantize_input(x, spec), TRITON.quantize(x, spec).in_order()
    assert made.scale.isnan().flatten().tolist() == [False, True, True, False]
    assert torch.equal(made.values[[0, 3]], expected.values[[0, 3]])
    assert torch.equal(made.scale[[0, 3]], expected.scale[[0, 3]])


@pytest.mark.parametrize("planar", [False, True])
def test_a_product_with_a_residual_equals_the_reference(planar):
    from sqap_vla.quantization.backends.triton_kernels import Tiling, launch_gemm

    torch.manual_seed(0)
    quantized = quantize_weight(torch.randn(70, 288), WeightSpec(4))
    weight, x = IntegerWeight.from_values(quantized.values, 4), quantize_input(torch.randn(37, 288), ActivationSpec(4))
    residual = torch.randn(37, 70)
    expected = ReferenceBackend().linear(x, weight, quantized.scale, residual=residual)
    values = torch.cat([x.values[:, ::2], x.values[:, 1::2]], dim=1) if planar else x.values
    made = torch.full_like(expected, torch.nan)
    tiling = Tiling(32, 32, 32, warps=4, stages=2)
    launch_gemm(made, values, weight, x.scale, quantized.scale, None, residual, planar, tiling)
    assert torch.equal(made, expected)


def test_a_tiling_fits_into_the_shared_memory_that_there_is():
    from sqap_vla.quantization.backends.triton_kernels import choose_tiling

    assert [choose_tiling(rows, 2**17).m for rows in (1, 17, 33, 288)] == [16, 32, 64, 64]
    for kib in (227, 163, 99, 64):  # Hopper, A100, RTX 30 and Orin, Turing
        tiling = choose_tiling(288, kib * 1024)
        assert tiling.stages * tiling.k * (2 * tiling.m + tiling.n) <= kib * 1024


def close_integers(made: QuantizedInput, expected: QuantizedInput, dtype: torch.dtype = torch.float32) -> None:
    """Sums are added in another order, so a value on the edge between two integers may fall to either side. In the
    interpreter bfloat16 is cut off, not rounded: many values do."""
    made = made.in_order()
    apart = (made.values.int() - expected.values.int()).abs()
    exact = dtype == torch.float32
    assert apart.max() <= (1 if exact else 3) and (apart > 0).float().mean() < (0.01 if exact else 0.4)
    torch.testing.assert_close(made.scale, expected.scale, rtol=1e-5 if exact else 2e-2, atol=0)
    assert made.bits == expected.bits


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_norm_and_quantization_in_one_kernel_equal_the_steps(dtype, bits):
    torch.manual_seed(0)
    x, gain = (3 * torch.randn(2, 5, 172)).to(dtype), (1 + 0.1 * torch.randn(172)).to(dtype)
    arguments = (x, gain, 1e-5, ActivationSpec(bits, Granularity.TOKEN, 0.8))
    close_integers(TRITON.norm_quantize(*arguments), ReferenceBackend().norm_quantize(*arguments), dtype)


# 11008 is 172 * 64 and 5120 is 20 * 256: left factors that are no powers of two. (32, 128) is across heads.
@pytest.mark.parametrize("rotation", [(256, 1), (64, 1), (344, 1), (5120, 1), (11008, 1), (32, 128), (2, 32)], ids=str)
@pytest.mark.parametrize("gated", [False, True])
def test_rotation_and_quantization_in_one_kernel_equal_the_steps(gated, rotation):
    rotation, spec = InputRotation(*rotation), ActivationSpec(4, Granularity.TOKEN, 0.8)
    width = rotation.size * rotation.stride
    x = torch.randn(2, 3, 2 * width if gated else width, generator=torch.Generator().manual_seed(0))
    if width == 11008:
        x = x[:1, :2]
    step = "gate_rotate_quantize" if gated else "rotate_quantize"
    made = getattr(TRITON, step)(x, rotation, spec)
    close_integers(made, getattr(ReferenceBackend(), step)(x, rotation, spec))
    assert made.planar


def test_a_transform_in_blocks_is_left_to_the_steps():
    x, spec = torch.randn(3, 48 + 2), ActivationSpec(4)
    expected = ReferenceBackend().rotate_quantize(x, InputRotation(50), spec)
    made = TRITON.rotate_quantize(x, InputRotation(50), spec)
    assert torch.equal(made.in_order().values, expected.values)


def test_not_finite_tokens_stay_not_finite_through_a_rotation():
    x = torch.randn(3, 256)
    x[1, 3] = torch.nan
    made = TRITON.rotate_quantize(x, InputRotation(256), ActivationSpec(4))
    assert made.scale.isnan().flatten().tolist() == [False, True, False]


@pytest.mark.parametrize("batch", [1, 2])
def test_rotary_positions_in_one_kernel_equal_the_steps(batch):
    from sqap_vla.cogact.llama import rotary_heads, rotary_tables
    from sqap_vla.cogact.rotary_kernel import rotary_heads_kernel

    torch.manual_seed(0)
    y, rope = torch.randn(batch, 9, (4 + 2 * 2) * 16), rotary_tables(torch.arange(9)[None], 16, 1e4, torch.float32)
    rope = tuple(table.expand(batch, -1, -1) for table in rope)
    expected = torch.cat(rotary_heads(y, rope, 4, 2), dim=1)
    torch.testing.assert_close(rotary_heads_kernel(y, *rope, 6), expected)


@pytest.mark.parametrize("grid", [4, 16])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.9])
def test_farthest_points_in_one_kernel_equal_the_steps(grid, share):
    from sqap_vla.pruning.sampling_kernel import farthest_points

    generator = torch.Generator().manual_seed(grid)
    taken = torch.rand(grid * grid, generator=generator) < share
    candidates = torch.rand(grid * grid, generator=generator) < 0.8
    count = 14 if grid == 4 else 40  # more than there are candidates, where most are taken
    expected = farthest_point_sampling(taken, candidates, count, grid)
    assert torch.equal(farthest_points(taken, candidates, count, grid), expected)
