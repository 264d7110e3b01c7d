# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Triton's row kernels: one program makes one token into integers, with all that comes right before.

    quantize            x -> integers
    norm_quantize       x -> RMSNorm -> integers
    rotate_quantize     x -> Hadamard transform -> integers; x may be silu(gate) * up

Integers are written planar where asked for, even columns first, as the product wants them (triton_kernels.py). The
transform of a token of n = R * C values is two small products with matrices of +-1, H_R (X H_C), X [R, C], on tensor
cores. The inner one multiplies values as they came: bfloat16 times +-1 is exact, and sums are float32. For the outer
one the sums are taken apart into two numbers of bfloat16, which hold 16 of their 24 bits: enough for eight bits.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn import functional as F

from sqap_vla.quantization.hadamard import hadamard_matrix, split

LARGEST_LEFT = 256
_SMALLEST_DOT = 16  # tl.dot takes no fewer rows, columns or inputs


@triton.jit
def _integers(wide, scale, LIMIT: tl.constexpr):
    """Rounded to nearest, halves to even, clamped; NaN is 0. int8."""
    quotient = tl.div_rn(wide, scale + tl.zeros_like(wide))
    quotient = tl.where(quotient == quotient, quotient, 0.0)
    quotient = tl.minimum(tl.maximum(quotient, -LIMIT * 1.0), LIMIT * 1.0)
    # Adding 1.5 * 2^23 leaves no bits for a fraction.
    return ((quotient + 12582912.0) - 12582912.0).to(tl.int8)


@triton.jit
def _scale_of(size, clip_ratio, LIMIT: tl.constexpr):
    """Of a token whose largest magnitude is `size`."""
    scale = tl.div_rn(size * clip_ratio, LIMIT * 1.0)
    return tl.where(scale == 0.0, 1.0, scale)


