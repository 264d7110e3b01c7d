# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Rotary positions and causal attention of one prefill as one GPU kernel, from q, k and v as a joined projection leaves
them to the values mixed, heads side by side.

A prefill has a few hundred tokens, and attention of so few is some microseconds: as steps of their own, turning q and k
by their positions and moving them costs as much again. Here a program turns what it reads; keys are turned anew for
every tile of queries, which is little work.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from sqap_vla.cogact.rotary_kernel import turned
from sqap_vla.cogact.shared_memory import fitting_stages

_QUERIES, _KEYS = 64, 64  # at a time


@triton.jit
def _attend(
    out_ptr, y_ptr, cos_ptr, sin_ptr,
    tokens, scale, stride_batch, stride_token, stride_rope,
    HEADS: tl.constexpr, SHARING: tl.constexpr, HALF: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """BLOCK_M queries of one head. y [B, T, (HEADS + 2 HEADS / SHARING) * 2 * HALF], out [B, T, HEADS * 2 * HALF]."""
    width: tl.constexpr = 2 * HALF
    tile, head, batch = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    m, i, wide = tile * BLOCK_M + tl.arange(0, BLOCK_M), tl.arange(0, HALF), tl.arange(0, width)
    y = y_ptr + batch * stride_batch
    key = y + (HEADS + head // SHARING) * width
    value = key + (HEADS // SHARING) * width
    table = batch * stride_rope
    asked = m[:, None] < tokens
    at, turn = y + head * width + m[:, None] * stride_token + i[None, :], table + m[:, None] * width + i[None, :]
    cos, sin = tl.load(cos_ptr + turn, mask=asked, other=0.0), tl.load(sin_ptr + turn, mask=asked, other=0.0)
    q_low, q_high = turned(
        tl.load(at, mask=asked, other=0.0), tl.load(at + HALF, mask=asked, other=0.0), cos, sin
    )  # [M, HALF] each
    mixed = tl.zeros((BLOCK_M, width), dtype=tl.float32)
    total = tl.zeros((BLOCK_M,), dtype=tl.float32)
    highest = tl.full((BLOCK_M,), float("-inf"), dtype=tl.float32)
    for start in range(0, (tile + 1) * BLOCK_M, BLOCK_N):
        n = start + tl.arange(0, BLOCK_N)
        there = n[None, :] < tokens
        k_at, k_turn = key + n[None, :] * stride_token + i[:, None], table + n[None, :] * width + i[:, None]
        k_cos, k_sin = (
            tl.load(cos_ptr + k_turn, mask=there, other=0.0),
            tl.load(sin_ptr + k_turn, mask=there, other=0.0),
        )
        k_low, k_high = turned(
            tl.load(k_at, mask=there, other=0.0), tl.load(k_at + HALF, mask=there, other=0.0), k_cos, k_sin
        )  # [HALF, N] each
        v = tl.load(value + n[:, None] * stride_token + wide[None, :], mask=n[:, None] < tokens, other=0.0)
        logits = tl.dot(q_high, k_high, tl.dot(q_low, k_low, input_precision="ieee"), input_precision="ieee") * scale
        # A query sees itself, so no row is empty; one past the end sees what the last one does.
        logits = tl.where((n[None, :] <= m[:, None]) & there, logits, float("-inf"))
        before = highest
        highest = tl.maximum(before, tl.max(logits, 1))
        weights, fades = tl.exp(logits - highest[:, None]), tl.exp(before - highest)
        total = total * fades + tl.sum(weights, 1)
        mixed = tl.dot(weights.to(v.dtype), v, mixed * fades[:, None], input_precision="ieee")
    to = out_ptr + ((batch * tokens + m[:, None]) * HEADS + head) * width + wide[None, :]
    tl.store(to, (mixed / total[:, None]).to(out_ptr.dtype.element_ty), mask=asked)


def attend(y: Tensor, cos: Tensor, sin: Tensor, heads: int, kv_heads: int) -> Tensor:
    """q, k and v side by side [B, T, (heads + 2 kv_heads) d], cos and sin [B, T, d], their batch may be expanded; d a
    power of two, from 32 on -> values mixed, [B, T, heads * d]."""
    batch, tokens, width = cos.shape
    y = y if y.stride(2) == 1 else y.contiguous()
    cos, sin = (table if table.stride()[1:] == (width, 1) else table.contiguous() for table in (cos, sin))
    out = torch.empty(batch, tokens, heads * width, dtype=y.dtype, device=y.device)
    _attend[(triton.cdiv(tokens, _QUERIES), heads, batch)](
        out, y, cos, sin, tokens, width**-0.5, y.stride(0), y.stride(1), cos.stride(0),
        HEADS=heads, SHARING=heads // kv_heads, HALF=width // 2, BLOCK_M=_QUERIES, BLOCK_N=_KEYS,
        num_warps=4, num_stages=fitting_stages(2, _KEYS * 3 * width * y.element_size(), y.device),
    )  # fmt: skip
    return out
