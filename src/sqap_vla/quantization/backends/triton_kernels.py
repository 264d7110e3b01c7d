# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Kernels of triton_w4a4.py and their launches."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from sqap_vla.quantization.packing import IntegerWeight


@triton.jit
def _gemm(
    y_ptr, x_ptr, w_ptr, x_scale_ptr, w_scale_ptr, bias_ptr,
    rows, outputs, inputs,
    stride_x, stride_w, stride_y,
    FOUR_BITS: tl.constexpr, SCALED: tl.constexpr, HAS_BIAS: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """One tile of y = x times w transposed. BLOCK_K counts bytes of w: inputs, or pairs of them in four bits."""
    m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    n = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    k = tl.arange(0, BLOCK_K)
    in_rows, in_outputs = m[:, None] < rows, n[None, :] < outputs
    columns = inputs // 2 if FOUR_BITS else inputs
    x_row = x_ptr + m[:, None].to(tl.int64) * stride_x
    w_row = w_ptr + n[None, :].to(tl.int64) * stride_w
    sums = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.int32)
    for start in range(0, columns, BLOCK_K):
        column = start + k
        in_x = in_rows & (column[None, :] < columns)
        w = tl.load(w_row + column[:, None], mask=in_outputs & (column[:, None] < columns), other=0)  # [K, N]
        if FOUR_BITS:
            packed = w.to(tl.int8, bitcast=True)
            even = tl.load(x_row + 2 * column[None, :], mask=in_x, other=0)  # [M, K]
            odd = tl.load(x_row + 2 * column[None, :] + 1, mask=in_x, other=0)
            low = (packed << 4).to(tl.int8) >> 4  # shifting int8 to the right copies the sign
            sums = tl.dot(even, low.to(tl.int8), sums, out_dtype=tl.int32)
            sums = tl.dot(odd, (packed >> 4).to(tl.int8), sums, out_dtype=tl.int32)
        else:
            x = tl.load(x_row + column[None, :], mask=in_x, other=0)
            sums = tl.dot(x, w, sums, out_dtype=tl.int32)
    y_at = y_ptr + m[:, None].to(tl.int64) * stride_y + n[None, :]
    if SCALED:
        w_scale = tl.load(w_scale_ptr + n, mask=n < outputs, other=0.0)
        x_scale = tl.load(x_scale_ptr + m, mask=m < rows, other=0.0)
        result = sums.to(tl.float32) * w_scale[None, :] * x_scale[:, None]
        if HAS_BIAS:
            result += tl.load(bias_ptr + n, mask=n < outputs, other=0.0).to(tl.float32)[None, :]
        tl.store(y_at, result.to(y_ptr.dtype.element_ty), mask=in_rows & in_outputs)
    else:
        tl.store(y_at, sums, mask=in_rows & in_outputs)


def launch_gemm(
    y: Tensor, x: Tensor, weight: IntegerWeight, x_scale: Tensor | None, w_scale: Tensor | None, bias: Tensor | None
) -> None:
    """y [M, N] = x int8 [M, K] times weight [N, K] transposed; int32 without scales, else times x_scale [M, 1] and
    w_scale [N, 1], plus bias [N], in y's dtype."""
    rows, outputs, four = x.shape[0], weight.outputs, weight.bits == 4
    block_m = 16 if rows <= 16 else 64 if rows <= 64 else 128
    block_n, block_k = (64, 64) if block_m == 128 else (32, 128)
    grid = (triton.cdiv(rows, block_m), triton.cdiv(outputs, block_n))
    _gemm[grid](
        y, x, weight.data,
        None if x_scale is None else x_scale.contiguous(), None if w_scale is None else w_scale.contiguous(), bias,
        rows, outputs, weight.inputs,
        x.stride(0), weight.data.stride(0), y.stride(0),
        FOUR_BITS=four, SCALED=w_scale is not None, HAS_BIAS=bias is not None,
        BLOCK_M=block_m, BLOCK_N=block_n, BLOCK_K=block_k,
        num_warps=4 if block_m < 128 else 8, num_stages=3,
    )  # fmt: skip


@triton.jit
def _quantize(
    values_ptr, scale_ptr, x_ptr, channel_ptr,
    columns, stride_x, clip_ratio,
    LIMIT: tl.constexpr, BY_CHANNEL: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One token of x as integers and their scale; see quantizer.quantize_input."""
    row, k = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK)
    inside = k < columns
    wide = tl.load(x_ptr + row * stride_x + k, mask=inside, other=0.0).to(tl.float32)
    if BY_CHANNEL:
        wide = tl.div_rn(wide, tl.load(channel_ptr + k, mask=inside, other=1.0))
    size = tl.abs(wide)
    finite = tl.max((~(size < float("inf"))).to(tl.int32)) == 0  # NaN is below nothing
    if BY_CHANNEL:
        scale = 1.0
    else:
        scale = tl.div_rn(tl.max(size) * clip_ratio, LIMIT * 1.0)
        scale = tl.where(scale == 0.0, 1.0, scale)
    quotient = tl.div_rn(wide, scale + tl.zeros((BLOCK,), tl.float32))
    quotient = tl.where(quotient == quotient, quotient, 0.0)
    quotient = tl.minimum(tl.maximum(quotient, -LIMIT * 1.0), LIMIT * 1.0)
    # To nearest, halves to even: adding 1.5 * 2^23 leaves no bits for a fraction.
    rounded = (quotient + 12582912.0) - 12582912.0
    tl.store(values_ptr + row * columns + k, rounded.to(tl.int8), mask=inside)
    tl.store(scale_ptr + row, tl.where(finite, scale, float("nan")))


def launch_quantize(x: Tensor, bits: int, clip_ratio: float, channel_scale: Tensor | None) -> tuple[Tensor, Tensor]:
    """x [M, K] -> int8 [M, K] and float32 [M, 1]: one scale for each token, or 1 after a division by channel_scale."""
    rows, columns = x.shape
    values = torch.empty(rows, columns, dtype=torch.int8, device=x.device)
    scale = torch.empty(rows, 1, dtype=torch.float32, device=x.device)
    block = triton.next_power_of_2(columns)
    _quantize[(rows,)](
        values, scale, x, channel_scale, columns, x.stride(0), clip_ratio if bits == 4 else 1.0,
        LIMIT=2 ** (bits - 1) - 1, BY_CHANNEL=channel_scale is not None, BLOCK=block, num_warps=8,
    )  # fmt: skip
    return values, scale