@triton.jit
def _quantize(
    values_ptr, scale_ptr, x_ptr, channel_ptr, gain_ptr,
    columns, stride_x, clip_ratio, eps,
    LIMIT: tl.constexpr, BY_CHANNEL: tl.constexpr, NORM: tl.constexpr, PLANAR: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One token of x as integers and their scale; see quantizer.quantize_input."""
    row, k = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK)
    inside = k < columns
    x = tl.load(x_ptr + row * stride_x + k, mask=inside, other=0.0)
    wide = x.to(tl.float32)
    if NORM:
        wide = wide * tl.math.rsqrt(tl.sum(wide * wide) / columns + eps)
        gain = tl.load(gain_ptr + k, mask=inside, other=0.0).to(tl.float32)
        # Rounded where the steps in `x`'s dtype would be.
        wide = (wide.to(x.dtype).to(tl.float32) * gain).to(x.dtype).to(tl.float32)
    if BY_CHANNEL:
        wide = tl.div_rn(wide, tl.load(channel_ptr + k, mask=inside, other=1.0))
    size = tl.abs(wide)
    finite = tl.max((~(size < float("inf"))).to(tl.int32)) == 0  # NaN is below nothing
    if BY_CHANNEL:  # noqa: SIM108 a constexpr branch
        scale = 1.0
    else:
        scale = _scale_of(tl.max(size), clip_ratio, LIMIT)
    values = _integers(wide, scale, LIMIT)
    if PLANAR:
        even, odd = tl.split(tl.reshape(values, (BLOCK // 2, 2)))
        pair = tl.arange(0, BLOCK // 2)
        at = values_ptr + row * columns + pair
        tl.store(at, even, mask=pair < columns // 2)
        tl.store(at + columns // 2, odd, mask=pair < columns // 2)
    else:
        tl.store(values_ptr + row * columns + k, values, mask=inside)
    tl.store(scale_ptr + row, tl.where(finite, scale, float("nan")))


@triton.jit
def _rotate_quantize(
    values_ptr, scale_ptr, x_ptr, left_ptr, right_ptr,
    stride_x, factor, clip_ratio,
    R: tl.constexpr, C: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_K: tl.constexpr, LEFT_ROW: tl.constexpr,
    GATED: tl.constexpr, RIGHT: tl.constexpr, LIMIT: tl.constexpr, PLANAR: tl.constexpr,
):  # fmt: skip
    """One token [R, C] of x, or of silu(gate) * up whose halves lie side by side, transformed, as integers."""
    row = tl.program_id(0).to(tl.int64)
    r, c, k = tl.arange(0, BLOCK_R), tl.arange(0, C), tl.arange(0, BLOCK_K)
    rotated = tl.zeros((BLOCK_R, C), dtype=tl.float32)
    if RIGHT:
        right = tl.load(right_ptr + c[:, None] * C + c[None, :])
    for start in range(0, R, BLOCK_K):
        at = x_ptr + row * stride_x + (start + k)[:, None] * C + c[None, :]
        here = (start + k)[:, None] < R
        x = tl.load(at, mask=here, other=0.0)
        if GATED:
            gate, up = x.to(tl.float32), tl.load(at + R * C, mask=here, other=0.0).to(tl.float32)
            x = (gate * tl.sigmoid(gate) * up).to(x.dtype)
        left = tl.load(left_ptr + r[:, None] * LEFT_ROW + (start + k)[None, :])
        if RIGHT:
            wide = tl.dot(x, right, input_precision="ieee")
            x = wide.to(left.dtype)
            if left.dtype != tl.float32:
                rest = (wide - x.to(tl.float32)).to(left.dtype)
                rotated = tl.dot(left, rest, rotated)
        rotated = tl.dot(left, x, rotated, input_precision="ieee")
    rotated = rotated * factor
    size = tl.abs(rotated)
    finite = tl.max(tl.max((~(size < float("inf"))).to(tl.int32), 1), 0) == 0
    scale = _scale_of(tl.max(tl.max(size, 1), 0), clip_ratio, LIMIT)
    values = _integers(rotated, scale, LIMIT)
    if PLANAR:
        even, odd = tl.split(tl.reshape(values, (BLOCK_R, C // 2, 2)))
        pair = tl.arange(0, C // 2)
        at = values_ptr + row * (R * C) + r[:, None] * (C // 2) + pair[None, :]
        tl.store(at, even, mask=r[:, None] < R)
        tl.store(at + R * C // 2, odd, mask=r[:, None] < R)
    else:
        tl.store(values_ptr + row * (R * C) + r[:, None] * C + c[None, :], values, mask=r[:, None] < R)
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
    values, scale = _outputs(x, columns)
    _quantize[(rows,)](
        values, scale, x, channel_scale, gain, columns, x.stride(0), clip_ratio if bits == 4 else 1.0, eps,
        LIMIT=2 ** (bits - 1) - 1, BY_CHANNEL=channel_scale is not None, NORM=gain is not None, PLANAR=planar,
        BLOCK=triton.next_power_of_2(columns), num_warps=8,
    )  # fmt: skip
    return values, scale


@dataclass(frozen=True)
class Factors:
    """A transform of rows * columns values as H_rows X H_columns. columns 1: no right factor; then `width` values lie
    side by side that are not mixed, and X is [rows, width]."""

    rows: int
    columns: int
    width: int

    @property
    def fits(self) -> bool:
        """Whether the kernel takes it."""
        power_of_two = self.width & (self.width - 1) == 0
        return self.rows <= LARGEST_LEFT and power_of_two and _SMALLEST_DOT <= self.width <= 128


def factors_of(size: int, stride: int) -> Factors | None:
    """Of T_size on one axis (online.InputRotation); None for lengths whose transform is in blocks."""
    blocks, m, power = split(size)
    if blocks > 1:
        return None
    if stride > 1:
        return Factors(size, 1, stride)
    columns = min(power, 64)
    return Factors(m * (power // columns), columns, columns)


def launch_rotate_quantize(
    x: Tensor, factors: Factors, bits: int, clip_ratio: float, gated: bool = False, planar: bool = False
) -> tuple[Tensor, Tensor]:
    """x [M, n], or [M, 2 n] with gate and up side by side -> int8 [M, n] and float32 [M, 1]."""
    rows, n = x.shape[0], factors.rows * factors.width
    values, scale = _outputs(x, n)
    block = max(_SMALLEST_DOT, triton.next_power_of_2(factors.rows))
    step = min(64, block)
    left = _signs(factors.rows, x.dtype, x.device, block, step)
    right = _signs(factors.columns, x.dtype, x.device)
    _rotate_quantize[(rows,)](
        values, scale, x, left, right,
        x.stride(0), 1.0 / math.sqrt(factors.rows * factors.columns), clip_ratio if bits == 4 else 1.0,
        R=factors.rows, C=factors.width, BLOCK_R=block, BLOCK_K=step, LEFT_ROW=left.shape[1],
        GATED=gated, RIGHT=factors.columns > 1, LIMIT=2 ** (bits - 1) - 1, PLANAR=planar, num_warps=8,
    )  # fmt: skip
    return values, scale


def _outputs(x: Tensor, columns: int) -> tuple[Tensor, Tensor]:
    values = torch.empty(x.shape[0], columns, dtype=torch.int8, device=x.device)
    return values, torch.empty(x.shape[0], 1, dtype=torch.float32, device=x.device)


@functools.lru_cache(maxsize=32)
def _signs(
    rows: int, dtype: torch.dtype, device: torch.device, padded_rows: int | None = None, step: int = 1
) -> Tensor:
    """The matrix of +-1 whose transform `hadamard.transform` is, up to its factor: H_m (x) H_power, [rows, rows]; with
    zeros below, up to padded_rows, and to the right, up to a multiple of `step`: read without masks, in whole words."""
    with torch.inference_mode(False):  # it outlives the call, and may be used outside of inference mode later
        _, m, power = split(rows)
        matrix = torch.kron(hadamard_matrix(m), hadamard_matrix(power))
        below = 0 if padded_rows is None else padded_rows - rows
        return F.pad(matrix, (0, -rows % step, 0, below)).to(device=device, dtype=dtype).contiguous()
