# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json

import pytest

from sqap_vla.cogact.config import DecoderConfig, HeadConfig, VisionTowerConfig, official_config
from sqap_vla.cogact.layout import used_shapes
from sqap_vla.cogact.random_checkpoint import demo_config
from sqap_vla.cogact.sizes import resolve_config, sizes_of


@pytest.mark.parametrize("config", [demo_config(), official_config("DiT-S")])
def test_sizes_survive_the_round_trip(config):
    assert resolve_config(json.loads(json.dumps(sizes_of(config))), {}) == config


@pytest.mark.parametrize("head", ["DiT-S", "DiT-B", "DiT-L"])
def test_official_networks_are_known_by_their_widths(head):
    assert resolve_config({}, used_shapes(official_config(head))) == official_config(head)


def test_the_official_mlp_width_of_siglip_is_truncated_as_timm_does(reference):
    sizes = sizes_of(official_config())
    del sizes["siglip"]["mlp_hidden"]
    assert resolve_config(sizes | {"siglip": sizes["siglip"] | {"mlp_ratio": 3.7362}}, {}).siglip.mlp_hidden == 4304


def test_a_decoder_without_these_entries_is_llama_2():
    sizes = sizes_of(demo_config())
    for name in ("num_key_value_heads", "rms_norm_eps", "rope_theta", "vocab_size_padded"):
        del sizes["llm"][name]
    sizes["llm"]["vocab_size"] = 32000
    decoder = resolve_config(sizes, {}).decoder
    assert (decoder.num_kv_heads, decoder.rms_norm_eps, decoder.rope_theta, decoder.vocab_size) == (
        4,
        1e-5,
        10000.0,
        32064,
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: VisionTowerConfig(embed_dim=65, depth=4, num_heads=4, mlp_hidden=8),
            "width 65 does not divide by num_heads 4",
        ),
        (lambda: VisionTowerConfig(embed_dim=64, depth=1, num_heads=4, mlp_hidden=8), "last block but one"),
        (
            lambda: VisionTowerConfig(embed_dim=64, depth=4, num_heads=4, mlp_hidden=8, patch_size=15),
            "patch_size 15",
        ),
        (lambda: DecoderConfig(10, 64, 8, 2, 4, 3), "num_key_value_heads 3"),
        (lambda: DecoderConfig(10, 60, 8, 2, 4, 4), "head width 15 is odd"),
        (lambda: DecoderConfig(0, 64, 8, 2, 4, 4), "vocab_size is 0"),
        (lambda: HeadConfig(depth=2, hidden_size=64, num_heads=0, token_size=8), "num_heads is 0"),
    ],
)
def test_sizes_that_cannot_be(make, message):
    with pytest.raises(ValueError, match=message):
        make()
