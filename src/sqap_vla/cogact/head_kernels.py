# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""A DiT block in six GPU kernels, for the few rows that denoising one chunk has.

As separate operations a block is a dozen launches, twelve blocks and ten steps long, and float32 products of 34 rows
leave most of a GPU idle. What limits such a product is the way of the weights to the multiprocessors. So they are held
in float16, and fetched into the cache while the kernel before still runs (dependent_launch.py):

    product             q, k, v = W normed + b
    attend_and_project  attention, and the part of the output projection that each few heads have
    gather              the parts, bias and residual added up; LayerNorm
    product             gelu(W normed + b)
    product             W hidden, in parts, each of a share of the inputs
    gather              as above

float16 has the 10 bits of fraction that TF32 has, where the cognition feature that the head starts from has the 8 of
bfloat16. Sums, residuals, norms and softmax are float32, and parts are added in order: the same result every time.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from sqap_vla.cogact.dependent_launch import launch_options
from sqap_vla.cogact.shared_memory import fitting_stages

LARGEST_ROWS = 64  # at a time
_CACHE_LINE = tl.constexpr(64)  # values in 128 bytes


@dataclass(frozen=True)
class Tiling:
    """n, k: outputs and inputs at a time. splits: parts that the inputs are cut into; of the heads, in attention."""

    n: int
    k: int
    splits: int
    warps: int
    stages: int


# The fastest of some 160 on an H100, where one denoising step has all other kernels around it.
QKV = Tiling(n=32, k=256, splits=1, warps=4, stages=3)
PROJECT = Tiling(n=64, k=0, splits=6, warps=4, stages=2)
EXPAND = Tiling(n=32, k=128, splits=1, warps=4, stages=5)
CONTRACT = Tiling(n=16, k=128, splits=4, warps=4, stages=5)
GATHER_WARPS = 4


