# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Triton's integer product: packed weights unpacked in registers, int8 tensor cores, all that follows in the epilogue.

A packed byte holds inputs 2 j and 2 j + 1, so a tile of weights is two tiles, of the even and of the odd inputs, and is
multiplied with the activations' even and odd columns:

    y[m, n] = sum_j x[m, 2 j] w[n, 2 j] + sum_j x[m, 2 j + 1] w[n, 2 j + 1]

Unpacking costs one or two instructions for four weights: a nibble is moved to (or left in) the upper half of its byte,
which is 16 times its value with the right sign, and the sums are shifted down by four, which loses nothing. The row
kernels (triton_rows.py) write activations with all even columns first ("planar"), so that both tiles are contiguous.

The product is computed transposed, weights on the left: Hopper's tensor cores take the left operand from registers,
where the weights have just been unpacked, and the right one, the activations, from shared memory.

Programs are ordered so that neighbours share weights: with some 200 rows, all row tiles of one column tile come one
after another, and a weight is read from memory once.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

import triton
import triton.language as tl
from torch import Tensor

from sqap_vla.cogact.shared_memory import shared_memory
from sqap_vla.quantization.packing import IntegerWeight

# The interpreter has no assembly; there the same is said in Triton's own terms.
_ASSEMBLY = tl.constexpr(os.environ.get("TRITON_INTERPRET") != "1")


@triton.jit
def _low_nibbles(packed):
    """16 times the low nibble of each byte, as int8."""
    if _ASSEMBLY:
        return tl.inline_asm_elementwise(
            "{ .reg .b32 t; shl.b32 t, $1, 4; and.b32 $0, t, 0xF0F0F0F0; }", "=r,r", [packed], tl.int8, True, 4
        )
    return (packed << 4).to(tl.int8)


@triton.jit
def _high_nibbles(packed):
    """16 times the high nibble of each byte, as int8."""
    if _ASSEMBLY:
        return tl.inline_asm_elementwise("and.b32 $0, $1, 0xF0F0F0F0;", "=r,r", [packed], tl.int8, True, 4)
    return packed & -16


@triton.jit
def _gemm(
    y_ptr, x_ptr, w_ptr, x_scale_ptr, w_scale_ptr, bias_ptr, residual_ptr,
    rows, outputs, inputs,
    stride_x, stride_w, stride_y, stride_residual,
    FOUR_BITS: tl.constexpr, PLANAR: tl.constexpr,
    SCALED: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_RESIDUAL: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, WHOLE_K: tl.constexpr,
):  # fmt: skip
    """One tile of y = x times w transposed. BLOCK_K counts bytes of w: inputs, or pairs of them in four bits."""
    m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    n = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    k = tl.arange(0, BLOCK_K)
    columns = inputs // 2 if FOUR_BITS else inputs
    # Rows past the end read others again and are not stored: cheaper than a mask.
    x_row = x_ptr + (m[None, :] % rows).to(tl.int64) * stride_x
    w_row = w_ptr + (n[:, None] % outputs).to(tl.int64) * stride_w
    step = 1 if PLANAR or not FOUR_BITS else 2
    odd_at = columns if PLANAR else 1
    sums = tl.zeros((BLOCK_N, BLOCK_M), dtype=tl.int32)
    for start in range(0, columns, BLOCK_K):
        column = start + k
        if WHOLE_K:
            w = tl.load(w_row + column[None, :])  # [N, K]
            x = tl.load(x_row + step * column[:, None])  # [K, M]
        else:
            w = tl.load(w_row + column[None, :], mask=column[None, :] < columns, other=0)
            x = tl.load(x_row + step * column[:, None], mask=column[:, None] < columns, other=0)
        if FOUR_BITS:
            if WHOLE_K:
                odd = tl.load(x_row + odd_at + step * column[:, None])
            else:
                odd = tl.load(x_row + odd_at + step * column[:, None], mask=column[:, None] < columns, other=0)
            packed = w.to(tl.int8, bitcast=True)
            sums = tl.dot(_low_nibbles(packed), x, sums, out_dtype=tl.int32)
            sums = tl.dot(_high_nibbles(packed), odd, sums, out_dtype=tl.int32)
        else:
            sums = tl.dot(w, x, sums, out_dtype=tl.int32)
    if FOUR_BITS:
        sums = sums >> 4
    inside = (m[None, :] < rows) & (n[:, None] < outputs)
    y_at = y_ptr + m[None, :].to(tl.int64) * stride_y + n[:, None]
    if SCALED:
        w_scale = tl.load(w_scale_ptr + n, mask=n < outputs, other=0.0)
        x_scale = tl.load(x_scale_ptr + m, mask=m < rows, other=0.0)
        result = sums.to(tl.float32) * w_scale[:, None] * x_scale[None, :]
        if HAS_BIAS:
            result += tl.load(bias_ptr + n, mask=n < outputs, other=0.0).to(tl.float32)[:, None]
        if HAS_RESIDUAL:
            before = residual_ptr + m[None, :].to(tl.int64) * stride_residual + n[:, None]
            result += tl.load(before, mask=inside, other=0.0).to(tl.float32)
        tl.store(y_at, result.to(y_ptr.dtype.element_ty), mask=inside)
    else:
        tl.store(y_at, sums, mask=inside)


@dataclass(frozen=True)
class Tiling:
    """How a product is cut. k: bytes of weights at a time."""

    m: int
    n: int
    k: int
    warps: int
    stages: int


def launch_gemm(
    y: Tensor,
    x: Tensor,
    weight: IntegerWeight,
    x_scale: Tensor | None,
    w_scale: Tensor | None,
    bias: Tensor | None = None,
    residual: Tensor | None = None,
    planar: bool = False,
    tiling: Tiling | None = None,
) -> None:
    """y [M, N] = x int8 [M, K] times weight [N, K] transposed; int32 without scales, else times x_scale [M, 1] and
    w_scale [N, 1], plus bias [N] and residual [M, N], in y's dtype. planar: x has its even columns first."""
    rows, outputs, four = x.shape[0], weight.outputs, weight.bits == 4
    columns = weight.data.shape[1]
    tiling = choose_tiling(rows, shared_memory(x.device)) if tiling is None else tiling
    grid = (triton.cdiv(rows, tiling.m), triton.cdiv(outputs, tiling.n))
    _gemm[grid](
        y, x, weight.data,
        None if x_scale is None else x_scale.contiguous(), None if w_scale is None else w_scale.contiguous(),
        bias, residual,
        rows, outputs, weight.inputs,
        x.stride(0), weight.data.stride(0), y.stride(0), 0 if residual is None else residual.stride(0),
        FOUR_BITS=four, PLANAR=planar, SCALED=w_scale is not None, HAS_BIAS=bias is not None,
        HAS_RESIDUAL=residual is not None,
        BLOCK_M=tiling.m, BLOCK_N=tiling.n, BLOCK_K=tiling.k, WHOLE_K=columns % tiling.k == 0,
        num_warps=tiling.warps, num_stages=tiling.stages,
    )  # fmt: skip


def choose_tiling(rows: int, room: int) -> Tiling:
    """For `rows` tokens, on a GPU where a program has room for so many bytes of shared memory.

    Of 36 tilings, with and without the inputs split, this one was the fastest on an H100 or within 1 % of it for each
    of CogACT's products, with 186 rows and with 288.
    """
    tiling = Tiling(min(64, max(16, triton.next_power_of_2(rows))), 128, 128, warps=8, stages=3)
    needed = tiling.stages * tiling.k * (2 * tiling.m + tiling.n)
    return tiling if needed <= room else replace(tiling, k=64, stages=2)
