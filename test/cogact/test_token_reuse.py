# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Tokens taken from the previous frame: what is computed, what comes out, what is noted for the next frame."""

from __future__ import annotations

import pytest
import torch
from decoders import keep, random_decoder
from tolerance import close
from torch import Tensor
from torch.nn import functional as F

from sqap_vla.cogact.llama import LlamaDecoder, rotary_tables, share_heads
from sqap_vla.cogact.token_reuse import TokenReuse, mean_entropy, text_relevance

VISUAL = slice(1, 17)
LAST = torch.tensor([21])


def frame(seed: int) -> Tensor:
    return torch.randn(1, 22, 48, generator=torch.Generator().manual_seed(seed))


def run(decoder: LlamaDecoder, embeds: Tensor, reuse: TokenReuse | None, **options: object) -> object:
    return decoder(embeds, LAST, VISUAL, reuse=reuse, **options)


def written_out(
    decoder: LlamaDecoder, embeds: Tensor, previous: TokenReuse, reused: dict[int, Tensor]
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """The same frame with every row computed, and a reused token's keys and values overwritten by the old ones."""
    tokens = embeds.shape[1]
    rope = rotary_tables(torch.arange(tokens)[None], decoder.config.head_dim, decoder.config.rope_theta, torch.float32)
    x, keys, values, aside = embeds, [], [], torch.tensor([], dtype=torch.int64)
    for index, layer in enumerate(decoder.layers):
        aside = reused.get(index, aside)
        q, k, v = layer.qkv(x, rope)
        k[:, :, aside] = previous.key_values.keys[index][:, :, aside]
        v[:, :, aside] = previous.key_values.values[index][:, :, aside]
        keys.append(k)
        values.append(v)
        shared = (share_heads(t, q.shape[1]) for t in (k, v))
        out = F.scaled_dot_product_attention(q, *shared, is_causal=True)
        x = layer.finish(x, out.transpose(1, 2).flatten(2))
    return decoder.norm(x)[:, -1], keys, values


def test_a_first_frame_is_the_dense_one():
    decoder = random_decoder()
    reuse = TokenReuse(relevance_layer=1)
    output = run(decoder, frame(0), reuse)
    close(output.cognition, decoder(frame(0), LAST, VISUAL).cognition.numpy(), 1e-6)
    assert output.computed == (22,) * 4
    assert reuse.key_values.num_tokens == 22 and len(reuse.key_values.values) == 4
    assert reuse.trace.entropy.shape == (4,) and reuse.trace.relevance.shape == (16,)


def test_a_frame_like_the_one_before_gives_what_the_dense_one_gives():
    decoder, first = random_decoder(), TokenReuse(1)
    dense = run(decoder, frame(0), first).cognition
    reuse = TokenReuse(1, first.key_values, {1: torch.tensor([1, 5, 6, 16])})
    close(run(decoder, frame(0), reuse).cognition, dense.numpy(), 1e-5)


@pytest.mark.parametrize("num_kv_heads", [6, 2])
def test_reused_tokens_keep_the_keys_and_values_of_the_frame_before(num_kv_heads):
    decoder, first = random_decoder(num_kv_heads), TokenReuse(1)
    run(decoder, frame(0), first)
    reused = {1: torch.tensor([2, 3]), 2: torch.tensor([2, 3, 9, 16])}
    second = TokenReuse(1, first.key_values, reused)
    output = run(decoder, frame(1), second)
    cognition, keys, values = written_out(decoder, frame(1), first, reused)
    close(output.cognition, cognition.numpy(), 1e-5)
    for index in range(4):
        close(second.key_values.keys[index], keys[index].numpy(), 1e-5)
        close(second.key_values.values[index], values[index].numpy(), 1e-5)
    assert (output.cognition - decoder(frame(1), LAST, VISUAL).cognition).abs().max() > 1e-3

    # And on: what the second frame took from the first may be taken again.
    third = TokenReuse(1, second.key_values, {1: torch.tensor([2, 9])})
    close(
        run(decoder, frame(2), third).cognition,
        written_out(decoder, frame(2), second, {1: torch.tensor([2, 9])})[0].numpy(),
        1e-5,
    )


def test_reused_tokens_are_not_computed(monkeypatch):
    decoder, first = random_decoder(), TokenReuse(1)
    run(decoder, frame(0), first)
    rows: dict[str, list[int]] = {"k_proj": [], "gate_proj": []}
    hooks = [
        module.register_forward_hook(lambda _, args, __, name=name: rows[name].append(args[0].shape[1]))
        for layer in decoder.layers
        for name, module in (("k_proj", layer.self_attn.k_proj), ("gate_proj", layer.mlp.gate_proj))
    ]
    reuse = TokenReuse(1, first.key_values, {1: torch.arange(1, 6), 3: torch.arange(1, 11)})
    output = run(decoder, frame(1), reuse, record_hidden=True)
    for hook in hooks:
        hook.remove()
    assert rows == {"k_proj": [22, 17, 17, 12], "gate_proj": [22, 17, 17, 1]}
    assert output.computed == (22, 17, 17, 12)
    assert [hidden.shape[1] for hidden in output.hidden] == [22, 22, 17, 17, 1]


def test_the_cache_of_a_frame_stays_as_it_was():
    decoder, first = random_decoder(), TokenReuse(1)
    run(decoder, frame(0), first)
    before = [tensor.clone() for tensor in first.key_values.keys]
    run(decoder, frame(1), TokenReuse(1, first.key_values, {1: torch.tensor([4])}))
    assert all(torch.equal(a, b) for a, b in zip(before, first.key_values.keys, strict=True))


class TestAgainstTheOriginal:
    def test_relevance_is_the_original_s_merged_attention(self, arrays):
        reference = arrays("g_vla_cache")
        rows = torch.from_numpy(reference["attention_layer15"])[0].mean(dim=0)
        merged = text_relevance(rows, torch.from_numpy(reference["attention_pos"]), slice(1, 257))
        close(merged, reference["merged_scores"], 1e-7)

    def test_relevance_from_the_rows_that_are_left(self, arrays):
        reference = arrays("g_vla_cache")
        positions = torch.from_numpy(reference["partial_attention_pos"])
        rows = torch.from_numpy(reference["attention_layer15"])[0].mean(dim=0)[positions]
        close(text_relevance(rows, positions, slice(1, 257)), reference["partial_merged_scores"], 1e-7)

    def test_entropy_of_uniform_and_of_peaked_rows(self):
        assert mean_entropy(torch.full((3, 8), 0.25)).item() == pytest.approx(torch.log(torch.tensor(8.0)).item())
        assert mean_entropy(torch.eye(5)).item() == pytest.approx(0.0, abs=1e-6)

    def test_the_trace_is_that_of_the_full_attention(self, arrays, tiny):
        """Against the attention matrix of the original decoder, layer 1 of the reference checkpoint."""
        reference = arrays("g_fastv")
        full = torch.from_numpy(reference["k2_r0.5_layer_attention_full"])[0].mean(dim=0)
        reuse = TokenReuse(relevance_layer=1)
        embeds = torch.from_numpy(reference["inputs_embeds"])
        tiny.model.decoder(embeds, torch.tensor([embeds.shape[1] - 1]), reuse=reuse)
        close(reuse.trace.relevance, full[257:, 1:257].mean(dim=0).numpy(), 1e-6)
        close(reuse.trace.entropy[1], mean_entropy(full).numpy(), 1e-4)


class TestRefusals:
    def test_a_batch(self):
        with pytest.raises(ValueError, match="batch of 2"):
            random_decoder()(frame(0).expand(2, -1, -1), LAST.expand(2), VISUAL, reuse=TokenReuse(1))

    def test_another_number_of_tokens(self):
        decoder, first = random_decoder(), TokenReuse(1)
        run(decoder, frame(0), first)
        with pytest.raises(ValueError, match="previous frame has 22 tokens in 4 layers and this one 20"):
            decoder(frame(0)[:, :20], torch.tensor([19]), VISUAL, reuse=TokenReuse(1, first.key_values))

    def test_a_layer_that_is_not_there(self):
        with pytest.raises(ValueError, match="relevance_layer is 4; the decoder has layers 0 to 3"):
            run(random_decoder(), frame(0), TokenReuse(4))

    def test_reuse_without_a_frame_before(self):
        with pytest.raises(ValueError, match="no previous frame"):
            TokenReuse(1, None, {2: torch.tensor([1])})

    def test_dropping_and_reusing_at_once(self):
        with pytest.raises(ValueError, match="both dropped and reused"):
            run(random_decoder(), frame(0), TokenReuse(1), pruning=keep(torch.arange(4), 2))
