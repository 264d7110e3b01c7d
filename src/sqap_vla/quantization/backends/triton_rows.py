# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Triton's row kernel: one program makes one token into integers, x -> [RMSNorm ->] integers.

Integers are written planar where asked for, even columns first, as the product wants them (triton_kernels.py). What is
done to every value is counted in instructions here and in triton_rotation.py, which takes its last steps from here:
conversions between number formats run at an eighth of a GPU's rate, and a division is some ten instructions and a
branch, so integers are taken from a float's bits, magnitudes are compared as integers, and a token's scale is inverted
once.
"""

from __future__ import annotations

import os

import torch
import triton
import triton.language as tl
from torch import Tensor

# The interpreter has neither assembly nor a fused multiply-add; there the same is said in Triton's own terms.
COMPILED = tl.constexpr(os.environ.get("TRITON_INTERPRET") != "1")
WARPS = 8


@triton.jit
def _fma(x, y, z):
    if COMPILED:
        return tl.fma(x, y, z)
    return (x.to(tl.float64) * y.to(tl.float64) + z.to(tl.float64)).to(tl.float32)


@triton.jit
def integers(wide, scale, LIMIT: tl.constexpr):
    """wide / scale rounded to nearest, halves to even, clamped; of a token that is not finite, anything in range. int8.

    The reciprocal of `scale` is the sum of two numbers. Tried out for every float32 `scale` and every quotient within
    three steps of a half, up to 126.5: the integers are those of an exact division.
    """
    high = tl.div_rn(1.0, scale)
    left = _fma(-scale, high, 1.0 + tl.zeros_like(scale))
    low = left * high
    low = _fma(_fma(-scale, low, left), high, low)
    zeros = tl.zeros_like(wide)
    quotient = _fma(wide, high + zeros, wide * low)
    quotient = tl.minimum(tl.maximum(quotient, -LIMIT * 1.0), LIMIT * 1.0)
    # 1.5 * 2^23 leaves no bits for a fraction; the integer is in the lowest byte.
    return (quotient + 12582912.0).to(tl.int32, bitcast=True).to(tl.int8)


@triton.jit
def magnitude(wide):
    """Of float32, as an integer: in the same order, and NaN is above all."""
    return wide.to(tl.int32, bitcast=True) & 0x7FFFFFFF


@triton.jit
def scale_of(largest, clip_ratio, LIMIT: tl.constexpr):
    """(scale, whether it is finite) of a token whose largest `magnitude` is given."""
    size = largest.to(tl.float32, bitcast=True)
    scale = tl.div_rn(size * clip_ratio, LIMIT * 1.0)
    return tl.where(scale == 0.0, 1.0, scale), size < float("inf")


@triton.jit
def _quantize(
    values_ptr, scale_ptr, x_ptr, channel_ptr, gain_ptr,
    columns, stride_x, clip_ratio, eps,
    LIMIT: tl.constexpr, BY_CHANNEL: tl.constexpr, NORM: tl.constexpr, PLANAR: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """One token of x as integers and their scale; see quantizer.quantize_input."""
    row, k = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK)
    inside = k < columns
    if NORM:
        gain = tl.load(gain_ptr + k, mask=inside, other=0.0).to(tl.float32)
    if BY_CHANNEL:
        channel = tl.load(channel_ptr + k, mask=inside, other=1.0)
    x = tl.load(x_ptr + row * stride_x + k, mask=inside, other=0.0)
    wide = x.to(tl.float32)
    if NORM:
        wide = wide * tl.math.rsqrt(tl.sum(wide * wide) / columns + eps)
        # Rounded where the steps in `x`'s dtype would be.
        wide = (wide.to(x.dtype).to(tl.float32) * gain).to(x.dtype).to(tl.float32)
    if BY_CHANNEL:
        wide = tl.div_rn(wide, channel)
    scale, finite = scale_of(tl.max(magnitude(wide)), clip_ratio, LIMIT)
    if BY_CHANNEL:
        scale = tl.full((), 1.0, dtype=tl.float32)
    values = integers(wide, scale, LIMIT)
    if PLANAR:
        even, odd = tl.split(tl.reshape(values, (BLOCK // 2, 2)))
        pair = tl.arange(0, BLOCK // 2)
        at = values_ptr + row * columns + pair
        tl.store(at, even, mask=pair < columns // 2)
        tl.store(at + columns // 2, odd, mask=pair < columns // 2)
    else:
        tl.store(values_ptr + row * columns + k, values, mask=inside)
    tl.store(scale_ptr + row, tl.where(finite, scale, float("nan")))


def launch_quantize(
    x: Tensor,
    bits: int,
    clip_ratio: float,
    channel_scale: Tensor | None = None,
    gain: Tensor | None = None,
    eps: float = 0.0,
    planar: bool = False,
) -> tuple[Tensor, Tensor]:
    """x [M, K] -> int8 [M, K] and float32 [M, 1]: one scale for each token, or 1 after a division by channel_scale.
    gain: of an RMSNorm that comes first."""
    rows, columns = x.shape
    values, scale = outputs(x, columns)
    _quantize[(rows,)](
        values, scale, x, channel_scale, gain, columns, x.stride(0), clip_ratio if bits == 4 else 1.0, eps,
        LIMIT=2 ** (bits - 1) - 1, BY_CHANNEL=channel_scale is not None, NORM=gain is not None, PLANAR=planar,
        BLOCK=triton.next_power_of_2(columns), num_warps=WARPS,
    )  # fmt: skip
    return values, scale


def outputs(x: Tensor, columns: int) -> tuple[Tensor, Tensor]:
    """Uninitialized integers [M, columns] and scales [M, 1] for the rows of x."""
    values = torch.empty(x.shape[0], columns, dtype=torch.int8, device=x.device)
    return values, torch.empty(x.shape[0], 1, dtype=torch.float32, device=x.device)
