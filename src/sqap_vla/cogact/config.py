# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Sizes of a CogACT network.

Official checkpoints carry no sizes: config.json names the base VLM only, and the rest is in timm's, Llama-2's
and DiT_models' definitions (action_model/action_model.py), given here as `OFFICIAL_*`. sizes.py finds a
checkpoint's own.

Invariants: every width divides by its head count, both vision towers give the same number of patches, the
head's token_size is the decoder's hidden_size. A config that breaks one raises ValueError when it is built.
"""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class VisionTowerConfig:
    """One ViT. `depth` is the checkpoint's block count, of which the last does not run (see vision.py)."""

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
        _require_counts("vision tower", self, may_be_zero="register_tokens")
        _require_heads("vision tower", self.embed_dim, self.num_heads)
        _require(self.depth >= 2, f"vision tower: depth is {self.depth}; features come from the last block but one")
        _require(
            self.image_size % self.patch_size == 0,
            f"vision tower: image_size {self.image_size} does not divide by patch_size {self.patch_size}",
        )

    @property
    def num_patches(self) -> int:
        return (self.image_size // self.patch_size) ** 2

    @property
    def num_prefix_tokens(self) -> int:
        return int(self.class_token) + self.register_tokens


@dataclass(frozen=True)
class DecoderConfig:
    """Llama-2. `vocab_size` counts the rows of the embedding table, padding included."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    rms_norm_eps: float = 1e-5
    rope_theta: float = 10000.0

    def __post_init__(self) -> None:
        _require_counts("decoder", self)
        _require_heads("decoder", self.hidden_size, self.num_heads)
        _require(
            self.num_heads % self.num_kv_heads == 0,
            f"decoder: num_heads {self.num_heads} does not divide by num_key_value_heads {self.num_kv_heads}",
        )
        _require(self.head_dim % 2 == 0, f"decoder: head width {self.head_dim} is odd; RoPE turns pairs")
        _require(
            self.rms_norm_eps > 0 and self.rope_theta > 0,
            f"decoder: norm eps is {self.rms_norm_eps}, rope_theta {self.rope_theta}; they must be positive",
        )

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
        _require_counts("head", self)
        _require_heads("head", self.hidden_size, self.num_heads)


@dataclass(frozen=True)
class CogActConfig:
    """The whole network."""

    dino: VisionTowerConfig
    siglip: VisionTowerConfig
    decoder: DecoderConfig
    head: HeadConfig

    def __post_init__(self) -> None:
        dino, siglip, head, decoder = self.dino, self.siglip, self.head, self.decoder
        _require(
            dino.num_patches == siglip.num_patches and dino.image_size == siglip.image_size,
            f"dino sees {dino.num_patches} patches and siglip {siglip.num_patches}; "
            "their features are joined patch by patch, so the grids must be the same",
        )
        _require(
            head.token_size == decoder.hidden_size,
            f"head.token_size is {head.token_size} and the decoder's hidden_size {decoder.hidden_size}; "
            "the head is conditioned on the decoder's last hidden state, so they must be equal",
        )


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def _require_counts(owner: str, config: object, may_be_zero: str = "") -> None:
    """Every field declared `int` is a whole number above zero."""
    for field in fields(config):
        size, lowest = getattr(config, field.name), int(field.name != may_be_zero)
        _require(
            field.type != "int" or (type(size) is int and size >= lowest),
            f"{owner}.{field.name} is {size!r}; it must be a whole number of at least {lowest}",
        )


def _require_heads(owner: str, width: int, num_heads: int) -> None:
    _require(width % num_heads == 0, f"{owner}: width {width} does not divide by num_heads {num_heads}")


OFFICIAL_DINO = VisionTowerConfig(  # timm's vit_large_patch14_reg4_dinov2
    embed_dim=1024,
    depth=24,
    num_heads=16,
    mlp_hidden=4096,
    register_tokens=4,
    class_token=True,
    layer_scale=True,
)
OFFICIAL_SIGLIP = VisionTowerConfig(  # timm's vit_so400m_patch14_siglip_224
    embed_dim=1152,
    depth=27,
    num_heads=16,
    mlp_hidden=4304,
)
OFFICIAL_DECODER = DecoderConfig(  # Llama-2-7b, vocabulary padded to a multiple of 64
    vocab_size=32064,
    hidden_size=4096,
    intermediate_size=11008,
    num_layers=32,
    num_heads=32,
    num_kv_heads=32,
)
OFFICIAL_HEADS = {
    "DiT-S": HeadConfig(depth=6, hidden_size=384, num_heads=4, token_size=4096),
    "DiT-B": HeadConfig(depth=12, hidden_size=768, num_heads=12, token_size=4096),
    "DiT-L": HeadConfig(depth=24, hidden_size=1024, num_heads=16, token_size=4096),
}


def official_config(head: str = "DiT-B") -> CogActConfig:
    """CogACT-Small, -Base or -Large: the same VLM with DiT-S, DiT-B or DiT-L."""
    return CogActConfig(OFFICIAL_DINO, OFFICIAL_SIGLIP, OFFICIAL_DECODER, OFFICIAL_HEADS[head])
