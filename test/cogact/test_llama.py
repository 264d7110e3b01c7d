# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The decoder against the official hidden states, against FastV's, and against transformers' LlamaModel at other sizes."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from conftest import close
from torch import Tensor
from transformers import LlamaConfig, LlamaModel

from sqap_vla.cogact.config import DecoderConfig
from sqap_vla.cogact.llama import LlamaDecoder, Pruning, last_token_attention, rotary_tables
from sqap_vla.cogact.preprocess import preprocess

HIDDEN_ATOL = 5e-5
COGNITION_ATOL = 2e-5
VISUAL = slice(1, 257)


@dataclass(frozen=True)
class Kept:
    kept: Tensor


def keep(kept: Tensor, prune_layer: int, seen: list[Tensor | None] | None = None, **options: object) -> Pruning:
    """A pruning that keeps fixed tokens and notes the scores it was given."""
    def select(scores: Tensor | None) -> Kept:
        if seen is not None:
            seen.append(scores)
        return Kept(kept)
    return Pruning(**{"prune_layer": prune_layer, "score_layer": prune_layer - 1, "select": select} | options)


def random_decoder(num_kv_heads: int = 2, num_layers: int = 4) -> LlamaDecoder:
    torch.manual_seed(5)
    decoder = LlamaDecoder(DecoderConfig(vocab_size=50, hidden_size=48, intermediate_size=112, num_layers=num_layers, num_heads=6,
                                         num_kv_heads=num_kv_heads, rms_norm_eps=1e-5, rope_theta=5000.0)).eval()
    for parameter in decoder.parameters():
        parameter.copy_(torch.randn_like(parameter) / parameter.shape[-1] ** 0.5 + (parameter.dim() == 1))
    return decoder


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
        prompts = [row[mask].tolist() for row, mask in
                   zip(reference["batch_input_ids"], reference["batch_attention_mask"], strict=True)]
        assert [len(prompt) - 1 for prompt in prompts] == reference["batch_last_index"].tolist()
        close(tiny.model.cognition(visual, prompts).cognition, reference["batch_cognition"], COGNITION_ATOL)
        close(tiny.model.cognition(visual[:1], prompts[:1]).cognition, reference["single0_cognition"], COGNITION_ATOL)

    @pytest.mark.parametrize("case", ["k1_r0.5", "k2_r0.5", "k2_r0.75", "k3_r0.25", "k3_r0.9"])
    def test_fastv_pruning_matches(self, arrays, tiny, case):
        reference = arrays("g_fastv")
        layer = int(case[1])
        embeds = torch.from_numpy(reference["inputs_embeds"])
        indices = torch.from_numpy(reference[f"{case}_keep_indices"])
        visual_kept = indices[(indices >= VISUAL.start) & (indices < VISUAL.stop)] - VISUAL.start
        seen: list[Tensor] = []
        output = tiny.model.decoder(embeds, torch.tensor([embeds.shape[1] - 1]), VISUAL, keep(visual_kept, layer, seen),
                                    record_hidden=True)
        close(output.cognition, reference[f"{case}_last_hidden_state"], COGNITION_ATOL)
        close(seen[0], reference[f"{case}_lasttok_attn_avg"][VISUAL], 1e-6)
        assert [hidden.shape[1] for hidden in output.hidden[:-1]] == [
            reference[f"{case}_seq_after"][max(i - 1, 0)] for i in range(len(output.hidden) - 1)]

        # FastV keeps the visual tokens with the largest scores; ours must rank them the same.
        ranked = seen[0].topk(len(visual_kept)).indices.sort().values
        assert ranked.tolist() == visual_kept.tolist()

    def test_score_row_is_the_last_row_of_the_full_attention(self, arrays, tiny):
        reference = arrays("g_fastv")
        full = reference["k2_r0.5_layer_attention_full"]  # [1, H, T, T]
        embeds = torch.from_numpy(reference["inputs_embeds"])
        seen: list[Tensor] = []
        tiny.model.decoder(embeds, torch.tensor([embeds.shape[1] - 1]), VISUAL, keep(torch.arange(256), 2, seen))
        close(seen[0], full[0, :, -1].mean(0)[VISUAL], 1e-6)

    def test_without_pruning_fastv_and_cogact_agree(self, arrays, tiny):
        reference = arrays("g_fastv")
        embeds = torch.from_numpy(reference["inputs_embeds"])
        close(tiny.model.decoder(embeds, torch.tensor([embeds.shape[1] - 1])).cognition, reference["noprune_last"], COGNITION_ATOL)


class TestAgainstTransformers:
    @pytest.mark.parametrize("num_kv_heads", [6, 3, 1])
    def test_last_token_matches(self, num_kv_heads):
        decoder = random_decoder(num_kv_heads)
        config = decoder.config
        other = LlamaModel(LlamaConfig(
            vocab_size=config.vocab_size, hidden_size=config.hidden_size, intermediate_size=config.intermediate_size,
            num_hidden_layers=config.num_layers, num_attention_heads=config.num_heads, num_key_value_heads=num_kv_heads,
            rms_norm_eps=config.rms_norm_eps, rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
            attn_implementation="eager")).eval()
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


