# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Both towers at sizes without a reference, against transformers' DINOv2 and SigLIP with the same weights."""

from __future__ import annotations

import re

import pytest
import torch
from tolerance import close
from torch import Tensor
from transformers import (
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from sqap_vla.cogact.config import VisionTowerConfig
from sqap_vla.cogact.vision import VisionTransformer

ATOL = 1e-5

# Inside one block: transformers' names, which differ between its models and versions, -> the checkpoint's.
QUERY_KEY_VALUE = ("query", "key", "value")
RENAMED = {
    r"layer_norm(\d)": r"norm\1",
    r"layer_scale(\d)\.lambda1": r"ls\1.gamma",
    r".*\bq(_proj|uery)\b": "query",
    r".*\bk(_proj|ey)\b": "key",
    r".*\bv(_proj|alue)\b": "value",
    r"(self_attn|attention)\.(out_proj|o_proj|output\.dense)": "attn.proj",
}


def random_tower(config: VisionTowerConfig) -> VisionTransformer:
    torch.manual_seed(3)
    tower = VisionTransformer(config).eval()
    for parameter in tower.parameters():
        parameter.copy_(torch.randn_like(parameter) * (0.5 if parameter.dim() == 1 else 0.1))
    return tower


def fill_blocks(other: torch.nn.Module, tower: VisionTransformer) -> None:
    """Copy `tower`'s blocks into transformers' layers, which hold query, key and value apart."""
    layers = next(module for module in other.modules() if isinstance(module, torch.nn.ModuleList))
    for layer, block in zip(layers, tower.blocks, strict=True):
        ours = block.state_dict()
        for kind in ("weight", "bias"):
            for name, part in zip(QUERY_KEY_VALUE, ours.pop(f"attn.qkv.{kind}").chunk(3), strict=True):
                ours[f"{name}.{kind}"] = part
        for name, parameter in layer.named_parameters():
            for pattern, replacement in RENAMED.items():
                name = re.sub(pattern, replacement, name)
            parameter.copy_(ours[name])


@pytest.mark.parametrize(("width", "depth", "heads", "mlp"), [(48, 3, 6, 101), (80, 6, 2, 64)])
def test_siglip(width, depth, heads, mlp):
    tower = random_tower(VisionTowerConfig(width, depth, heads, mlp))
    other = SiglipVisionModel(
        SiglipVisionConfig(
            hidden_size=width,
            intermediate_size=mlp,
            num_hidden_layers=depth - 1,
            num_attention_heads=heads,
            patch_size=14,
            image_size=224,
            hidden_act="gelu",
            layer_norm_eps=1e-6,
            vision_use_head=False,
        )
    ).eval()
    parameters = dict(other.named_parameters())
    embeddings = next(name for name in parameters if name.endswith("patch_embedding.weight")).removesuffix(
        "patch_embedding.weight"
    )
    parameters[f"{embeddings}patch_embedding.weight"].copy_(tower.patch_embed.proj.weight)
    parameters[f"{embeddings}patch_embedding.bias"].copy_(tower.patch_embed.proj.bias)
    parameters[f"{embeddings}position_embedding.weight"].copy_(tower.pos_embed[0])
    fill_blocks(other, tower)
    picture = torch.randn(2, 3, 224, 224)
    close(tower(picture), features(other, picture), ATOL)


@pytest.mark.parametrize(("width", "depth", "heads", "registers"), [(48, 3, 6, 4), (64, 5, 2, 1)])
def test_dino(width, depth, heads, registers):
    config = VisionTowerConfig(
        width, depth, heads, 4 * width, register_tokens=registers, class_token=True, layer_scale=True
    )
    tower = random_tower(config)
    other = Dinov2WithRegistersModel(
        Dinov2WithRegistersConfig(
            hidden_size=width,
            num_hidden_layers=depth - 1,
            num_attention_heads=heads,
            mlp_ratio=4,
            patch_size=14,
            image_size=224,
            num_register_tokens=registers,
            layer_norm_eps=1e-6,
        )
    ).eval()
    embeddings = other.embeddings
    embeddings.cls_token.copy_(tower.cls_token)
    embeddings.register_tokens.copy_(tower.reg_token)
    embeddings.position_embeddings.zero_()  # the class token has a position there and none here
    embeddings.position_embeddings[:, 1:].copy_(tower.pos_embed)
    embeddings.patch_embeddings.projection.weight.copy_(tower.patch_embed.proj.weight)
    embeddings.patch_embeddings.projection.bias.copy_(tower.patch_embed.proj.bias)
    fill_blocks(other, tower)
    picture = torch.randn(2, 3, 224, 224)
    close(tower(picture), features(other, picture)[:, config.num_prefix_tokens :], ATOL)


def features(model: torch.nn.Module, picture: Tensor) -> Tensor:
    """Hidden state after the last layer, before the final norm."""
    return model(pixel_values=picture, output_hidden_states=True).hidden_states[-1].numpy()
