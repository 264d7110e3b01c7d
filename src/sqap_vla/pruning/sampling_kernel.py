# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Farthest-point sampling as one GPU kernel: its hundred dependent steps stay in registers of one warp.

As separate operations they would be some 350 launches, more than the whole selection may take.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _farthest(choices_ptr, taken_ptr, candidates_ptr, COUNT: tl.constexpr, GRID: tl.constexpr, N: tl.constexpr):
    """All of farthest-point sampling in one program, distances in registers. N >= GRID^2, a power of two."""
    token = tl.arange(0, N)
    row, column = token // GRID, token % GRID
    inside = token < GRID * GRID
    taken = tl.load(taken_ptr + token, mask=inside, other=0) != 0
    free = (tl.load(candidates_ptr + token, mask=inside, other=0) != 0) & ~taken & inside
    distance = tl.full((N,), 2 * GRID * GRID, tl.int32)
    for other in range(GRID * GRID):
        here = tl.load(taken_ptr + other) != 0
        apart = (row - other // GRID) * (row - other // GRID) + (column - other % GRID) * (column - other % GRID)
        distance = tl.where(here, tl.minimum(distance, apart), distance)
    distance = tl.where(free, distance, -1)
    for place in range(COUNT):
        # The largest distance, the lowest index among equals, in one reduction.
        best = tl.max(distance * N + (N - 1 - token))
        exhausted = best < 0
        choice = N - 1 - (best & (N - 1))
        tl.store(choices_ptr + place, tl.where(exhausted, -1, choice).to(tl.int64))
        apart = (row - choice // GRID) * (row - choice // GRID) + (column - choice % GRID) * (column - choice % GRID)
        apart = tl.where(token == choice, -1, apart)
        distance = tl.minimum(distance, apart)


def farthest_points(taken: Tensor, candidates: Tensor, count: int, grid: int) -> Tensor:
    """See sampling.farthest_point_sampling."""
    choices = torch.empty(count, dtype=torch.int64, device=taken.device)
    n = triton.next_power_of_2(grid * grid)
    _farthest[(1,)](
        choices, taken.view(torch.uint8), candidates.view(torch.uint8), COUNT=count, GRID=grid, N=n, num_warps=1
    )
    return choices