@triton.jit
def _fetch(row_ptr, VALUES: tl.constexpr, LINES: tl.constexpr):
    """Rows [N, 1] of weights, from where the pointers point, on their way into the L2 cache."""
    line = tl.minimum(tl.arange(0, LINES), (VALUES - 1) // _CACHE_LINE)
    at = (row_ptr + line[None, :] * _CACHE_LINE).to(tl.int64)
    tl.inline_asm_elementwise("prefetch.global.L2 [$1]; mov.b32 $0, 0;", "=r,l", [at], tl.int32, False, 1)


@triton.jit
def _product(
    y_ptr, x_ptr, w_ptr, bias_ptr,
    rows, outputs,
    INPUTS: tl.constexpr, SPLITS: tl.constexpr, GELU: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, LINES: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """A tile of y = gelu(x w^t + bias), float16; or, where inputs are split, of this share's sums, float32 [SPLITS, M,
    N]. INPUTS is a multiple of BLOCK_K * SPLITS, outputs of BLOCK_N."""
    n = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    m = tl.program_id(1) * BLOCK_M + tl.arange(0, BLOCK_M)
    k = tl.arange(0, BLOCK_K)
    share: tl.constexpr = INPUTS // SPLITS
    first = tl.program_id(2) * share
    w_row = w_ptr + n * INPUTS + first
    x_row = x_ptr + m * INPUTS + first
    in_rows = m[:, None] < rows
    if EARLY:
        tl.extra.cuda.gdc_launch_dependents()
        _fetch(w_row[:, None], share, LINES)
        tl.extra.cuda.gdc_wait()
    sums = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for start in range(0, share, BLOCK_K):
        x = tl.load(x_row[:, None] + (start + k)[None, :], mask=in_rows, other=0.0)  # [M, K]
        w = tl.load(w_row[None, :] + (start + k)[:, None])  # [K, N]
        sums = tl.dot(x, w, sums)
    at = m[:, None] * outputs + n[None, :]
    if SPLITS > 1:
        tl.store(y_ptr + tl.program_id(2) * rows * outputs + at, sums, mask=in_rows)
    else:
        y = sums + tl.load(bias_ptr + n)[None, :]
        if GELU:
            inner = 0.7978845608028654 * (y + 0.044715 * y * y * y)
            y = y * tl.sigmoid(2.0 * inner)  # 0.5 y (1 + tanh(inner))
        tl.store(y_ptr + at, y.to(tl.float16), mask=in_rows)


@triton.jit
def _attend_and_project(
    parts_ptr, qkv_ptr, w_ptr,
    rows, scale,
    TOKENS: tl.constexpr, SEQUENCES: tl.constexpr, HEADS: tl.constexpr, HEADS_HERE: tl.constexpr, WIDTH: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, LINES: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """A tile of the output projection's sums over HEADS_HERE heads, for SEQUENCES sequences: each program mixes the
    values of its heads anew, which is less work than a kernel of its own. qkv [M, 3, HEADS, WIDTH]."""
    dim: tl.constexpr = HEADS * WIDTH
    n = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    row = tl.program_id(1) * (SEQUENCES * TOKENS)
    head = tl.program_id(2) * HEADS_HERE
    r, i = tl.arange(0, BLOCK_M), tl.arange(0, WIDTH)
    inside = (r < SEQUENCES * TOKENS) & (row + r < rows)
    sees = ((r[:, None] // TOKENS == r[None, :] // TOKENS) | ~inside[:, None]) & inside[None, :]  # [queries, keys]
    w_row = w_ptr + n * dim + head * WIDTH
    if EARLY:
        tl.extra.cuda.gdc_launch_dependents()
        _fetch(w_row[:, None], HEADS_HERE * WIDTH, LINES)
        tl.extra.cuda.gdc_wait()
    sums = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    q_row = qkv_ptr + (row + r) * (3 * dim) + head * WIDTH
    for h in range(0, HEADS_HERE * WIDTH, WIDTH):
        q = tl.load(q_row[:, None] + h + i[None, :], mask=inside[:, None], other=0.0)  # [M, W]
        k = tl.load(q_row[None, :] + h + dim + i[:, None], mask=inside[None, :], other=0.0)  # [W, M]
        v = tl.load(q_row[:, None] + h + 2 * dim + i[None, :], mask=inside[:, None], other=0.0)  # [M, W]
        w = tl.load(w_row[None, :] + h + i[:, None])  # [W, N]
        logits = tl.where(sees, tl.dot(q, k) * scale, float("-inf"))  # [queries, keys]
        weights = tl.exp(logits - tl.max(logits, 1)[:, None])
        total = tl.sum(weights, 1)
        mixed = tl.dot(weights.to(tl.float16), v) / total[:, None]  # [queries, W]
        sums = tl.dot(mixed.to(tl.float16), w, sums)
    at = parts_ptr + (tl.program_id(2) * rows + row + r[:, None]) * dim + n[None, :]
    tl.store(at, sums, mask=inside[:, None])


@triton.jit
def _gather(
    x_ptr, normed_ptr, parts_ptr, bias_ptr,
    rows, eps,
    DIM: tl.constexpr, PARTS: tl.constexpr, BLOCK: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """One row: x += bias + parts, in place; normed = LayerNorm(x) without weights, float16."""
    row, k = tl.program_id(0), tl.arange(0, BLOCK)
    inside = k < DIM
    if EARLY:
        tl.extra.cuda.gdc_launch_dependents()
    added = tl.load(bias_ptr + k, mask=inside, other=0.0)
    if EARLY:
        tl.extra.cuda.gdc_wait()
    for part in tl.static_range(PARTS):
        added += tl.load(parts_ptr + (part * rows + row) * DIM + k, mask=inside, other=0.0)
    x = tl.load(x_ptr + row * DIM + k, mask=inside, other=0.0) + added
    tl.store(x_ptr + row * DIM + k, x, mask=inside)
    tl.store(normed_ptr + row * DIM + k, layer_norm(x, inside, eps, DIM).to(tl.float16), mask=inside)


@triton.jit
def layer_norm(x, inside, eps, DIM: tl.constexpr):
    """Of one row, without weights; x is 0 outside."""
    centred = tl.where(inside, x - tl.sum(x) / DIM, 0.0)
    return centred * tl.math.rsqrt(tl.sum(centred * centred) / DIM + eps)


def product(x: Tensor, weight: Tensor, bias: Tensor | None, tiling: Tiling, gelu: bool = False) -> Tensor:
    """x float16 [M, K], weight float16 [N, K], bias float32 [N] -> float16 [M, N]. With splits, the parts, float32 [S,
    M, N], without the bias. gelu: the tanh approximation, after the bias."""
    (rows, inputs), outputs = x.shape, weight.shape[0]
    block_k = min(tiling.k, inputs // tiling.splits)
    if tiling.splits > 1:
        y = torch.empty(tiling.splits, rows, outputs, dtype=torch.float32, device=x.device)
    else:
        y = torch.empty(rows, outputs, dtype=torch.float16, device=x.device)
    block_m = min(LARGEST_ROWS, max(16, triton.next_power_of_2(rows)))
    stages = fitting_stages(tiling.stages, x.element_size() * (block_m + tiling.n) * block_k, x.device)
    _product[(outputs // tiling.n, triton.cdiv(rows, block_m), tiling.splits)](
        y, x, weight, bias, rows, outputs, INPUTS=inputs, SPLITS=tiling.splits, GELU=gelu,
        BLOCK_M=block_m, BLOCK_N=tiling.n, BLOCK_K=block_k, LINES=_lines(inputs // tiling.splits),
        num_warps=tiling.warps, num_stages=stages, **launch_options(x.device),
    )  # fmt: skip
    return y


def attend_and_project(qkv: Tensor, weight: Tensor, tokens: int, heads: int, tiling: Tiling) -> Tensor:
    """qkv float16 [B T, 3 D] of B sequences of T <= 64 tokens, weight float16 [D, D] -> parts float32 [S, B T, D]."""
    rows, dim = qkv.shape[0], weight.shape[0]
    at_once = min(LARGEST_ROWS // tokens, rows // tokens)
    here, width = heads // tiling.splits, dim // heads
    parts = torch.empty(tiling.splits, rows, dim, dtype=torch.float32, device=qkv.device)
    block_m = max(16, triton.next_power_of_2(at_once * tokens))
    stages = fitting_stages(tiling.stages, qkv.element_size() * (3 * block_m + tiling.n) * width, qkv.device)
    _attend_and_project[(dim // tiling.n, triton.cdiv(rows, at_once * tokens), tiling.splits)](
        parts, qkv, weight, rows, width**-0.5,
        TOKENS=tokens, SEQUENCES=at_once, HEADS=heads, HEADS_HERE=here, WIDTH=width,
        BLOCK_M=block_m, BLOCK_N=tiling.n, LINES=_lines(here * width),
        num_warps=tiling.warps, num_stages=stages, **launch_options(qkv.device),
    )  # fmt: skip
    return parts


def gather(x: Tensor, normed: Tensor, parts: Tensor, bias: Tensor, eps: float) -> None:
    """x float32 [M, D] += bias [D] + parts [S, M, D]; normed float16 [M, D] = LayerNorm(x)."""
    rows, dim = x.shape
    _gather[(rows,)](
        x, normed, parts, bias, rows, eps,
        DIM=dim, PARTS=parts.shape[0], BLOCK=triton.next_power_of_2(dim), num_warps=GATHER_WARPS,
        **launch_options(x.device),
    )  # fmt: skip


def _lines(values: int) -> int:
    return triton.next_power_of_2(triton.cdiv(values, 64))
