# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""A DiT block in seven GPU kernels, for the few rows that denoising one chunk has.

As separate operations a block is a dozen launches, twelve blocks and ten steps long, and float32 products of 34 rows
leave most of a GPU idle. Here a product's bias, GELU and residual are added where its rows are written, and a product
with few outputs is split over its inputs; each part has its place, and the last one to come adds them up in order, so
the result is the same every time.

Products are in TF32, with float32 sums: 10 bits of fraction, where the cognition feature that they start from has the
8 of bfloat16. "tf32x3" is nearly float32, and takes about twice as long.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor, nn

from sqap_vla.cogact.layers import SelfAttention

_LARGEST_ROWS = 64
_PROGRAMS = 192  # more do not read weights faster
_MOST_TILES = 256  # of a product that is split: no more than _PROGRAMS


@dataclass(frozen=True)
class Tiling:
    """n, k: outputs and inputs at a time."""

    n: int = 64
    k: int = 128
    warps: int = 8
    stages: int = 3


TILING = Tiling()
PRECISION = "tf32"


@triton.jit
def _linear(
    y_ptr, x_ptr, w_ptr, bias_ptr, residual_ptr, parts_ptr, arrived_ptr,
    rows, outputs,
    INPUTS: tl.constexpr, GELU: tl.constexpr, HAS_RESIDUAL: tl.constexpr, SPLITS: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """A tile of y = gelu(x w^t + bias) + residual, computed transposed. INPUTS is a multiple of BLOCK_K * SPLITS."""
    n = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    m = tl.program_id(1) * BLOCK_M + tl.arange(0, BLOCK_M)
    k = tl.arange(0, BLOCK_K)
    x_row = x_ptr + m[None, :] * INPUTS
    in_rows, in_outputs = m[None, :] < rows, n[:, None] < outputs
    sums = tl.zeros((BLOCK_N, BLOCK_M), dtype=tl.float32)
    share: tl.constexpr = INPUTS // SPLITS
    first = tl.program_id(2) * share
    for start in range(0, share, BLOCK_K):
        column = first + start + k
        w = tl.load(w_ptr + n[:, None] * INPUTS + column[None, :], mask=in_outputs, other=0.0)  # [N, K]
        x = tl.load(x_row + column[:, None], mask=in_rows, other=0.0)  # [K, M]
        sums = tl.dot(w, x, sums, input_precision=PRECISION)
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
def _norm(y_ptr, x_ptr, eps, INPUTS: tl.constexpr, BLOCK: tl.constexpr):
    """LayerNorm without weights, of one row."""
    row, k = tl.program_id(0), tl.arange(0, BLOCK)
    x = tl.load(x_ptr + row * INPUTS + k, mask=k < INPUTS, other=0.0)
    centred = tl.where(k < INPUTS, x - tl.sum(x) / INPUTS, 0.0)
    y = centred * tl.math.rsqrt(tl.sum(centred * centred) / INPUTS + eps)
    tl.store(y_ptr + row * INPUTS + k, y, mask=k < INPUTS)


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
    gelu: bool = False,
    residual: Tensor | None = None,
    arrived: Tensor | None = None,
    tiling: Tiling = TILING,
    precision: str = PRECISION,
) -> Tensor:
    """x float32 [M, K] -> [M, N]. gelu: the tanh approximation, after the bias. arrived: int32 [>= tiles] zeros, of
    this call alone."""
    rows, inputs = x.shape
    outputs = layer.out_features
    block_m = min(_LARGEST_ROWS, max(16, triton.next_power_of_2(rows)))
    grid = (triton.cdiv(outputs, tiling.n), triton.cdiv(rows, block_m))
    splits = 1
    while grid[0] * grid[1] * splits * 2 <= _PROGRAMS and inputs % (2 * splits * tiling.k) == 0:
        splits *= 2
    y = torch.empty(rows, outputs, dtype=torch.float32, device=x.device)
    parts = None
    if splits > 1:
        parts = torch.empty(splits, rows, outputs, dtype=torch.float32, device=x.device)
        if arrived is None or arrived.shape[0] < grid[0] * grid[1]:
            arrived = torch.zeros(grid[0] * grid[1], dtype=torch.int32, device=x.device)
    _linear[(*grid, splits)](
        y, x, layer.weight, layer.bias, residual, parts, arrived, rows, outputs,
        INPUTS=inputs, GELU=gelu, HAS_RESIDUAL=residual is not None, SPLITS=splits,
        BLOCK_M=block_m, BLOCK_N=tiling.n, BLOCK_K=tiling.k, PRECISION=precision,
        num_warps=tiling.warps, num_stages=tiling.stages,
    )  # fmt: skip
    return y


def norm(x: Tensor, eps: float) -> Tensor:
    """LayerNorm without weights of float32 [M, K]."""
    y = torch.empty_like(x)
    rows, inputs = x.shape
    _norm[(rows,)](y, x, eps, INPUTS=inputs, BLOCK=triton.next_power_of_2(inputs), num_warps=4)
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
    arrived = torch.zeros(4 * len(blocks), _MOST_TILES, dtype=torch.int32, device=x.device)
    for block, here in zip(blocks, arrived.split(4), strict=True):
        qkv = linear(norm(rows, block.norm1.eps), block.attn.qkv, arrived=here[0])
        mixed = attention(qkv, tokens, block.attn.num_heads)
        rows = linear(mixed, block.attn.proj, residual=rows, arrived=here[1])
        hidden = linear(norm(rows, block.norm2.eps), block.mlp.fc1, gelu=True, arrived=here[2])
        rows = linear(hidden, block.mlp.fc2, residual=rows, arrived=here[3])
    return rows.unflatten(0, x.shape[:2])


def fits(blocks: nn.ModuleList) -> bool:
    """Whether the kernels take these blocks: float32, widths in whole tiles, heads a power of two wide."""
    return all(_fits(block.attn, block.mlp.fc2) for block in blocks)


def _fits(mixer: SelfAttention, last: nn.Linear) -> bool:
    dim = mixer.proj.in_features
    width = dim // mixer.num_heads
    whole = dim % TILING.k == 0 and last.in_features % TILING.k == 0
    return last.weight.dtype == torch.float32 and whole and width >= 16 and width & (width - 1) == 0


__all__ = ["attention", "fits", "linear", "norm", "run_blocks"]
