# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Farthest-point sampling of visual tokens (paper eq. 5).

Distance: squared Euclidean between token coordinates on the grid. The next token is the candidate whose
nearest already chosen or taken token is farthest away; ties go to the lowest index. With nothing taken every
candidate is equally far, so the first choice is the lowest candidate (token 0 if all are candidates).

The number of choices is fixed by the caller and each step is three small operations in fixed shapes, without
asking the device for a value (before a CUDA graph is captured, one call has to upload the table of
distances); on CUDA with Triton all steps are one kernel. The first m choices do not depend on how many follow,
so who needs fewer ranks by position instead of choosing less.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

_CHOSEN = -1  # below every distance, and a minimum with it stays: such a token is never chosen again


@lru_cache(maxsize=8)
def _distance_table(grid: int, device: torch.device) -> Tensor:
    """int32 [N, N] squared distances of the tokens of a grid x grid raster, with _CHOSEN on the diagonal."""
    with torch.inference_mode(False):  # built once, used inside and outside inference mode
        index = torch.arange(grid * grid, dtype=torch.int32)
        t_u, t_v = index % grid, index // grid
        table = (t_u[:, None] - t_u).square() + (t_v[:, None] - t_v).square()
        table.fill_diagonal_(_CHOSEN)
        return table.to(device)


@lru_cache(maxsize=1)
def _kernel() -> Callable[[Tensor, Tensor, int, int], Tensor] | None:
    """The same in one launch, where there is Triton (it comes with CUDA builds of torch)."""
    try:
        from sqap_vla.pruning.sampling_kernel import farthest_points
    except ImportError:
        return None
    return farthest_points


def farthest_point_sampling(taken: Tensor, candidates: Tensor, count: int, grid: int = 16) -> Tensor:
    """Candidates in the order of choice.

    taken: bool [N], where sampling starts from. candidates: bool [N], what may be chosen; a taken token never
    is. N = grid^2.
    Returns int64 [count]; entries past the last candidate are -1.
    Raises ValueError for wrong shapes or a negative count.
    """
    n = grid * grid
    if any(mask.shape != (n,) or mask.dtype != torch.bool for mask in (taken, candidates)):
        raise ValueError(
            f"taken is {taken.dtype} {tuple(taken.shape)}, candidates {candidates.dtype} "
            f"{tuple(candidates.shape)}; both must be bool [{n}]"
        )
    if count < 0:
        raise ValueError(f"count is {count}; it must be >= 0")
    if count == 0:
        return torch.empty(0, dtype=torch.int64, device=taken.device)
    if taken.is_cuda and (kernel := _kernel()) is not None:
        return kernel(taken, candidates, count, grid)
    table = _distance_table(grid, taken.device)
    farther_than_any = 2 * n
    to_taken = torch.where(taken, table, farther_than_any).amin(dim=1)  # [N]
    distance = torch.where(candidates & ~taken, to_taken, _CHOSEN)
    farthest = []
    choices = []
    for _ in range(count):
        value, choice = distance.max(dim=0, keepdim=True)  # the first of equals, by torch's contract
        distance = torch.minimum(distance, table.index_select(0, choice)[0])
        farthest.append(value)
        choices.append(choice)
    return torch.where(torch.cat(farthest) == _CHOSEN, -1, torch.cat(choices))
