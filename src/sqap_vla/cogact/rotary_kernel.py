# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Rotary positions as one GPU kernel, in place of a dozen small operations."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def turned(low, high, cos, sin):
    """Halves of heads turned by their positions, rounded as in steps of their own."""
    wide_low, wide_high = low.to(tl.float32), high.to(tl.float32)
    return (wide_low * cos - wide_high * sin).to(low.dtype), (wide_high * cos + wide_low * sin).to(low.dtype)


@triton.jit
def _rotary(
    out_ptr, y_ptr, cos_ptr, sin_ptr,
    tokens, heads, rotated, stride_batch, stride_token, stride_rope,
    HALF: tl.constexpr, BLOCK_H: tl.constexpr,
):  # fmt: skip
    """One token of y [B, T, heads * 2 * HALF] -> out [B, T, heads, 2 * HALF]; heads from `rotated` on are copied."""
    token, batch = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    head = tl.program_id(2) * BLOCK_H + tl.arange(0, BLOCK_H)
    i = tl.arange(0, HALF)
    inside = head[:, None] < heads
    at = y_ptr + batch * stride_batch + token * stride_token + head[:, None] * (2 * HALF) + i[None, :]
    low = tl.load(at, mask=inside, other=0.0)
    high = tl.load(at + HALF, mask=inside, other=0.0)
    table = batch * stride_rope + token * (2 * HALF) + i
    # Both halves of the tables hold the same angles.
    cos, sin = tl.load(cos_ptr + table)[None, :], tl.load(sin_ptr + table)[None, :]
    turns = head[:, None] < rotated
    new_low, new_high = turned(low, high, cos, sin)
    new_low, new_high = tl.where(turns, new_low, low), tl.where(turns, new_high, high)
    to = out_ptr + ((batch * tokens + token) * heads + head[:, None]) * (2 * HALF) + i[None, :]
    tl.store(to, new_low, mask=inside)
    tl.store(to + HALF, new_high, mask=inside)


def rotary_heads_kernel(y: Tensor, cos: Tensor, sin: Tensor, rotated: int) -> Tensor:
    """y [B, T, heads * d], cos and sin [B, T, d], their batch may be expanded -> [B, heads, T, d]; the first `rotated`
    heads are rotated, the others only moved. d / 2 is a power of two. Tokens stay outermost in memory: attention lays
    its output out like its queries, and there heads are wanted side by side."""
    batch, tokens, width = cos.shape
    heads = y.shape[2] // width
    y = y if y.stride(2) == 1 else y.contiguous()
    cos, sin = (table if table.stride()[1:] == (width, 1) else table.contiguous() for table in (cos, sin))
    out = torch.empty(batch, tokens, heads, width, dtype=y.dtype, device=y.device)
    block = min(32, triton.next_power_of_2(heads))
    _rotary[(tokens, batch, triton.cdiv(heads, block))](
        out, y, cos, sin, tokens, heads, rotated, y.stride(0), y.stride(1), cos.stride(0),
        HALF=width // 2, BLOCK_H=block, num_warps=4,
    )  # fmt: skip
    return out.transpose(1, 2)
