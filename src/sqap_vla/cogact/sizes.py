# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Which sizes a checkpoint's network has.

Official networks are known by their widths. Networks of any other size carry a tiny_sizes.json beside
config.json, because head counts cannot be read off tensor shapes:

    {"dino": {embed_dim, depth, num_heads, [reg_tokens, mlp_ratio or mlp_hidden, patch_size, img_size]},
     "siglip": {the same},
     "llm": {Llama's own names: vocab_size, hidden_size, ..., [vocab_size_padded]},
     "dit": {depth, hidden_size, num_heads, token_size, [in_channels, future_action_window_size]}}

A part that is left out is an official one. What stands there decides; whether the tensors agree is checked on
loading.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from sqap_vla.cogact.config import (
    OFFICIAL_DECODER,
    OFFICIAL_DINO,
    OFFICIAL_HEADS,
    OFFICIAL_SIGLIP,
    CogActConfig,
    DecoderConfig,
    HeadConfig,
    VisionTowerConfig,
)

Sizes = Mapping[str, Any]
Part = TypeVar("Part", VisionTowerConfig, DecoderConfig, HeadConfig)

VOCABULARY_MULTIPLE = 64


def resolve_config(sizes: Sizes, shapes: Mapping[str, tuple[int, ...]]) -> CogActConfig:
    """The config of a checkpoint.

    sizes: content of tiny_sizes.json, or {}. shapes: of the checkpoint's tensors by `module.key`; of the
    parts that `sizes` leaves out, the widths are read there. Raises ValueError for sizes that contradict each
    other or are unknown, KeyError for a tensor or an entry that is missing, TypeError or AttributeError for
    one of a wrong type.
    """
    if "dino" in sizes:
        dino = _tower(sizes["dino"], class_token=True, layer_scale=True)
    else:
        width = shapes["vision_backbone.dino_featurizer.pos_embed"][-1]
        dino = _by_width("the DINOv2 tower", width, {OFFICIAL_DINO.embed_dim: OFFICIAL_DINO})
    if "siglip" in sizes:
        siglip = _tower(sizes["siglip"], class_token=False, layer_scale=False)
    else:
        width = shapes["vision_backbone.siglip_featurizer.pos_embed"][-1]
        siglip = _by_width("the SigLIP tower", width, {OFFICIAL_SIGLIP.embed_dim: OFFICIAL_SIGLIP})
    if "llm" in sizes:
        decoder = _decoder(sizes["llm"])
    else:
        width = shapes["llm_backbone.llm.model.embed_tokens.weight"][-1]
        decoder = _by_width("the decoder", width, {OFFICIAL_DECODER.hidden_size: OFFICIAL_DECODER})
    if "dit" in sizes:
        head = _head(sizes["dit"])
    else:
        width = shapes["action_model.net.positional_embedding"][-1]
        head = _by_width("the action head", width, {h.hidden_size: h for h in OFFICIAL_HEADS.values()})
    return CogActConfig(dino, siglip, decoder, head)


def sizes_of(config: CogActConfig) -> dict[str, Any]:
    """The content of a tiny_sizes.json from which `resolve_config` gives `config` back."""
    decoder, head = config.decoder, config.head
    return {
        "dino": _tower_sizes(config.dino),
        "siglip": _tower_sizes(config.siglip),
        "llm": {
            "vocab_size": decoder.vocab_size - 1,
            "vocab_size_padded": decoder.vocab_size,
            "hidden_size": decoder.hidden_size,
            "intermediate_size": decoder.intermediate_size,
            "num_hidden_layers": decoder.num_layers,
            "num_attention_heads": decoder.num_heads,
            "num_key_value_heads": decoder.num_kv_heads,
            "hidden_act": "silu",
            "rms_norm_eps": decoder.rms_norm_eps,
            "rope_theta": decoder.rope_theta,
            "attention_bias": False,
        },
        "dit": {
            "depth": head.depth,
            "hidden_size": head.hidden_size,
            "num_heads": head.num_heads,
            "token_size": head.token_size,
            "in_channels": head.action_dim,
            "future_action_window_size": head.chunk_steps - 1,
        },
    }


def _by_width(part: str, width: int, official: Mapping[int, Part]) -> Part:
    if width not in official:
        raise ValueError(
            f"{part} is {width} wide and tiny_sizes.json does not describe it; official ones are "
            f"{', '.join(map(str, sorted(official)))} wide, any other size needs its entry in tiny_sizes.json"
        )
    return official[width]


def _tower(sizes: Sizes, class_token: bool, layer_scale: bool) -> VisionTowerConfig:
    width = sizes["embed_dim"]
    # timm truncates width * ratio.
    mlp_hidden = sizes["mlp_hidden"] if "mlp_hidden" in sizes else int(width * sizes.get("mlp_ratio", 4.0))
    return VisionTowerConfig(
        embed_dim=width,
        depth=sizes["depth"],
        num_heads=sizes["num_heads"],
        mlp_hidden=mlp_hidden,
        register_tokens=sizes.get("reg_tokens", 0),
        class_token=class_token,
        layer_scale=layer_scale,
        patch_size=sizes.get("patch_size", 14),
        image_size=sizes.get("img_size", 224),
    )


def _tower_sizes(tower: VisionTowerConfig) -> dict[str, int]:
    return {
        "embed_dim": tower.embed_dim,
        "depth": tower.depth,
        "num_heads": tower.num_heads,
        "reg_tokens": tower.register_tokens,
        "mlp_hidden": tower.mlp_hidden,
        "patch_size": tower.patch_size,
        "img_size": tower.image_size,
    }


def _decoder(sizes: Sizes) -> DecoderConfig:
    activation = sizes.get("hidden_act", "silu")
    if activation != "silu":
        raise ValueError(f"llm.hidden_act is {activation!r}; Llama-2 has 'silu'")
    if sizes.get("attention_bias", False):
        raise ValueError("llm.attention_bias is true; Llama-2's projections have no biases")
    # One more id for <PAD>, then to a multiple of 64 (prismatic/models/backbones/llm/llama2.py).
    padded = -(-(sizes["vocab_size"] + 1) // VOCABULARY_MULTIPLE) * VOCABULARY_MULTIPLE
    return DecoderConfig(
        vocab_size=sizes.get("vocab_size_padded", padded),
        hidden_size=sizes["hidden_size"],
        intermediate_size=sizes["intermediate_size"],
        num_layers=sizes["num_hidden_layers"],
        num_heads=sizes["num_attention_heads"],
        num_kv_heads=sizes.get("num_key_value_heads", sizes["num_attention_heads"]),
        rms_norm_eps=sizes.get("rms_norm_eps", 1e-5),
        rope_theta=sizes.get("rope_theta", 10000.0),
    )


def _head(sizes: Sizes) -> HeadConfig:
    return HeadConfig(
        depth=sizes["depth"],
        hidden_size=sizes["hidden_size"],
        num_heads=sizes["num_heads"],
        token_size=sizes["token_size"],
        action_dim=sizes.get("in_channels", 7),
        chunk_steps=sizes.get("future_action_window_size", 15) + 1,
    )
