# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""SQAP token selection (paper section 3.2): ring around the end-effector, attention's top k, farthest points
of the rest.

Every token gets a unique priority and the `budget` best stay, so the budget is met exactly whatever overlaps:

    ring        0 .. N-1      by index; the ring comes cut to the budget, so all of it stays
    attention   N .. 2N-1     by rank; where ring and attention exceed the budget, the lowest scored yield
    fps         2N .. 3N-1    by order of choice, started from ring and attention
    rest        3N .. 4N-1

How many places farthest-point sampling fills depends on how far ring and attention overlap, which only the
device knows. At least k tokens are always taken, so B - k choices always suffice: that many are made, in
order, and the priority cuts off those in excess. All shapes depend on N and B alone. k is taken of all N
tokens, before the ring is considered (eq. 1).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sqap_vla.pruning.sampling import farthest_point_sampling
from sqap_vla.pruning.selection import (
    Reason,
    TokenSelection,
    TokenSelector,
    check_select_arguments,
    lowest,
    rank_descending,
)


@dataclass(frozen=True)
class SqapSelector(TokenSelector):
    """The method and its ablations.

    attention_share: k = floor(attention_share * budget). use_ring, use_attention, use_fps: leave a strategy
    out; without farthest-point sampling attention fills the whole budget (k = budget), so one of the two must
    stay. grid: side of the token raster, N = grid^2.
    A NaN score counts as -inf. Ties go to the lowest index.
    Raises ValueError for a share outside [0, 1], a grid below 1, or nothing to fill the budget with.
    """

    attention_share: float = 0.25
    use_attention: bool = True
    use_ring: bool = True
    use_fps: bool = True
    grid: int = 16

    def __post_init__(self) -> None:
        if not 0 <= self.attention_share <= 1:
            raise ValueError(
                f"attention_share is {self.attention_share}; it must be in [0, 1], "
                "the part of the budget that attention may claim"
            )
        if self.grid < 1:
            raise ValueError(f"grid is {self.grid} tokens; it must be >= 1")
        if not (self.use_attention or self.use_fps):
            raise ValueError("use_attention and use_fps are both off; the ring alone does not fill the budget")

    @property
    def needs_scores(self) -> bool:
        return self.use_attention

    @property
    def needs_ring(self) -> bool:
        return self.use_ring

    def attention_count(self, budget: int) -> int:
        """k, the tokens that attention claims of `budget`."""
        if not self.use_attention:
            return 0
        return math.floor(self.attention_share * budget) if self.use_fps else budget

    def select(
        self, scores: Tensor | None, ring: Tensor, budget: int, seed: int, features: Tensor | None = None
    ) -> TokenSelection:
        """See TokenSelector.select; N = grid^2. The method draws no random numbers: `seed` changes
        nothing."""
        del seed, features
        check_select_arguments(scores, ring, budget, self.needs_scores)
        n = self.grid * self.grid
        if len(ring) != n:
            raise ValueError(f"ring has {len(ring)} tokens; a {self.grid}x{self.grid} grid has {n}")
        index = torch.arange(n, device=ring.device)
        if not self.use_ring:
            ring = torch.zeros_like(ring)
        k = self.attention_count(budget)
        rank = rank_descending(scores) if scores is not None and k > 0 else index
        attention = rank < k  # [N]

        taken = ring | attention
        fps_order = farthest_point_sampling(taken, ~taken, budget - k, self.grid)
        fps_rank = torch.full((n + 1,), n, device=ring.device)  # one more for the -1 of exhausted candidates
        fps_rank[fps_order] = index[: budget - k]
        fps_rank = fps_rank[:n]

        reason = torch.where(fps_rank < n, int(Reason.FPS), int(Reason.OTHER))
        within = torch.where(fps_rank < n, fps_rank, index)
        reason = torch.where(attention, int(Reason.ATTENTION), reason)
        within = torch.where(attention, rank, within)
        reason = torch.where(ring, int(Reason.RING), reason)
        within = torch.where(ring, index, within)
        kept = lowest(reason * n + within, budget)
        return TokenSelection(kept, reason[kept].to(torch.uint8))
