# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Sizes of a CogACT network.

Official checkpoints carry no sizes: config.json names the base VLM only, and the rest is in timm's, Llama-2's and
DiT_models' definitions (action_model/action_model.py). Widths identify those sizes (`OFFICIAL_*`). Networks of any other
size carry a `tiny_sizes.json` beside config.json, because head counts cannot be read off tensor shapes.

Invariants: every width divides by its head count, both vision towers give the same number of patches, the head's token_size
is the decoder's hidden_size.
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def _require_counts(owner: str, **sizes: int) -> None:
    for name, size in sizes.items():
        _require(isinstance(size, int) and size > 0, f"{owner}.{name} is {size!r}; it must be a positive whole number")


def _require_heads(owner: str, width: int, num_heads: int) -> None:
    _require(width % num_heads == 0, f"{owner}: width {width} does not divide by num_heads {num_heads}")


@dataclass(frozen=True)
class VisionTowerConfig:
    """One ViT: `depth` is the checkpoint's block count, of which the last one does not run (see vision.py)."""

    embed_dim: int
    depth: int
    num_heads: int
    mlp_hidden: int
    register_tokens: int = 0
    class_token: bool = False
    layer_scale: bool = False
    patch_size: int = 14
    image_size: int = 224

    def __post_init__(self) -> None:
        _require_counts("vision tower", embed_dim=self.embed_dim, depth=self.depth, num_heads=self.num_heads,
                        mlp_hidden=self.mlp_hidden, patch_size=self.patch_size, image_size=self.image_size)
        _require(self.depth >= 2, f"vision tower: depth is {self.depth}; features come from the last block but one")
        _require_heads("vision tower", self.embed_dim, self.num_heads)
        _require(self.image_size % self.patch_size == 0,
                 f"vision tower: image_size {self.image_size} does not divide by patch_size {self.patch_size}")

    @property
    def num_patches(self) -> int:
        return (self.image_size // self.patch_size) ** 2

    @property
    def num_prefix_tokens(self) -> int:
        return int(self.class_token) + self.register_tokens


@dataclass(frozen=True)
class DecoderConfig:
    """Llama-2. `vocab_size` counts the rows of the embedding table, padding included (32064 in official checkpoints)."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    rms_norm_eps: float = 1e-5
    rope_theta: float = 10000.0

    def __post_init__(self) -> None:
        _require_counts("decoder", vocab_size=self.vocab_size, hidden_size=self.hidden_size, num_layers=self.num_layers,
                        intermediate_size=self.intermediate_size, num_heads=self.num_heads, num_kv_heads=self.num_kv_heads)
        _require(self.rms_norm_eps > 0 and self.rope_theta > 0,
                 f"decoder: rms_norm_eps is {self.rms_norm_eps} and rope_theta {self.rope_theta}; both must be positive")
        _require_heads("decoder", self.hidden_size, self.num_heads)
        _require(self.num_heads % self.num_kv_heads == 0,
                 f"decoder: num_heads {self.num_heads} does not divide by num_key_value_heads {self.num_kv_heads}")
        _require(self.head_dim % 2 == 0, f"decoder: head width {self.head_dim} is odd; RoPE turns pairs")

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_heads


@dataclass(frozen=True)
class HeadConfig:
    """DiT action head. `token_size` is the width of the cognition feature."""

    depth: int
    hidden_size: int
    num_heads: int
    token_size: int
    action_dim: int = 7
    chunk_steps: int = 16

    def __post_init__(self) -> None:
        _require_counts("head", depth=self.depth, hidden_size=self.hidden_size, num_heads=self.num_heads,
                        token_size=self.token_size, action_dim=self.action_dim, chunk_steps=self.chunk_steps)
        _require_heads("head", self.hidden_size, self.num_heads)


@dataclass(frozen=True)
class CogActConfig:
    """The whole network."""

    dino: VisionTowerConfig
    siglip: VisionTowerConfig
    decoder: DecoderConfig
    head: HeadConfig

    def __post_init__(self) -> None:
        _require(self.dino.num_patches == self.siglip.num_patches and self.dino.image_size == self.siglip.image_size,
                 f"dino sees {self.dino.num_patches} patches and siglip {self.siglip.num_patches}; "
                 "their features are joined patch by patch, so the grids must be the same")
        _require(self.head.token_size == self.decoder.hidden_size,
                 f"head.token_size is {self.head.token_size} and the decoder's hidden_size {self.decoder.hidden_size}; "
                 "the head is conditioned on the decoder's last hidden state, so they must be equal")


OFFICIAL_DINO = VisionTowerConfig(embed_dim=1024, depth=24, num_heads=16, mlp_hidden=4096, register_tokens=4,
                                  class_token=True, layer_scale=True)  # vit_large_patch14_reg4_dinov2
OFFICIAL_SIGLIP = VisionTowerConfig(embed_dim=1152, depth=27, num_heads=16, mlp_hidden=4304)  # vit_so400m_patch14_siglip_224
OFFICIAL_DECODER = DecoderConfig(vocab_size=32064, hidden_size=4096, intermediate_size=11008, num_layers=32, num_heads=32,
                                 num_kv_heads=32)  # Llama-2-7b, vocabulary padded to a multiple of 64
OFFICIAL_HEADS = {
    "DiT-S": HeadConfig(depth=6, hidden_size=384, num_heads=4, token_size=4096),
    "DiT-B": HeadConfig(depth=12, hidden_size=768, num_heads=12, token_size=4096),
    "DiT-L": HeadConfig(depth=24, hidden_size=1024, num_heads=16, token_size=4096),
}


def official_config(head: str = "DiT-B") -> CogActConfig:
    """CogACT-Small, -Base or -Large: the same VLM with DiT-S, DiT-B or DiT-L."""
    return CogActConfig(OFFICIAL_DINO, OFFICIAL_SIGLIP, OFFICIAL_DECODER, OFFICIAL_HEADS[head])


def _official_by_width(part: str, width: int, known: Mapping[int, Any]) -> Any:
    if width not in known:
        raise ValueError(f"{part} is {width} wide and tiny_sizes.json does not describe it; "
                         f"official checkpoints have {', '.join(map(str, sorted(known)))}, other sizes need a tiny_sizes.json")
    return known[width]


def resolve_config(sizes: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> CogActConfig:
    """Config of a checkpoint: each part from `sizes` (the content of tiny_sizes.json) or, if absent there, by its width.

    shapes: at least the shapes of the checkpoint tensors named below, for the parts that `sizes` leaves out.
    Raises ValueError for sizes that contradict each other or are unknown, KeyError for a tensor or an entry that is missing.
    """
    if "dino" in sizes:
        dino = _tower_from_sizes(sizes["dino"], class_token=True, layer_scale=True)
    else:
        width = shapes["vision_backbone.dino_featurizer.pos_embed"][-1]
        dino = _official_by_width("the DINOv2 tower", width, {OFFICIAL_DINO.embed_dim: OFFICIAL_DINO})
    if "siglip" in sizes:
        siglip = _tower_from_sizes(sizes["siglip"], class_token=False, layer_scale=False)
    else:
        width = shapes["vision_backbone.siglip_featurizer.pos_embed"][-1]
        siglip = _official_by_width("the SigLIP tower", width, {OFFICIAL_SIGLIP.embed_dim: OFFICIAL_SIGLIP})
    if "llm" in sizes:
        decoder = _decoder_from_sizes(sizes["llm"])
    else:
        width = shapes["llm_backbone.llm.model.embed_tokens.weight"][-1]
        decoder = _official_by_width("the decoder", width, {OFFICIAL_DECODER.hidden_size: OFFICIAL_DECODER})
    if "dit" in sizes:
        head = _head_from_sizes(sizes["dit"])
    else:
        width = shapes["action_model.net.positional_embedding"][-1]
        head = _official_by_width("the action head", width, {h.hidden_size: h for h in OFFICIAL_HEADS.values()})
    return CogActConfig(dino, siglip, decoder, head)


def _tower_from_sizes(sizes: Mapping[str, Any], class_token: bool, layer_scale: bool) -> VisionTowerConfig:
    width = sizes["embed_dim"]
    mlp_hidden = sizes["mlp_hidden"] if "mlp_hidden" in sizes else int(width * sizes.get("mlp_ratio", 4.0))  # timm truncates
    return VisionTowerConfig(
        embed_dim=width, depth=sizes["depth"], num_heads=sizes["num_heads"], mlp_hidden=mlp_hidden,
        register_tokens=sizes.get("reg_tokens", 0), class_token=class_token, layer_scale=layer_scale,
        patch_size=sizes.get("patch_size", 14), image_size=sizes.get("img_size", 224))


def _decoder_from_sizes(sizes: Mapping[str, Any]) -> DecoderConfig:
    _require(sizes.get("hidden_act", "silu") == "silu", f"llm.hidden_act is {sizes.get('hidden_act')!r}; Llama-2 has 'silu'")
    _require(not sizes.get("attention_bias", False), "llm.attention_bias is true; Llama-2's projections have no biases")
    padded = -(-(sizes["vocab_size"] + 1) // 64) * 64  # one more id for <PAD>, then to a multiple of 64 (llm/llama2.py)
    return DecoderConfig(
        vocab_size=sizes.get("vocab_size_padded", padded), hidden_size=sizes["hidden_size"],
        intermediate_size=sizes["intermediate_size"], num_layers=sizes["num_hidden_layers"],
        num_heads=sizes["num_attention_heads"],
        num_kv_heads=sizes.get("num_key_value_heads") or sizes["num_attention_heads"],
        rms_norm_eps=sizes.get("rms_norm_eps", 1e-5), rope_theta=sizes.get("rope_theta", 10000.0))


def _head_from_sizes(sizes: Mapping[str, Any]) -> HeadConfig:
    return HeadConfig(
        depth=sizes["depth"], hidden_size=sizes["hidden_size"], num_heads=sizes["num_heads"],
        token_size=sizes["token_size"], action_dim=sizes.get("in_channels", 7),
        chunk_steps=sizes.get("future_action_window_size", 15) + 1)


def sizes_of(config: CogActConfig) -> dict[str, Any]:
    """The content of a tiny_sizes.json that `resolve_config` reads back to `config`."""
    def tower(tower: VisionTowerConfig) -> dict[str, Any]:
        return {"embed_dim": tower.embed_dim, "depth": tower.depth, "num_heads": tower.num_heads,
                "patch_size": tower.patch_size, "reg_tokens": tower.register_tokens, "mlp_hidden": tower.mlp_hidden,
                "img_size": tower.image_size}

    decoder, head = config.decoder, config.head
    return {
        "dino": tower(config.dino),
        "siglip": tower(config.siglip),
        "llm": {"vocab_size": decoder.vocab_size - 1, "vocab_size_padded": decoder.vocab_size,
                "hidden_size": decoder.hidden_size, "intermediate_size": decoder.intermediate_size,
                "num_hidden_layers": decoder.num_layers, "num_attention_heads": decoder.num_heads,
                "num_key_value_heads": decoder.num_kv_heads, "hidden_act": "silu",
                "rms_norm_eps": decoder.rms_norm_eps, "rope_theta": decoder.rope_theta, "attention_bias": False},
        "dit": {"depth": head.depth, "hidden_size": head.hidden_size, "num_heads": head.num_heads,
                "token_size": head.token_size, "in_channels": head.action_dim,
                "future_action_window_size": head.chunk_steps - 1},
    }
