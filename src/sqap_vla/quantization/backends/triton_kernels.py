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

Programs are ordered so that neighbours share weights. Where the tiles are too few for the GPU, the inputs are split as
well; the parts meet in an int32 buffer, and the last one to come finishes the tile. Integers: the order does not matter.
"""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

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
    y_ptr, x_ptr, w_ptr, x_scale_ptr, w_scale_ptr, bias_ptr, residual_ptr, parts_ptr, arrived_ptr,
    rows, outputs, inputs,
    stride_x, stride_w, stride_y, stride_residual,
    FOUR_BITS: tl.constexpr, PLANAR: tl.constexpr,
    SCALED: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_RESIDUAL: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, SPLITS: tl.constexpr, WHOLE_K: tl.constexpr,
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
    share = tl.cdiv(tl.cdiv(columns, BLOCK_K), SPLITS) * BLOCK_K
    first = tl.program_id(2) * share
    for start in range(first, tl.minimum(first + share, columns), BLOCK_K):
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
    last = True
    if SPLITS > 1:
        part_at = parts_ptr + m[None, :].to(tl.int64) * outputs + n[:, None]
        tl.atomic_add(part_at, sums, mask=inside, sem="relaxed")
        tl.debug_barrier()  # all threads' parts are there before it is said
        tile = tl.program_id(0) * tl.num_programs(1) + tl.program_id(1)
        last = tl.atomic_add(arrived_ptr + tile, 1, sem="acq_rel") == SPLITS - 1
        if last:
            sums = tl.load(part_at, mask=inside, other=0, cache_modifier=".cg")
    if last:
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
    """How a product is cut. splits: of the inputs. k: bytes of weights at a time."""

    m: int
    n: int
    k: int
    splits: int = 1
    warps: int = 4
    stages: int = 3


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
    tiling = choose_tiling(rows, outputs, columns, _multiprocessors(x.device)) if tiling is None else tiling
    grid = (triton.cdiv(rows, tiling.m), triton.cdiv(outputs, tiling.n), tiling.splits)
    parts = arrived = None
    if tiling.splits > 1:
        buffer = torch.zeros(rows * outputs + grid[0] * grid[1], dtype=torch.int32, device=x.device)
        parts, arrived = buffer[: rows * outputs], buffer[rows * outputs :]
    _gemm[grid](
        y, x, weight.data,
        None if x_scale is None else x_scale.contiguous(), None if w_scale is None else w_scale.contiguous(),
        bias, residual, parts, arrived,
        rows, outputs, weight.inputs,
        x.stride(0), weight.data.stride(0), y.stride(0), 0 if residual is None else residual.stride(0),
        FOUR_BITS=four, PLANAR=planar, SCALED=w_scale is not None, HAS_BIAS=bias is not None,
        HAS_RESIDUAL=residual is not None,
        BLOCK_M=tiling.m, BLOCK_N=tiling.n, BLOCK_K=tiling.k, SPLITS=tiling.splits,
        WHOLE_K=columns % (tiling.k * tiling.splits) == 0,
        num_warps=tiling.warps, num_stages=tiling.stages,
    )  # fmt: skip


def choose_tiling(rows: int, outputs: int, columns: int, multiprocessors: int) -> Tiling:
    """Few rows: all of them in one tile, so that each weight is unpacked once. Splits fill the GPU."""
    m = min(128, max(16, triton.next_power_of_2(rows)))
    n, k = (128, 128) if m >= 64 else (64, 128)
    tiles = triton.cdiv(rows, m) * triton.cdiv(outputs, n)
    splits = 1
    while tiles * splits * 2 <= multiprocessors and columns // (2 * splits) >= 4 * k:
        splits *= 2
    return Tiling(m, n, k, splits, warps=8 if m == 128 else 4)


@functools.lru_cache(maxsize=16)
def _multiprocessors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 16
