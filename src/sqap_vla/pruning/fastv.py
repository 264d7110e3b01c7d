# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""FastV: keep the visual tokens that the last token attends to most.

Source: arXiv 2403.06764, section 4; pkunlp-icler/FastV. There attention of layer K - 1 (zero-based) decides what
layer K sees, averaged over heads, last query row only. Ties, which the original leaves to torch.topk, go to the
lowest index here.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sqap_vla.pruning.selection import (
    Reason,
    TokenSelection,
    TokenSelector,
    check_select_arguments,
    lowest,
    rank_descending,
)


@dataclass(frozen=True)
class FastVSelector(TokenSelector):
    """The `budget` highest scores. Geometry plays no part."""

    needs_scores = True

    def select(
        self, scores: Tensor | None, ring: Tensor, budget: int, seed: int, features: Tensor | None = None
    ) -> TokenSelection:
        """See TokenSelector.select. Nothing is random: `seed` changes nothing."""
        del seed, features
        check_select_arguments(scores, ring, budget, needs_scores=True)
        kept = lowest(rank_descending(scores), budget)
        return TokenSelection(kept, torch.full_like(kept, Reason.ATTENTION, dtype=torch.uint8))
