# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""A DiT block in five GPU kernels, for the few rows that denoising one chunk has.

As separate operations a block is a dozen launches of a few microseconds each, twelve blocks and ten steps long, while
the weights of a block take only 10 us to read. Here a product's bias, GELU and residual are added where its rows are
written, and the LayerNorm before it (without weights) as well:

    norm(x) w^t = (x w^t - mean(x) sum(w)) / std(x)

with mean, std and the sums of w's rows gathered on the way. Products are in float32, in three parts of TF32. A product
with few outputs is split over its inputs; each part has its place, and the last one to come adds them up in order, so
the result is the same every time.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor, nn

from sqap_vla.cogact.layers import SelfAttention

_LARGEST_ROWS = 64
_PROGRAMS = 96  # as many are enough to read weights as fast as a GPU can


@dataclass(frozen=True)
class Tiling:
    """n, k: outputs and inputs at a time."""

    n: int = 32
    k: int = 64
    warps: int = 4
    stages: int = 3


TILING = Tiling()


@triton.jit
def _linear(
    y_ptr, x_ptr, w_ptr, bias_ptr, residual_ptr, parts_ptr, arrived_ptr,
    rows, outputs, eps,
    INPUTS: tl.constexpr, NORM: tl.constexpr, GELU: tl.constexpr, HAS_RESIDUAL: tl.constexpr, SPLITS: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """A tile of y = gelu(norm(x) w^t + bias) + residual, computed transposed. INPUTS is a multiple of BLOCK_K * SPLITS.
    """
    n = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    m = tl.program_id(1) * BLOCK_M + tl.arange(0, BLOCK_M)
    k = tl.arange(0, BLOCK_K)
    x_row = x_ptr + m[None, :] * INPUTS
    in_rows, in_outputs = m[None, :] < rows, n[:, None] < outputs
    sums = tl.zeros((BLOCK_N, BLOCK_M), dtype=tl.float32)
    total = tl.zeros((BLOCK_M,), dtype=tl.float32)
    squares = tl.zeros((BLOCK_M,), dtype=tl.float32)
    w_total = tl.zeros((BLOCK_N,), dtype=tl.float32)
    share: tl.constexpr = INPUTS // SPLITS
    first = tl.program_id(2) * share
    for start in range(0, share, BLOCK_K):
        column = first + start + k
        w = tl.load(w_ptr + n[:, None] * INPUTS + column[None, :], mask=in_outputs, other=0.0)  # [N, K]
        x = tl.load(x_row + column[:, None], mask=in_rows, other=0.0)  # [K, M]
        if NORM:
            total += tl.sum(x, 0)
            squares += tl.sum(x * x, 0)
            w_total += tl.sum(w, 1)
        sums = tl.dot(w, x, sums, input_precision="tf32x3")
    if NORM:
        mean = total / INPUTS
        rstd = tl.math.rsqrt(squares / INPUTS - mean * mean + eps)
        sums = (sums - w_total[:, None] * mean[None, :]) * rstd[None, :]
    inside = in_rows & in_outputs
    at = m[None, :] * outputs + n[:, None]
    last = True
    if SPLITS > 1:
        tl.store(parts_ptr + tl.program_id(2) * rows * outputs + at, sums, mask=inside)
        tl.debug_barrier()  # all threads' values are there before it is said
        tile = tl.program_id(0) * tl.num_programs(1) + tl.program_id(1)
        last = tl.atomic_add(arrived_ptr + tile, 1, sem="acq_rel") == SPLITS - 1
        if last:
            sums = tl.zeros((BLOCK_N, BLOCK_M), dtype=tl.float32)
            for part in range(SPLITS):
                sums += tl.load(parts_ptr + part * rows * outputs + at, mask=inside, other=0.0, cache_modifier=".cg")
    if last:
        y = sums + tl.load(bias_ptr + n, mask=n < outputs, other=0.0)[:, None]
        if GELU:
            inner = 0.7978845608028654 * (y + 0.044715 * y * y * y)
            y = y * tl.sigmoid(2.0 * inner)  # 0.5 y (1 + tanh(inner))
        if HAS_RESIDUAL:
            y += tl.load(residual_ptr + at, mask=inside, other=0.0)
        tl.store(y_ptr + at, y, mask=inside)


@triton.jit
def _attention(
    out_ptr, qkv_ptr, tokens, scale,
    HEADS: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One head of one row: qkv [B, T, 3, HEADS, WIDTH] -> out [B, T, HEADS, WIDTH]."""
    head, batch = tl.program_id(0), tl.program_id(1)
    token, i = tl.arange(0, BLOCK), tl.arange(0, WIDTH)
    inside = token[:, None] < tokens
    at = qkv_ptr + (batch * tokens + token[:, None]) * (3 * HEADS * WIDTH) + head * WIDTH + i[None, :]
    q = tl.load(at, mask=inside, other=0.0)
    k = tl.load(at + HEADS * WIDTH, mask=inside, other=0.0)
    v = tl.load(at + 2 * HEADS * WIDTH, mask=inside, other=0.0)
    logits = tl.dot(q, tl.trans(k), input_precision="tf32x3") * scale
    logits = tl.where(token[None, :] < tokens, logits, float("-inf"))
    weights = tl.exp(logits - tl.max(logits, 1)[:, None])
    weights = weights / tl.sum(weights, 1)[:, None]
    out = tl.dot(weights, v, input_precision="tf32x3")
    to = out_ptr + (batch * tokens + token[:, None]) * (HEADS * WIDTH) + head * WIDTH + i[None, :]
    tl.store(to, out, mask=inside)


def linear(
    x: Tensor,
    layer: nn.Linear,
    eps: float | None = None,
    gelu: bool = False,
    residual: Tensor | None = None,
    tiling: Tiling = TILING,
) -> Tensor:
    """x float32 [M, K] -> [M, N]. eps: of a LayerNorm without weights that comes first; None for none. gelu: the tanh
    approximation, after the bias."""
    rows, inputs = x.shape
    outputs = layer.out_features
    block_m = min(_LARGEST_ROWS, max(16, triton.next_power_of_2(rows)))
    grid = (triton.cdiv(outputs, tiling.n), triton.cdiv(rows, block_m))
    splits = 1
    while eps is None and grid[0] * grid[1] * splits < _PROGRAMS and inputs % (2 * splits * tiling.k) == 0:
        splits *= 2
    y = torch.empty(rows, outputs, dtype=torch.float32, device=x.device)
    parts = arrived = None
    if splits > 1:
        parts = torch.empty(splits, rows, outputs, dtype=torch.float32, device=x.device)
        arrived = torch.zeros(grid[0] * grid[1], dtype=torch.int32, device=x.device)
    _linear[(*grid, splits)](
        y, x, layer.weight, layer.bias, residual, parts, arrived, rows, outputs, eps,
        INPUTS=inputs, NORM=eps is not None, GELU=gelu, HAS_RESIDUAL=residual is not None, SPLITS=splits,
        BLOCK_M=block_m, BLOCK_N=tiling.n, BLOCK_K=tiling.k, num_warps=tiling.warps, num_stages=tiling.stages,
    )  # fmt: skip
    return y


def attention(qkv: Tensor, tokens: int, heads: int) -> Tensor:
    """qkv float32 [B T, 3 D] -> [B T, D]."""
    width = qkv.shape[1] // (3 * heads)
    out = torch.empty(qkv.shape[0], heads * width, dtype=torch.float32, device=qkv.device)
    block = max(16, triton.next_power_of_2(tokens))
    _attention[(heads, qkv.shape[0] // tokens)](
        out, qkv, tokens, width**-0.5, HEADS=heads, WIDTH=width, BLOCK=block, num_warps=4
    )
    return out


def run_blocks(blocks: nn.ModuleList, x: Tensor) -> Tensor:
    """What DiT.run_blocks computes. x: float32 [B, T, D]."""
    tokens, rows = x.shape[1], x.flatten(0, 1).contiguous()
    for block in blocks:
        mixed = attention(linear(rows, block.attn.qkv, block.norm1.eps), tokens, block.attn.num_heads)
        rows = linear(mixed, block.attn.proj, residual=rows)
        hidden = linear(rows, block.mlp.fc1, block.norm2.eps, gelu=True)
        rows = linear(hidden, block.mlp.fc2, residual=rows)
    return rows.unflatten(0, x.shape[:2])


def fits(blocks: nn.ModuleList) -> bool:
    """Whether the kernels take these blocks: float32, widths in whole tiles, heads a power of two wide."""
    return all(_fits(block.attn, block.mlp.fc2) for block in blocks)


def _fits(mixer: SelfAttention, last: nn.Linear) -> bool:
    dim = mixer.proj.in_features
    width = dim // mixer.num_heads
    whole = dim % TILING.k == 0 and last.in_features % TILING.k == 0
    return last.weight.dtype == torch.float32 and whole and width >= 16 and width & (width - 1) == 0


__all__ = ["attention", "fits", "linear", "run_blocks"]
