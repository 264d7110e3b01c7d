# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Random dropping: the baseline that any pruning method has to beat.

Drawn on the host from the seed alone, so that a frame keeps the same tokens on every device.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sqap_vla.pruning.selection import Reason, TokenSelection, TokenSelector, check_select_arguments


@dataclass(frozen=True)
class RandomDropSelector(TokenSelector):
    """Keeps `budget` tokens, each set of that size equally likely, whatever attention and ring say."""

    on_host = True

    def select(
        self, scores: Tensor | None, ring: Tensor, budget: int, seed: int, features: Tensor | None = None
    ) -> TokenSelection:
        """See TokenSelector.select. seed: any int >= 0; the global generator is neither read nor advanced."""
        del features
        check_select_arguments(scores, ring, budget, needs_scores=False)
        generator = torch.Generator().manual_seed(seed)
        kept = torch.randperm(len(ring), generator=generator)[:budget].sort().values.to(ring.device)
        return TokenSelection(kept, torch.full_like(kept, Reason.OTHER, dtype=torch.uint8))
