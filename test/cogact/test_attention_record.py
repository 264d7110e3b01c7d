# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The recorded rows are those that a selector is given, in every layer, padded rows and shared keys included."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sqap_vla.cogact.attention_record import recorded_attention
from sqap_vla.cogact.config import DecoderConfig
from sqap_vla.cogact.llama import LlamaDecoder, Pruning

TOKENS, VISUAL, LAYERS = 12, slice(1, 9), 3


@pytest.fixture(params=[(4, 4), (4, 2)], ids=["own_keys", "shared_keys"])
def decoder(request: pytest.FixtureRequest) -> LlamaDecoder:
    torch.manual_seed(0)
    heads, kv_heads = request.param
    decoder = LlamaDecoder(DecoderConfig(16, 32, 48, LAYERS, heads, kv_heads)).requires_grad_(False)
    for parameter in decoder.parameters():
        if parameter.dim() == 2:
            parameter.normal_(std=0.3)
    return decoder


class Everything:
    kept = torch.arange(VISUAL.stop - VISUAL.start)


def rows_of(decoder: LlamaDecoder, embeds: Tensor, last: Tensor) -> dict[int, Tensor]:
    with recorded_attention(decoder, last) as rows:
        decoder(embeds, last, VISUAL)
    return rows


def test_a_row_for_each_layer_is_a_distribution_over_what_the_last_token_sees(decoder):
    embeds, last = torch.randn(2, TOKENS, 32), torch.tensor([TOKENS - 1, TOKENS - 3])  # the second is padded
    rows = rows_of(decoder, embeds, last)
    assert sorted(rows) == list(range(LAYERS))
    for row in rows.values():
        assert row.shape == (2, TOKENS) and row.dtype == torch.float32
        torch.testing.assert_close(row.sum(1), torch.ones(2))
        assert (row[1, TOKENS - 2 :] == 0).all() and (row[1, : TOKENS - 2] > 0).all()
    alone = rows_of(decoder, embeds[1:, : TOKENS - 2], last[1:])
    torch.testing.assert_close(rows[LAYERS - 1][1:, : TOKENS - 2], alone[LAYERS - 1])


def test_the_rows_are_what_a_selector_is_given(decoder):
    embeds, last = torch.randn(1, TOKENS, 32), torch.tensor([TOKENS - 1])
    rows = rows_of(decoder, embeds, last)
    for layer in range(LAYERS - 1):
        given: list[Tensor] = []

        def select(scores: Tensor, features: Tensor | None, given: list[Tensor] = given) -> Everything:
            given.append(scores)
            return Everything()

        decoder(embeds, last, VISUAL, Pruning(prune_layer=layer + 1, score_layer=layer, select=select))
        torch.testing.assert_close(rows[layer][0, VISUAL], given[0])


def test_listening_changes_nothing_and_ends(decoder):
    embeds, last = torch.randn(1, TOKENS, 32), torch.tensor([TOKENS - 1])
    before = decoder(embeds, last, VISUAL).cognition
    with recorded_attention(decoder, last) as rows:
        assert torch.equal(decoder(embeds, last, VISUAL).cognition, before)
    recorded = dict(rows)
    decoder(2 * embeds, last, VISUAL)
    assert all(torch.equal(rows[layer], recorded[layer]) for layer in recorded)
