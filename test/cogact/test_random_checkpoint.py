# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from sqap_vla.cogact.checkpoint import fingerprint, load_checkpoint
from sqap_vla.cogact.config import CogActConfig, DecoderConfig, HeadConfig, VisionTowerConfig
from sqap_vla.cogact.normalization import statistics_for
from sqap_vla.cogact.preprocess import preprocess
from sqap_vla.cogact.prompt import Tokenizer
from sqap_vla.cogact.random_checkpoint import demo_config, write_random_checkpoint

OTHER_SIZES = CogActConfig(
    dino=VisionTowerConfig(
        embed_dim=48,
        depth=3,
        num_heads=6,
        mlp_hidden=100,
        register_tokens=2,
        class_token=True,
        layer_scale=True,
    ),
    siglip=VisionTowerConfig(embed_dim=40, depth=5, num_heads=2, mlp_hidden=77),
    decoder=DecoderConfig(
        vocab_size=256,
        hidden_size=96,
        intermediate_size=130,
        num_layers=3,
        num_heads=6,
        num_kv_heads=2,
        rope_theta=500000.0,
    ),
    head=HeadConfig(depth=3, hidden_size=72, num_heads=6, token_size=96),
)


def sample(directory, instruction="pick up the red cube", chunks=8):
    loaded = load_checkpoint(directory)
    image = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    visual = loaded.model.encode_images(*(picture[None] for picture in preprocess(image)))
    feature = loaded.model.cognition(visual, [Tokenizer.from_path(directory).encode(instruction)]).cognition
    noise = torch.randn(chunks, 16, 7, generator=torch.Generator().manual_seed(0))
    return loaded.model.sample_actions(feature.expand(chunks, -1), noise)


def test_the_demo_is_small_and_has_layers_to_prune(demo_directory):
    loaded = load_checkpoint(demo_directory)
    assert 2e6 < sum(parameter.numel() for parameter in loaded.model.parameters()) < 4e6
    assert loaded.config == demo_config()
    assert loaded.config.decoder.num_layers >= 6
    for key in ("tabletop", "bridge_orig", "fractal20220817_data"):
        statistics_for(loaded.statistics, key)


@pytest.mark.parametrize("config", [demo_config(), OTHER_SIZES], ids=["demo", "other"])
def test_untrained_actions_are_gentle(tmp_path, config):
    """An untrained head must not saturate every action of a robot that is driven by it in the demo."""
    samples = sample(write_random_checkpoint(tmp_path, config))
    assert torch.isfinite(samples).all()
    assert (samples.abs() > 1).float().mean() < 0.5
    assert 0.2 < samples.std() < 1.5


def test_actions_depend_on_the_instruction(demo_directory):
    assert not torch.equal(sample(demo_directory), sample(demo_directory, "open the drawer"))


def test_the_seed_decides_the_weights(tmp_path, demo_directory):
    assert fingerprint(write_random_checkpoint(tmp_path / "same")) == fingerprint(demo_directory)
    assert fingerprint(write_random_checkpoint(tmp_path / "other", seed=1)) != fingerprint(demo_directory)


def test_every_word_of_the_tabletop_is_known(demo_directory):
    tokenizer = Tokenizer.from_path(demo_directory)
    for color in ("red", "green", "blue"):
        assert 0 not in tokenizer.encode(f"Pick up the {color} cube")
    assert 0 not in tokenizer.encode("open the drawer")


def test_a_vocabulary_smaller_than_the_tokenizer_is_refused(tmp_path):
    config = replace(demo_config(), decoder=replace(demo_config().decoder, vocab_size=64))
    with pytest.raises(ValueError, match="the decoder has 64 embeddings"):
        write_random_checkpoint(tmp_path, config)
