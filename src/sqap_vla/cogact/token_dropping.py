# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Where visual tokens leave the decoder, and the scores a selector may ask for. The selector says who stays.

Tokens are dropped once, between two layers; text tokens and BOS always stay, and order is kept. Scores are
the last token's attention in one earlier layer, computed for that one query alone. Source of the place and of
the scores: FastV (arXiv 2403.06764), where layer K-1's attention decides what layer K sees.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class KeptTokens(Protocol):
    """What a selection must offer: the kept visual tokens, int64 [n], ascending, 0 = the first one."""

    @property
    def kept(self) -> Tensor: ...


@dataclass(frozen=True)
class Pruning:
    """Where visual tokens are dropped, and who chooses.

    prune_layer: number of layers that run on all tokens. score_layer: zero-based layer, below prune_layer,
    whose attention goes to `select`. select: gets the last token's head-mean softmax attention to the visual
    tokens, float32 [N_v] on the model's device, or None if `needs_scores` is false.
    """

    prune_layer: int
    score_layer: int
    select: Callable[[Tensor | None], KeptTokens]
    needs_scores: bool = True

    def __post_init__(self) -> None:
        if self.prune_layer < 0 or (self.needs_scores and not 0 <= self.score_layer < self.prune_layer):
            raise ValueError(
                f"score_layer is {self.score_layer} and prune_layer {self.prune_layer}; only a layer that "
                "runs on all tokens gives scores: 0 <= score_layer < prune_layer"
            )

    def choose(self, attention_row: Tensor | None, visual: slice) -> KeptTokens:
        """attention_row: the last token's attention to every token, float32 [T]."""
        return self.select(attention_row[visual] if attention_row is not None else None)


def prunings_for_batch(pruning: Pruning | Sequence[Pruning] | None, batch: int, num_layers: int) -> tuple[Pruning, ...]:
    """One pruning per row, or none at all. Raises ValueError if they do not fit the batch or the decoder."""
    if pruning is None:
        return ()
    prunings = (pruning,) if isinstance(pruning, Pruning) else tuple(pruning)
    if len(prunings) != batch:
        raise ValueError(f"{len(prunings)} prunings for a batch of {batch}; give one for each row")
    if len({(p.prune_layer, p.score_layer, p.needs_scores) for p in prunings}) > 1:
        raise ValueError(
            "the prunings of one batch differ in prune_layer, score_layer or needs_scores; its rows run "
            "together, so they must be the same"
        )
    if prunings[0].prune_layer >= num_layers:
        raise ValueError(
            f"prune_layer is {prunings[0].prune_layer} and the decoder has {num_layers} layers; at least one "
            f"must come after the pruning: at most {num_layers - 1}"
        )
    return prunings


def surviving_tokens(selections: Sequence[KeptTokens], visual: slice, num_tokens: int) -> Tensor:
    """Sequence indices [B, T'] that stay, ascending: the kept visual tokens and all that are not visual.

    Raises ValueError if the rows keep different numbers of tokens.
    """
    counts = {selection.kept.shape[0] for selection in selections}
    if len(counts) > 1:
        raise ValueError(
            f"the rows of one batch keep {sorted(counts)} visual tokens; they run together: keep equally many"
        )
    tokens = torch.arange(num_tokens, device=selections[0].kept.device)
    before, after = tokens[: visual.start], tokens[visual.stop :]
    return torch.stack([torch.cat([before, visual.start + s.kept, after]) for s in selections])


def last_token_attention(q_last: Tensor, k: Tensor, last_index: Tensor) -> Tensor:
    """Head-mean softmax attention of the last token to every token, without the rest of the attention matrix.

    q_last: rotated [B, H, 1, d]. k: rotated [B, KV, T, d]. last_index: [B]. Returns float32 [B, T]; rows sum
    to 1.
    """
    batch, kv_heads, tokens, head_dim = k.shape
    q = q_last.reshape(batch, kv_heads, -1, head_dim).float()  # [B, KV, H / KV, d]
    logits = q @ k.float().transpose(-1, -2) * head_dim**-0.5  # [B, KV, H / KV, T]
    logits = logits.masked_fill(~visible_mask(last_index, tokens), float("-inf"))
    return logits.softmax(dim=-1).mean(dim=(1, 2))  # [B, T]


def visible_mask(last_index: Tensor, tokens: int) -> Tensor:
    """True where a row's last token may look: up to itself. last_index [B] -> bool [B, 1, 1, T]."""
    return (torch.arange(tokens, device=last_index.device) <= last_index[:, None])[:, None, None]


def take_tokens(x: Tensor, index: Tensor) -> Tensor:
    """Tokens `index` [B, n] of x [B, T, ...] -> [B, n, ...]."""
    return x[torch.arange(x.shape[0], device=x.device)[:, None], index]
