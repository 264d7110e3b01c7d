# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Fewer layers, narrower MLPs: which ones go, what is left, and that the full model is not touched."""

from __future__ import annotations

import pytest
import torch
from decoders import random_decoder
from tolerance import close
from torch import nn

from sqap_vla.cogact.llama import LlamaMlp
from sqap_vla.cogact.reduced import layer_importance, least_important, mlp_channel_importance, reduced_model

INPUT_IDS = [[1, 5, 6, 7]]


@pytest.fixture(scope="module")
def visual() -> torch.Tensor:
    return torch.randn(1, 256, 96, generator=torch.Generator().manual_seed(0))


def test_importance_is_one_minus_the_mean_cosine_of_input_and_output():
    decoder, embeds = random_decoder(), torch.randn(3, 20, 48)
    hidden = decoder(embeds, torch.full((3,), 19), slice(1, 5), record_hidden=True).hidden
    importance = layer_importance(decoder, embeds)
    assert importance.shape == (4,) and importance.dtype == torch.float64
    for layer in range(3):  # of the last one the decoder computes the last token only
        x, y = hidden[layer], hidden[layer + 1]
        cosine = (x * y).sum(-1) / (x.norm(dim=-1) * y.norm(dim=-1))
        close(importance[layer], (1 - cosine.mean()).numpy(), 1e-5)


def test_a_layer_that_changes_nothing_is_the_first_to_go():
    decoder = random_decoder()
    decoder.layers[2].self_attn.o_proj.weight.zero_()
    decoder.layers[2].mlp.down_proj.weight.zero_()
    importance = layer_importance(decoder, torch.randn(2, 20, 48))
    assert importance[2].abs() < 1e-12 and least_important(importance, 1) == (2,)


def test_the_least_important_layers_need_not_be_neighbours():
    assert least_important(torch.tensor([0.5, 0.1, 0.4, 0.1, 0.9]), 3) == (1, 2, 3)
    assert least_important(torch.tensor([0.2, 0.2, 0.2]), 1) == (0,)
    assert least_important(torch.tensor([0.2, 0.2]), 0) == ()


def test_channels_count_by_what_they_can_add():
    mlp = LlamaMlp(2, 3)
    mlp.gate_proj.weight.copy_(torch.tensor([[3.0, 4.0], [1.0, 0.0], [2.0, 0.0]]))
    mlp.up_proj.weight.copy_(torch.tensor([[1.0, 0.0], [6.0, 8.0], [0.0, 0.0]]))
    mlp.down_proj.weight.copy_(torch.tensor([[1.0, 3.0, 9.0], [0.0, 4.0, 9.0]]))
    assert mlp_channel_importance(mlp).tolist() == [5.0, 50.0, 0.0]


def test_dropped_layers_are_gone_and_the_others_are_shared(tiny, visual):
    model = tiny.model
    reduced = reduced_model(model, (0, 2, 3))
    assert reduced.config.decoder.num_layers == len(reduced.decoder.layers) == 3
    assert [reduced.decoder.layers[i] is model.decoder.layers[j] for i, j in enumerate((0, 2, 3))] == [True] * 3
    assert reduced.action_model is model.action_model and len(model.decoder.layers) == 4
    embeds, last = model.embed(visual, INPUT_IDS)
    x = model.decoder(embeds, last, record_hidden=True).hidden[1]  # after layer 0
    through = reduced.decoder(embeds, last, record_hidden=True).hidden
    close(through[1], x.numpy(), 1e-6)


def test_keeping_everything_gives_the_same_feature(tiny, visual):
    everything = reduced_model(tiny.model, (0, 1, 2, 3), mlp_sparsity=0.0)
    full = tiny.model.cognition(visual, INPUT_IDS).cognition
    assert torch.equal(everything.cognition(visual, INPUT_IDS).cognition, full)


def test_a_narrow_mlp_is_the_full_one_with_the_weakest_channels_at_zero(tiny, visual):
    model = tiny.model
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    reduced = reduced_model(model, (0, 1, 2, 3), mlp_sparsity=0.25)
    width = model.config.decoder.intermediate_size
    kept = width - round(0.25 * width)
    assert reduced.config.decoder.intermediate_size == kept
    x = torch.randn(1, 5, 96)
    for full, narrow in zip(model.decoder.layers, reduced.decoder.layers, strict=True):
        assert narrow.mlp.up_proj.weight.shape == (kept, 96) and narrow.self_attn is full.self_attn
        weakest = torch.sort(mlp_channel_importance(full.mlp), descending=True, stable=True).indices[kept:]
        hidden = nn.functional.silu(full.mlp.gate_proj(x)) * full.mlp.up_proj(x)
        hidden[..., weakest] = 0
        close(narrow.mlp(x), full.mlp.down_proj(hidden).numpy(), 1e-5)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name


@pytest.mark.parametrize("layers", [(), (0, 4), (-1, 0), (2, 1), (1, 1)])
def test_layers_that_cannot_be_kept_are_refused(tiny, layers):
    with pytest.raises(ValueError, match="give at least one of 0 to 3, ascending, once"):
        reduced_model(tiny.model, layers)


def test_a_sparsity_of_one_is_refused(tiny):
    with pytest.raises(ValueError, match=r"mlp_sparsity is 1.0; it must be in \[0, 1\)"):
        reduced_model(tiny.model, (0,), 1.0)


def test_quantized_weights_are_not_narrowed(tiny):
    class PackedLinear(nn.Linear):
        pass

    reduced = reduced_model(tiny.model, (0, 1, 2, 3), 0.25)
    reduced.decoder.layers[0].mlp.gate_proj = PackedLinear(96, 4, bias=False)
    with pytest.raises(ValueError, match="gate_proj is a PackedLinear; .* before it is quantized"):
        reduced_model(reduced, (0,), 0.5)
