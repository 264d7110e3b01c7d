# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Several instructions on one picture at once give what each gives alone: what is trained is what is run."""

from __future__ import annotations

from pathlib import Path

import torch

from sqap_vla.cogact.llama import Pruning
from sqap_vla.cogact.prompt import Tokenizer
from sqap_vla.pruning.selection import keep_all
from sqap_vla.sim import INSTRUCTIONS
from sqap_vla.training.mini import mini_config, mini_tokenizer, untrained
from sqap_vla.training.packed import packed_cognition


def test_packed_cognition_is_the_networks_own() -> None:
    model = untrained(mini_config(), seed=0)
    tokenizer = Tokenizer(mini_tokenizer(), "<s>", "</s>", Path("tokenizer.json"))
    visual = torch.randn(2, 256, 128)
    prompts = [[tokenizer.encode(INSTRUCTIONS[i]) for i in row] for row in ((0, 4, 9), (13, 9, 2))]
    longest = max(len(ids) for row in prompts for ids in row) - 1
    texts = torch.tensor([[ids[1:] + [0] * (longest - len(ids) + 1) for ids in row] for row in prompts])
    lengths = torch.tensor([[len(ids) - 1 for ids in row] for row in prompts])
    with torch.no_grad():
        packed = packed_cognition(model, visual, texts, lengths, layers=(1,))
        for picture, row in enumerate(prompts):
            for column, ids in enumerate(row):
                alone = model.cognition(visual[picture : picture + 1], [ids]).cognition[0]
                torch.testing.assert_close(packed.cognition[picture, column], alone, atol=2e-5, rtol=1e-4)


def test_attention_rows_are_those_that_rank_tokens() -> None:
    model = untrained(mini_config(), seed=0)
    visual, ids = torch.randn(1, 256, 128), [1, 5, 6, 7, 2]
    seen = []

    def select(scores, features):
        seen.append(scores)
        return keep_all(256, "cpu")

    with torch.no_grad():
        model.cognition(visual, [ids], Pruning(prune_layer=3, score_layer=2, select=select))
        packed = packed_cognition(model, visual, torch.tensor([[ids[1:]]]), torch.tensor([[4]]), layers=(2,))
    torch.testing.assert_close(packed.attention[2][0, 0].mean(dim=0), seen[0], atol=1e-6, rtol=1e-4)
