# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""EfficientVLA's visual tokens: relevant to the task, and different from the most relevant ones.

Source: arXiv 2506.10100, section 3.3; no code is published. Of B tokens,

    V_key   the key_tokens highest relevances s_i
    V_task  the next floor(task_share * (B - key_tokens)) highest
    V_div   the rest of B: those farthest from V_key, by 1 - max over V_key of cos(v_j, v_k)   (eq. 4)

Relevance (eq. 2) is attention averaged over heads and summed over the tokens of the instruction. The paper writes
it as the visual token's attention to the text; visual tokens come first and attention is causal, so that is zero,
and the text's attention to the visual token is meant. Its min-max scaling changes no rank and is left out. v_j is
the visual token as it enters the decoder. Ties go to the lowest index.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from sqap_vla.pruning.selection import (
    Reason,
    TokenSelection,
    TokenSelector,
    check_select_arguments,
    rank_descending,
)


@dataclass(frozen=True)
class RelevanceDiversitySelector(TokenSelector):
    """key_tokens: size of V_key (the paper names 4 to 8 and runs with 4). task_share: alpha.

    Raises ValueError for key_tokens below 1 or a share outside [0, 1].
    """

    key_tokens: int = 4
    task_share: float = 0.5

    needs_scores = True
    needs_features = True

    def __post_init__(self) -> None:
        if self.key_tokens < 1:
            raise ValueError(f"key_tokens is {self.key_tokens}; diversity is measured from at least one key token")
        if not 0 <= self.task_share <= 1:
            raise ValueError(f"task_share is {self.task_share}; it must be in [0, 1]")

    def select(
        self, scores: Tensor | None, ring: Tensor, budget: int, seed: int, features: Tensor | None = None
    ) -> TokenSelection:
        """See TokenSelector.select. Key and task tokens count as ATTENTION, diverse ones as OTHER."""
        del seed
        check_select_arguments(scores, ring, budget, needs_scores=True)
        if features is None or features.ndim != 2 or len(features) != len(ring):
            shape = None if features is None else tuple(features.shape)
            raise ValueError(f"features has shape {shape}; diversity needs one row per token, [{len(ring)}, D]")
        n, keys = len(ring), min(self.key_tokens, budget)
        relevant = keys + math.floor(self.task_share * (budget - keys))
        by_relevance = torch.argsort(rank_descending(scores))  # [N]

        unit = F.normalize(features.float(), dim=1)
        distance = 1 - (unit @ unit[by_relevance[:keys]].T).amax(dim=1)  # [N]
        distance = distance.index_fill(0, by_relevance[:relevant], -torch.inf)  # chosen already
        diverse = torch.argsort(rank_descending(distance))[: budget - relevant]

        reason = torch.full((n,), Reason.OTHER, dtype=torch.uint8, device=ring.device)
        reason.index_fill_(0, by_relevance[:relevant], int(Reason.ATTENTION))
        kept = torch.cat([by_relevance[:relevant], diverse]).sort().values
        return TokenSelection(kept, reason[kept])