class TestPruning:
    def test_keeping_everything_changes_nothing(self):
        decoder, embeds = random_decoder(), torch.randn(1, 30, 48)
        last = torch.tensor([29])
        dense = decoder(embeds, last, slice(1, 17)).cognition
        for layer in (1, 2, 3):
            close(decoder(embeds, last, slice(1, 17), keep(torch.arange(16), layer)).cognition, dense.numpy(), 1e-6)

    def test_kept_tokens_keep_their_positions(self):
        """Pruning before the first layer equals masking the dropped tokens' keys everywhere, positions untouched."""
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
            attention = layer.self_attn
            q, k, v = attention.qkv(layer.input_layernorm(x), rope)
            k, v = (t.repeat_interleave(q.shape[1] // t.shape[1], dim=1) for t in (k, v))
            out = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask | torch.eye(30, dtype=torch.bool))
            x = x + attention.o_proj(out.transpose(1, 2).flatten(2))
            x = x + layer.mlp(layer.post_attention_layernorm(x))
        close(pruned, decoder.norm(x)[:, -1].numpy(), 1e-5)

    def test_rows_of_different_length_prune_as_they_would_alone(self):
        decoder = random_decoder()
        lengths, visual = (30, 26), slice(1, 17)
        embeds = torch.randn(2, 30, 48)
        prunings = [keep(torch.tensor([1, 5, 6]), 2), keep(torch.tensor([0, 9, 15]), 2)]
        together = decoder(embeds, torch.tensor([length - 1 for length in lengths]), visual, prunings)
        for row, (length, pruning) in enumerate(zip(lengths, prunings, strict=True)):
            alone = decoder(embeds[row:row + 1, :length], torch.tensor([length - 1]), visual, pruning)
            close(together.cognition[row], alone.cognition[0].numpy(), 1e-5)
            assert together.selections[row].kept.tolist() == pruning.select(None).kept.tolist()

    def test_scores_ignore_padding(self):
        decoder, embeds = random_decoder(), torch.randn(2, 30, 48)
        rows: list[Tensor] = []
        decoder(embeds, torch.tensor([29, 20]), slice(1, 17), [keep(torch.arange(16), 1, rows)] * 2)
        alone: list[Tensor] = []
        decoder(embeds[1:, :21], torch.tensor([20]), slice(1, 17), keep(torch.arange(16), 1, alone))
        close(rows[1], alone[0].numpy(), 1e-6)

    def test_a_selector_that_needs_no_scores_gets_none(self):
        seen: list[Tensor | None] = []
        decoder, embeds = random_decoder(), torch.randn(1, 30, 48)
        decoder(embeds, torch.tensor([29]), slice(1, 17), keep(torch.arange(4), 2, seen, needs_scores=False))
        assert seen == [None]

    def test_rows_sum_to_one(self):
        q, k = torch.randn(2, 6, 1, 8), torch.randn(2, 2, 12, 8)
        row = last_token_attention(q, k, torch.tensor([11, 4]))
        close(row.sum(-1), np.ones(2, np.float32), 1e-6)
        assert (row[1, 5:] == 0).all()

    @pytest.mark.parametrize(("options", "message"), [
        ({"prune_layer": 2, "score_layer": 2}, "0 <= score_layer < prune_layer"),
        ({"prune_layer": 2, "score_layer": -1}, "0 <= score_layer < prune_layer"),
        ({"prune_layer": -1, "score_layer": 0, "needs_scores": False}, "prune_layer -1"),
    ])
    def test_layers_that_cannot_be(self, options, message):
        with pytest.raises(ValueError, match=message):
            keep(torch.arange(4), **options)

    def test_prunings_must_fit_the_decoder_and_the_batch(self):
        decoder, embeds, last = random_decoder(), torch.randn(2, 30, 48), torch.tensor([29, 29])
        with pytest.raises(ValueError, match="at most 3"):
            decoder(embeds[:1], last[:1], slice(1, 17), keep(torch.arange(4), 4))
        with pytest.raises(ValueError, match="1 prunings for a batch of 2"):
            decoder(embeds, last, slice(1, 17), keep(torch.arange(4), 2))
        with pytest.raises(ValueError, match="differ in prune_layer"):
            decoder(embeds, last, slice(1, 17), [keep(torch.arange(4), 2), keep(torch.arange(4), 3)])
        with pytest.raises(ValueError, match=r"keep \[4, 5\] visual tokens"):
            decoder(embeds, last, slice(1, 17), [keep(torch.arange(4), 2), keep(torch.arange(5), 2)])
