# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tolerance import close

from sqap_vla.cogact.preprocess import preprocess
from sqap_vla.cogact.vision import PatchEmbed, VisionTransformer

FEATURE_ATOL = 5e-5
PROJECTED_ATOL = 2e-5


@pytest.fixture(scope="module")
def pictures(arrays):
    frames = arrays("d_preprocess")
    rows = [preprocess(frames[f"img{index}"]) for index in arrays("c_vision")["image_index"]]
    return tuple(torch.stack(tower) for tower in zip(*rows, strict=True))  # dino, siglip: [2, 3, 224, 224] each


def test_fused_features_match(arrays, tiny, pictures):
    reference = arrays("c_vision")
    fused = tiny.model.vision_backbone(*pictures)
    stride = fused.shape[1] // reference["dino_features"].shape[1]
    dino, siglip = fused[:, ::stride].split([tiny.config.dino.embed_dim, tiny.config.siglip.embed_dim], dim=2)
    close(dino, reference["dino_features"], FEATURE_ATOL)
    close(siglip, reference["siglip_features"], FEATURE_ATOL)


def test_visual_tokens_match(arrays, tiny, pictures):
    expected = arrays("c_vision")["projected"]
    visual = tiny.model.encode_images(*pictures)
    close(visual[:, :: visual.shape[1] // expected.shape[1]], expected, PROJECTED_ATOL)


@pytest.mark.parametrize("tower", ["dino", "siglip"])
def test_every_block_matches(arrays, tiny, pictures, tower):
    reference = arrays("c_vision")
    config = getattr(tiny.config, tower)
    # The network leaves the last block out; a tower one deeper has it.
    vit = VisionTransformer(replace(config, depth=config.depth + 1)).eval()
    weights = torch.load(tiny.weights, weights_only=True)["model"]["vision_backbone"]
    prefix = f"{tower}_featurizer."
    vit.load_state_dict({name: weights[prefix + name] for name in vit.state_dict()})
    picture = pictures[0 if tower == "dino" else 1]

    tokens = reference[f"{tower}_patch_embed_slice"].shape[1]
    close(vit.patch_embed(picture)[:, :tokens], reference[f"{tower}_patch_embed_slice"], FEATURE_ATOL)
    x = vit.embed(picture)
    close(x[:, :tokens], reference[f"{tower}_with_prefix_pos_slice"], FEATURE_ATOL)
    expected_blocks = reference[f"{tower}_block_outputs_slice"]
    assert len(vit.blocks) == len(expected_blocks)
    for block, expected in zip(vit.blocks, expected_blocks, strict=True):
        x = block(x)
        close(x[:, :tokens], expected, FEATURE_ATOL)


def test_patches_embedded_by_a_product_equal_the_convolution():
    torch.manual_seed(0)
    embed, picture = PatchEmbed(24, 14).requires_grad_(False), torch.randn(2, 3, 42, 56)
    close(embed.as_product(picture), embed(picture).numpy(), 1e-5)
