# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Where visual tokens leave the decoder, and the scores a selector may ask for. The selector says who stays.

Tokens are dropped once, between two layers; text tokens and BOS always stay, and order is kept. Scores are
attention in one earlier layer, computed for the queries that are asked for and no others: the last token alone
(FastV, arXiv 2403.06764, where layer K-1's attention decides what layer K sees), or all text after the visual
tokens (EfficientVLA, arXiv 2506.10100, eq. 2).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

import torch
from torch import Tensor


class KeptTokens(Protocol):
    """What a selection must offer: the kept visual tokens, int64 [n], ascending, 0 = the first one."""

    @property
    def kept(self) -> Tensor: ...


class ScoreQueries(Enum):
    """Whose attention ranks the visual tokens."""

    LAST = "last"  # the last token's
    TEXT = "text"  # that of every token after the visual ones, summed


@dataclass(frozen=True)
class Pruning:
    """Where visual tokens are dropped, and who chooses.

    prune_layer: number of layers that run on all tokens. score_layer: zero-based layer, below prune_layer,
    whose attention goes to `select`. select: gets two arguments on the model's device, each None unless its flag
    asks for it: head-mean softmax attention of `queries` to the visual tokens, float32 [N_v], and the visual
    tokens as they entered the decoder, [N_v, D].
    """

    prune_layer: int
    score_layer: int
    select: Callable[[Tensor | None, Tensor | None], KeptTokens]
    needs_scores: bool = True
    needs_features: bool = False
    queries: ScoreQueries = ScoreQueries.LAST

    def __post_init__(self) -> None:
        if self.prune_layer < 0 or (self.needs_scores and not 0 <= self.score_layer < self.prune_layer):
            raise ValueError(
                f"score_layer is {self.score_layer} and prune_layer {self.prune_layer}; only a layer that "
                "runs on all tokens gives scores: 0 <= score_layer < prune_layer"
            )

    def choose(self, attention_row: Tensor | None, embeds: Tensor, visual: slice) -> KeptTokens:
        """attention_row: the queries' attention to every token, float32 [T]. embeds: the decoder's input [T, D]."""
        return self.select(
            attention_row[visual] if attention_row is not None else None,
            embeds[visual] if self.needs_features else None,
        )


def prunings_for_batch(pruning: Pruning | Sequence[Pruning] | None, batch: int, num_layers: int) -> tuple[Pruning, ...]:
    """One pruning per row, or none at all. Raises ValueError if they do not fit the batch or the decoder."""
    if pruning is None:
        return ()
    prunings = (pruning,) if isinstance(pruning, Pruning) else tuple(pruning)
    if len(prunings) != batch:
        raise ValueError(f"{len(prunings)} prunings for a batch of {batch}; give one for each row")
    if len({(p.prune_layer, p.score_layer, p.needs_scores, p.queries) for p in prunings}) > 1:
        raise ValueError(
            "the prunings of one batch differ in prune_layer, score_layer, needs_scores or queries; its rows run "
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


def score_row(queries: ScoreQueries, q: Tensor, k: Tensor, last_index: Tensor, visual: slice) -> Tensor:
    """Attention of `queries` to every token, float32 [B, T]. q: rotated [B, H, T, d]. k: rotated [B, KV, T, d]."""
    if queries is ScoreQueries.LAST:
        last = last_index[:, None]
        return head_mean_attention(take_queries(q, last), k, last)[:, 0]
    positions = torch.arange(visual.stop, q.shape[2], device=q.device).expand(len(last_index), -1)  # [B, L]
    rows = head_mean_attention(take_queries(q, positions), k, positions)  # [B, L, T]
    return (rows * (positions <= last_index[:, None])[..., None]).sum(dim=1)  # padding asks for nothing


def head_mean_attention(q: Tensor, k: Tensor, positions: Tensor) -> Tensor:
    """Head-mean causal softmax attention of some tokens to every token, without the rest of the matrix.

    q: rotated [B, H, n, d], of the tokens at `positions` [B, n]. k: rotated [B, KV, T, d]. Returns float32 [B, n, T];
    rows sum to 1.
    """
    tokens, head_dim = k.shape[2:]
    k = k.float().repeat_interleave(q.shape[1] // k.shape[1], dim=1)  # [B, H, T, d]
    logits = q.float() @ k.transpose(-1, -2) * head_dim**-0.5  # [B, H, n, T]
    seen = torch.arange(tokens, device=k.device) <= positions[:, None, :, None]  # [B, 1, n, T]
    return logits.masked_fill(~seen, float("-inf")).softmax(dim=-1).mean(dim=1)


def take_queries(q: Tensor, positions: Tensor) -> Tensor:
    """Tokens `positions` [B, n] of heads q [B, H, T, d] -> [B, H, n, d]."""
    return take_tokens(q.transpose(1, 2), positions).transpose(1, 2)


def visible_mask(last_index: Tensor, tokens: int) -> Tensor:
    """True where a row's last token may look: up to itself. last_index [B] -> bool [B, 1, 1, T]."""
    return (torch.arange(tokens, device=last_index.device) <= last_index[:, None])[:, None, None]


def take_tokens(x: Tensor, index: Tensor) -> Tensor:
    """Tokens `index` [B, n] of x [B, T, ...] -> [B, n, ...]."""
    return x[torch.arange(x.shape[0], device=x.device)[:, None], index]
