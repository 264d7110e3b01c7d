# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Joined layers compute what the layers they are made of compute, and hold no tensor twice."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch

from sqap_vla.cogact.config import DecoderConfig
from sqap_vla.cogact.llama import Pruning, TokenReuse
from sqap_vla.cogact.model import CogAct
from sqap_vla.cogact.random_checkpoint import demo_config
from sqap_vla.evaluation.bench_models import random_model
from sqap_vla.pruning.sqap import SqapSelector
from sqap_vla.quantization.joined import JoinedDecoderLayer, join_layers
from sqap_vla.quantization.policy import PrecisionPolicy, QuantizationConfig, preset
from sqap_vla.quantization.quantize import quantize_model
from sqap_vla.quantization.rotation import Rotation, RotationKind

VISUAL, LAST = slice(1, 17), torch.tensor([21, 19])


def quantized(config: QuantizationConfig, kv_heads: int = 4, dtype: torch.dtype = torch.float32) -> CogAct:
    decoder = DecoderConfig(
        vocab_size=64, hidden_size=64, intermediate_size=96, num_layers=3, num_heads=4, num_kv_heads=kv_heads
    )
    head = dataclasses.replace(demo_config().head, token_size=64)
    sizes = dataclasses.replace(demo_config(), decoder=decoder, head=head)
    model = random_model(sizes, dtype, torch.device("cpu"))
    quantize_model(model, config, backend="reference")
    return model


def embeds(batch: int = 2, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(batch, 22, 64, generator=torch.Generator().manual_seed(1)).to(dtype)


CONFIGS = {
    "default": preset("default"),
    "groups": preset("default", group_size=16),
    "no rotation": preset("default", rotation=Rotation(RotationKind.NONE)),
    "eight bits": preset("default", policy=PrecisionPolicy(precision="w8a8")),
}


@pytest.mark.parametrize("kv_heads", [4, 2])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_joined_decoder_equals_the_layers_it_is_made_of(config, kv_heads):
    model = quantized(config, kv_heads)
    before = model.decoder(embeds(), LAST, VISUAL, record_hidden=True)
    joined = join_layers(model)
    assert all(type(layer) is JoinedDecoderLayer for layer in joined.decoder.layers)
    after = joined.decoder(embeds(), LAST, VISUAL, record_hidden=True)
    for one, other in zip(before.hidden, after.hidden, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(model.decoder(embeds(), LAST, VISUAL).cognition, before.cognition)  # views work on


def test_pruning_and_reuse_go_through_joined_layers():
    model = quantized(CONFIGS["default"])
    joined = join_layers(model)
    ring = torch.zeros(16, dtype=torch.bool)
    selector = SqapSelector(grid=4)

    def select(scores, features):
        return selector.select(scores, ring, 8, 0, features)

    for options in ({"pruning": Pruning(2, 1, select)}, {"reuse": TokenReuse(relevance_layer=1)}):
        results = [each.decoder(embeds(1), LAST[:1], VISUAL, **copy.deepcopy(options)) for each in (model, joined)]
        torch.testing.assert_close(results[0].cognition, results[1].cognition, atol=1e-5, rtol=1e-5)


def test_nothing_is_held_twice():
    model = quantized(CONFIGS["default"])
    layer = model.decoder.layers[0]
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    join_layers(model)
    attention = layer.self_attn
    storages = {getattr(attention, name).weight.untyped_storage().data_ptr() for name in ("q_proj", "k_proj", "v_proj")}
    assert len(storages) == 1
    assert (
        layer.mlp.gate_proj.weight.untyped_storage().data_ptr() == layer.mlp.up_proj.weight.untyped_storage().data_ptr()
    )
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, weights[name]), name


def test_several_methods_on_one_model_share_its_weights():
    model = quantized(CONFIGS["default"])
    join_layers(model)
    place = model.decoder.layers[0].self_attn.k_proj.weight.data_ptr()
    again = join_layers(model)
    assert model.decoder.layers[0].self_attn.k_proj.weight.data_ptr() == place
    torch.testing.assert_close(
        again.decoder(embeds(), LAST, VISUAL).cognition, model.decoder(embeds(), LAST, VISUAL).cognition
    )


def test_joining_again_changes_nothing():
    joined = join_layers(quantized(CONFIGS["default"]))
    assert join_layers(joined) is joined


def test_what_does_not_fit_stays_as_it_is():
    float_model = random_model(demo_config(), torch.float32, torch.device("cpu"))
    assert join_layers(float_model) is float_model
    for other in (
        preset("paper"),  # q and k are rotated, v is not
        preset("default", granularity="tensor"),  # the last token alone has another scale than all together
    ):
        model = quantized(other)
        assert join_layers(model) is model


def test_layers_of_mixed_precision_join_where_they_can():
    model = quantized(preset("default", policy=PrecisionPolicy.parse(["*.layers.1.*up_proj=w8a8"])))
    joined = join_layers(model)
    kinds = [type(layer) is JoinedDecoderLayer for layer in joined.decoder.layers]
    assert kinds == [True, False, True]
    one, other = (each.decoder(embeds(), LAST, VISUAL).cognition for each in (model, joined))
    torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
