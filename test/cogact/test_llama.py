# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The decoder against official hidden states, FastV's, and transformers' LlamaModel at other sizes."""

from __future__ import annotations

import pytest
import torch
from decoders import keep, random_decoder
from tolerance import close
from torch import Tensor
from transformers import LlamaConfig, LlamaModel

from sqap_vla.cogact.llama import rotary_tables
from sqap_vla.cogact.preprocess import preprocess
from sqap_vla.cogact.token_dropping import Pruning, ScoreQueries
from sqap_vla.pruning.fastv import FastVSelector
from sqap_vla.pruning.selection import budget_from_ratio

HIDDEN_ATOL = 5e-5
COGNITION_ATOL = 2e-5
VISUAL = slice(1, 257)


class TestAgainstOfficialOutputs:
    def test_every_layer_matches(self, arrays, tiny):
        reference = arrays("e_vlm")
        states = reference["hidden_states_all_layers"]
        decoder = tiny.model.decoder
        visual = tiny.model.encode_images(*(picture[None] for picture in preprocess(arrays("d_preprocess")["img2"])))
        output = tiny.model.cognition(visual, reference["input_ids"].tolist(), record_hidden=True)
        assert len(output.hidden) == len(states) == len(decoder.layers) + 1
        for hidden, expected in zip(output.hidden[:-1], states[:-1], strict=True):
            close(hidden[0], expected, HIDDEN_ATOL)
        close(output.hidden[-1][0], states[-1, -1:], HIDDEN_ATOL)
        close(output.cognition, reference["cognition"], COGNITION_ATOL)
        close(output.cognition, reference["cognition_via_generate"], COGNITION_ATOL)

        # Inference leaves the last layer's other tokens out; the layer itself must get them right too.
        positions = torch.arange(states.shape[1])[None]
        rope = rotary_tables(positions, decoder.config.head_dim, decoder.config.rope_theta, torch.float32)
        close(decoder.norm(decoder.layers[-1](output.hidden[-2], rope))[0], states[-1], HIDDEN_ATOL)

    def test_rows_of_a_padded_batch_match(self, arrays, tiny):
        reference, frames = arrays("e_vlm"), arrays("d_preprocess")
        pictures = [preprocess(frames[name]) for name in ("img0", "img2")]
        visual = tiny.model.encode_images(*(torch.stack(tower) for tower in zip(*pictures, strict=True)))
        prompts = [
            row[mask].tolist()
            for row, mask in zip(reference["batch_input_ids"], reference["batch_attention_mask"], strict=True)
        ]
        assert [len(prompt) - 1 for prompt in prompts] == reference["batch_last_index"].tolist()
        close(tiny.model.cognition(visual, prompts).cognition, reference["batch_cognition"], COGNITION_ATOL)
        close(
            tiny.model.cognition(visual[:1], prompts[:1]).cognition,
            reference["single0_cognition"],
            COGNITION_ATOL,
        )

    @pytest.mark.parametrize("case", ["k1_r0.5", "k2_r0.5", "k2_r0.75", "k3_r0.25", "k3_r0.9"])
    def test_fastv_pruning_matches(self, arrays, tiny, case):
        reference = arrays("g_fastv")
        layer = int(case[1])
        embeds = torch.from_numpy(reference["inputs_embeds"])
        indices = torch.from_numpy(reference[f"{case}_keep_indices"])
        visual_kept = indices[(indices >= VISUAL.start) & (indices < VISUAL.stop)] - VISUAL.start
        seen: list[Tensor] = []
        output = tiny.model.decoder(
            embeds,
            torch.tensor([embeds.shape[1] - 1]),
            VISUAL,
            keep(visual_kept, layer, seen),
            record_hidden=True,
        )
        close(output.cognition, reference[f"{case}_last_hidden_state"], COGNITION_ATOL)
        close(seen[0], reference[f"{case}_lasttok_attn_avg"][VISUAL], 1e-6)
        assert [hidden.shape[1] for hidden in output.hidden[:-1]] == [
            reference[f"{case}_seq_after"][max(i - 1, 0)] for i in range(len(output.hidden) - 1)
        ]

        # FastV keeps the visual tokens with the largest scores; ours must rank them the same.
        ranked = seen[0].topk(len(visual_kept)).indices.sort().values
        assert ranked.tolist() == visual_kept.tolist()

    @pytest.mark.parametrize("case", ["k1_r0.5", "k2_r0.5", "k2_r0.75", "k3_r0.25", "k3_r0.9"])
    def test_fastv_selects_the_same_tokens_from_the_embeddings_on(self, arrays, tiny, case):
        reference = arrays("g_fastv")
        layer, ratio = int(case[1]), float(case.split("_r")[1])
        ring = torch.zeros(256, dtype=torch.bool)
        embeds = torch.from_numpy(reference["inputs_embeds"])
        pruning = Pruning(
            layer,
            layer - 1,
            lambda scores, _: FastVSelector().select(scores, ring, budget_from_ratio(ratio), seed=0),
        )
        output = tiny.model.decoder(embeds, torch.tensor([embeds.shape[1] - 1]), VISUAL, pruning)
        kept = {0, *(1 + output.selections[0].kept).tolist(), *range(257, embeds.shape[1])}
        assert kept == set(reference[f"{case}_keep_indices"].tolist())
        close(output.cognition, reference[f"{case}_last_hidden_state"], COGNITION_ATOL)
        assert list(output.computed) == reference[f"{case}_seq_after"].tolist()

    def test_score_row_is_the_last_row_of_the_full_attention(self, arrays, tiny):
        reference = arrays("g_fastv")
        full = reference["k2_r0.5_layer_attention_full"]  # [1, H, T, T]
        embeds = torch.from_numpy(reference["inputs_embeds"])
        seen: list[Tensor] = []
        tiny.model.decoder(embeds, torch.tensor([embeds.shape[1] - 1]), VISUAL, keep(torch.arange(256), 2, seen))
        close(seen[0], full[0, :, -1].mean(0)[VISUAL], 1e-6)

    def test_text_queries_sum_the_rows_of_all_text_after_the_pictures(self, arrays, tiny):
        reference = arrays("g_fastv")
        full = reference["k2_r0.5_layer_attention_full"]  # [1, H, T, T]
        embeds = torch.from_numpy(reference["inputs_embeds"])
        seen: list[Tensor] = []
        pruning = keep(torch.arange(256), 2, seen, queries=ScoreQueries.TEXT)
        tiny.model.decoder(embeds, torch.tensor([embeds.shape[1] - 1]), VISUAL, pruning)
        close(seen[0], full[0, :, VISUAL.stop :].mean(0).sum(0)[VISUAL], 1e-5)

    def test_without_pruning_fastv_and_cogact_agree(self, arrays, tiny):
        reference = arrays("g_fastv")
        embeds = torch.from_numpy(reference["inputs_embeds"])
        close(
            tiny.model.decoder(embeds, torch.tensor([embeds.shape[1] - 1])).cognition,
            reference["noprune_last"],
            COGNITION_ATOL,
        )


