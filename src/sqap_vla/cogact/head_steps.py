# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""What lies between two runs of the DiT's blocks, as one GPU kernel: noise predicted, guidance, DDIM, the next input.

A program has one token of one chunk, in both halves of classifier-free guidance; token 0 is the condition.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import triton
import triton.language as tl
from torch import Tensor

from sqap_vla.cogact.dependent_launch import launch_options
from sqap_vla.cogact.diffusion import DiffusionSchedule
from sqap_vla.cogact.head_kernels import layer_norm


@dataclass(frozen=True)
class StepWeights:
    """Float32. embed: action -> row [D, C] and [D]. positions [1 + T, D]. project: row -> noise [C, D] and [C]."""

    embed: Tensor
    embed_bias: Tensor
    positions: Tensor
    project: Tensor
    project_bias: Tensor
    eps: float


@dataclass(frozen=True)
class DdimFactors:
    """One DDIM step as two sums: x_0 = from_x x - from_noise e; next x = of_x0 x_0 + of_noise e (diffusion.py)."""

    from_x: float
    from_noise: float
    of_x0: float
    of_noise: float

    @staticmethod
    def of(schedule: DiffusionSchedule, level: int) -> DdimFactors:
        alpha, lower = float(schedule.alphas_cumprod[level]), float(schedule.alphas_cumprod_prev[level])
        return DdimFactors(
            math.sqrt(1.0 / alpha), math.sqrt(1.0 / alpha - 1.0), math.sqrt(lower), math.sqrt(1.0 - lower)
        )


@triton.jit
def _noise_of(row_ptr, weight, bias, inside, k, eps, DIM: tl.constexpr):
    """The final layer of one row: [C]."""
    x = tl.load(row_ptr + k, mask=inside, other=0.0)
    return tl.sum(weight * layer_norm(x, inside, eps, DIM)[None, :], 1) + bias


@triton.jit
def _step(
    x_ptr, rows_ptr, normed_ptr,
    embed_ptr, embed_bias_ptr, positions_ptr, project_ptr, project_bias_ptr, condition_ptr, timestep_ptr,
    guidance, from_x, from_noise, of_x0, of_noise, eps,
    DIM: tl.constexpr, ACTIONS: tl.constexpr, GUIDED: tl.constexpr, FIRST: tl.constexpr, LAST: tl.constexpr,
    BLOCK: tl.constexpr, BLOCK_C: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """x [B, T, C] is replaced by x at the next level (but not at FIRST), rows [G B, 1 + T, D] by what the blocks are
    given next (but not at LAST), with LayerNorm in normed. condition [G B, D], timestep [D]."""
    token, chunk, chunks = tl.program_id(0), tl.program_id(1), tl.num_programs(1)
    tokens = tl.num_programs(0)
    k, c = tl.arange(0, BLOCK), tl.arange(0, BLOCK_C)
    inside, real = k < DIM, c < ACTIONS
    both = inside[None, :] & real[:, None]
    if EARLY:
        tl.extra.cuda.gdc_launch_dependents()
    position = tl.load(positions_ptr + token * DIM + k, mask=inside, other=0.0)
    embed = tl.load(embed_ptr + k[None, :] * ACTIONS + c[:, None], mask=both, other=0.0)  # [C, D]
    project = tl.load(project_ptr + c[:, None] * DIM + k[None, :], mask=both, other=0.0)  # [C, D]
    if EARLY:
        tl.extra.cuda.gdc_wait()
    row = (chunk * tokens + token) * DIM
    other_row = row + chunks * tokens * DIM  # the unconditional half's
    if token > 0:
        x_at = x_ptr + (chunk * (tokens - 1) + token - 1) * ACTIONS + c
        x = tl.load(x_at, mask=real, other=0.0)
        if not FIRST:
            bias = tl.load(project_bias_ptr + c, mask=real, other=0.0)
            noise = _noise_of(rows_ptr + row, project, bias, inside, k, eps, DIM)
            if GUIDED:
                unguided = _noise_of(rows_ptr + other_row, project, bias, inside, k, eps, DIM)
                noise = unguided + guidance * (noise - unguided)
            x = of_x0 * (from_x * x - from_noise * noise) + of_noise * noise
            tl.store(x_at, x, mask=real)
        if not LAST:
            bias = tl.load(embed_bias_ptr + k, mask=inside, other=0.0)
            made = tl.sum(embed * x[:, None], 0) + bias + position
            normed = layer_norm(made, inside, eps, DIM).to(tl.float16)
            tl.store(rows_ptr + row + k, made, mask=inside)
            tl.store(normed_ptr + row + k, normed, mask=inside)
            if GUIDED:
                tl.store(rows_ptr + other_row + k, made, mask=inside)
                tl.store(normed_ptr + other_row + k, normed, mask=inside)
    elif not LAST:
        timestep = tl.load(timestep_ptr + k, mask=inside, other=0.0)
        made = timestep + tl.load(condition_ptr + chunk * DIM + k, mask=inside, other=0.0) + position
        tl.store(rows_ptr + row + k, made, mask=inside)
        tl.store(normed_ptr + row + k, layer_norm(made, inside, eps, DIM).to(tl.float16), mask=inside)
        if GUIDED:
            made = timestep + tl.load(condition_ptr + (chunks + chunk) * DIM + k, mask=inside, other=0.0) + position
            tl.store(rows_ptr + other_row + k, made, mask=inside)
            tl.store(normed_ptr + other_row + k, layer_norm(made, inside, eps, DIM).to(tl.float16), mask=inside)


def step(
    x: Tensor,
    rows: Tensor,
    normed: Tensor,
    weights: StepWeights,
    condition: Tensor,
    timestep: Tensor | None,
    factors: DdimFactors | None,
    guidance: float,
) -> None:
    """In place: x float32 [B, T, C] to the next level; rows float32 and normed float16 [G B, 1 + T, D] from the blocks'
    output to their next input. G is 2 with guidance, the unconditional half last.

    condition: float32 [G B, D], embedded. timestep: float32 [D], embedded, of the next level; None after the last.
    factors: None before the first: x is the noise.
    """
    (chunks, steps, actions), dim = x.shape, rows.shape[2]
    none = DdimFactors(0.0, 0.0, 0.0, 0.0)
    ddim = none if factors is None else factors
    _step[(1 + steps, chunks)](
        x, rows, normed,
        weights.embed, weights.embed_bias, weights.positions, weights.project, weights.project_bias,
        condition, condition if timestep is None else timestep,
        guidance, ddim.from_x, ddim.from_noise, ddim.of_x0, ddim.of_noise, weights.eps,
        DIM=dim, ACTIONS=actions, GUIDED=rows.shape[0] > chunks, FIRST=factors is None, LAST=timestep is None,
        BLOCK=triton.next_power_of_2(dim), BLOCK_C=triton.next_power_of_2(actions), num_warps=4,
        **launch_options(x.device),
    )  # fmt: skip


__all__ = ["DdimFactors", "StepWeights", "step"]
