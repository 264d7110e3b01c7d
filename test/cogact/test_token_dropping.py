# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Dropped tokens are gone, kept ones are as they were, and rows of a batch do not feel each other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from decoders import Kept, keep, random_decoder
from tolerance import close
from torch import Tensor

from sqap_vla.cogact.llama import rotary_tables
from sqap_vla.cogact.token_dropping import Pruning, ScoreQueries, head_mean_attention


def test_keeping_everything_changes_nothing():
    decoder, embeds = random_decoder(), torch.randn(1, 30, 48)
    last = torch.tensor([29])
    dense = decoder(embeds, last, slice(1, 17)).cognition
    for layer in (1, 2, 3):
        close(
            decoder(embeds, last, slice(1, 17), keep(torch.arange(16), layer)).cognition,
            dense.numpy(),
            1e-6,
        )


def test_kept_tokens_keep_their_positions():
    """Pruning before the first layer equals masking the dropped keys everywhere, positions untouched."""
    decoder, embeds = random_decoder(), torch.randn(1, 30, 48)
    kept = torch.tensor([0, 3, 4, 11, 15])
    pruned = decoder(embeds, torch.tensor([29]), slice(1, 17), keep(kept, 0, needs_scores=False)).cognition

    visible = torch.ones(30, dtype=torch.bool)
    visible[1:17] = False
    visible[1 + kept] = True
    mask = visible & torch.ones(30, 30, dtype=torch.bool).tril()
    rope = rotary_tables(torch.arange(30)[None], decoder.config.head_dim, decoder.config.rope_theta, torch.float32)
    x = embeds
    for layer in decoder.layers:
        q, k, v = layer.qkv(x, rope)
        k, v = (t.repeat_interleave(q.shape[1] // t.shape[1], dim=1) for t in (k, v))
        out = torch.nn.functional.scaled_dot_product_attention(
            q, k, v, attn_mask=mask | torch.eye(30, dtype=torch.bool)
        )
        x = x + layer.self_attn.o_proj(out.transpose(1, 2).flatten(2))
        x = x + layer.mlp(layer.post_attention_layernorm(x))
    close(pruned, decoder.norm(x)[:, -1].numpy(), 1e-5)


def test_rows_of_different_length_prune_as_they_would_alone():
    decoder = random_decoder()
    lengths, visual = (30, 26), slice(1, 17)
    embeds = torch.randn(2, 30, 48)
    prunings = [keep(torch.tensor([1, 5, 6]), 2), keep(torch.tensor([0, 9, 15]), 2)]
    together = decoder(embeds, torch.tensor([length - 1 for length in lengths]), visual, prunings)
    for row, (length, pruning) in enumerate(zip(lengths, prunings, strict=True)):
        alone = decoder(embeds[row : row + 1, :length], torch.tensor([length - 1]), visual, pruning)
        close(together.cognition[row], alone.cognition[0].numpy(), 1e-5)
        assert together.selections[row].kept.tolist() == pruning.select(None).kept.tolist()


def test_scores_ignore_padding():
    decoder, embeds = random_decoder(), torch.randn(2, 30, 48)
    rows: list[Tensor] = []
    decoder(embeds, torch.tensor([29, 20]), slice(1, 17), [keep(torch.arange(16), 1, rows)] * 2)
    alone: list[Tensor] = []
    decoder(embeds[1:, :21], torch.tensor([20]), slice(1, 17), keep(torch.arange(16), 1, alone))
    close(rows[1], alone[0].numpy(), 1e-6)


def test_text_queries_ignore_padding():
    decoder, embeds = random_decoder(), torch.randn(2, 30, 48)
    rows: list[Tensor] = []
    decoder(
        embeds,
        torch.tensor([29, 20]),
        slice(1, 17),
        [keep(torch.arange(16), 1, rows, queries=ScoreQueries.TEXT)] * 2,
    )
    alone: list[Tensor] = []
    decoder(
        embeds[1:, :21],
        torch.tensor([20]),
        slice(1, 17),
        keep(torch.arange(16), 1, alone, queries=ScoreQueries.TEXT),
    )
    close(rows[1], alone[0].numpy(), 1e-6)


def test_a_selector_may_see_the_visual_tokens_as_they_entered():
    decoder, embeds = random_decoder(), torch.randn(1, 30, 48)
    seen: list[Tensor] = []

    def select(scores: Tensor | None, features: Tensor | None) -> Kept:
        seen.append(features)
        return Kept(torch.arange(4))

    decoder(embeds, torch.tensor([29]), slice(1, 17), Pruning(2, 1, select, needs_features=True))
    assert torch.equal(seen[0], embeds[0, 1:17])


def test_a_selector_that_needs_no_scores_gets_none():
    seen: list[Tensor | None] = []
    decoder, embeds = random_decoder(), torch.randn(1, 30, 48)
    decoder(embeds, torch.tensor([29]), slice(1, 17), keep(torch.arange(4), 2, seen, needs_scores=False))
    assert seen == [None]


def test_rows_sum_to_one():
    q, k = torch.randn(2, 6, 1, 8), torch.randn(2, 2, 12, 8)
    row = head_mean_attention(q, k, torch.tensor([[11], [4]]))[:, 0]
    close(row.sum(-1), np.ones(2, np.float32), 1e-6)
    assert (row[1, 5:] == 0).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prune_layer": 2, "score_layer": 2}, "0 <= score_layer < prune_layer"),
        ({"prune_layer": 2, "score_layer": -1}, "0 <= score_layer < prune_layer"),
        ({"prune_layer": -1, "score_layer": 0, "needs_scores": False}, "prune_layer -1"),
    ],
)
def test_layers_that_cannot_be(options, message):
    with pytest.raises(ValueError, match=message):
        keep(torch.arange(4), **options)


def test_prunings_must_fit_the_decoder_and_the_batch():
    decoder, embeds, last = random_decoder(), torch.randn(2, 30, 48), torch.tensor([29, 29])
    with pytest.raises(ValueError, match="at most 3"):
        decoder(embeds[:1], last[:1], slice(1, 17), keep(torch.arange(4), 4))
    with pytest.raises(ValueError, match="1 prunings for a batch of 2"):
        decoder(embeds, last, slice(1, 17), keep(torch.arange(4), 2))
    with pytest.raises(ValueError, match="differ in prune_layer"):
        decoder(embeds, last, slice(1, 17), [keep(torch.arange(4), 2), keep(torch.arange(4), 3)])
    with pytest.raises(ValueError, match=r"keep \[4, 5\] visual tokens"):
        decoder(embeds, last, slice(1, 17), [keep(torch.arange(4), 2), keep(torch.arange(5), 2)])