class TestAgainstTransformers:
    @pytest.mark.parametrize("num_kv_heads", [6, 3, 1])
    def test_last_token_matches(self, num_kv_heads):
        decoder = random_decoder(num_kv_heads)
        config = decoder.config
        other = LlamaModel(
            LlamaConfig(
                vocab_size=config.vocab_size,
                hidden_size=config.hidden_size,
                intermediate_size=config.intermediate_size,
                num_hidden_layers=config.num_layers,
                num_attention_heads=config.num_heads,
                num_key_value_heads=num_kv_heads,
                rms_norm_eps=config.rms_norm_eps,
                rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
                attn_implementation="eager",
            )
        ).eval()
        other.load_state_dict(decoder.state_dict())
        embeds = torch.randn(2, 40, config.hidden_size)
        theirs = other(inputs_embeds=embeds, output_hidden_states=True, output_attentions=True, use_cache=False)
        seen: list[Tensor] = []
        everything = keep(torch.arange(20), 2, seen)
        ours = decoder(embeds, torch.tensor([39, 39]), slice(1, 21), [everything, everything], record_hidden=True)
        close(ours.cognition, theirs.last_hidden_state[:, -1].numpy(), 1e-5)
        for mine, expected in zip(ours.hidden[:-1], theirs.hidden_states[:-1], strict=True):
            close(mine, expected.numpy(), 1e-5)
        for row, scores in enumerate(seen):
            close(scores, theirs.attentions[1][row, :, -1, 1:21].mean(0).numpy(), 1e-6)
