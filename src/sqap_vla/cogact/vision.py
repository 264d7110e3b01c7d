# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""DINOv2 and SigLIP side by side, and the projector into the decoder's embedding space.

Features are the output of the last block but one, without the final norm and without prefix tokens, so a
tower of `depth` blocks builds and runs depth-1 of them. The 256 patches are in row-major order: token = 16 *
row + column.

Source: prismatic/models/backbones/vision/dinosiglip_vit.py (get_intermediate_layers(n={len(blocks) - 2})),
timm/models/vision_transformer.py, prismatic/util/nn_utils.py (FusedMLPProjector).
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sqap_vla.cogact.config import VisionTowerConfig
from sqap_vla.cogact.layers import Mlp, SelfAttention

NORM_EPS = 1e-6


class VisionBackbone(nn.Module):
    """Both towers; their features are joined per patch, DINOv2 first."""

    def __init__(self, dino: VisionTowerConfig, siglip: VisionTowerConfig) -> None:
        super().__init__()
        self.dino_featurizer = VisionTransformer(dino)
        self.siglip_featurizer = VisionTransformer(siglip)
        self._aside: torch.cuda.Stream | None = None

    def forward(self, dino: Tensor, siglip: Tensor) -> Tensor:
        """Pictures [B, 3, 224, 224], normalised for each tower -> features [B, N, D_dino + D_siglip].

        On CUDA the towers run side by side: for one picture neither fills a GPU.
        """
        if not dino.is_cuda or torch.is_grad_enabled():
            return torch.cat([self.dino_featurizer(dino), self.siglip_featurizer(siglip)], dim=2)
        if self._aside is None:
            self._aside = torch.cuda.Stream(dino.device)
        here, aside = torch.cuda.current_stream(dino.device), self._aside
        # Each stream waits for the other before it goes on, so what one allocates is never handed on too early.
        aside.wait_stream(here)
        with torch.cuda.stream(aside):
            other = self.siglip_featurizer(siglip)
        features = self.dino_featurizer(dino)
        here.wait_stream(aside)
        return torch.cat([features, other], dim=2)


class VisionTransformer(nn.Module):
    """Pre-norm ViT whose position table covers the patches only."""

    def __init__(self, config: VisionTowerConfig) -> None:
        super().__init__()
        dim = config.embed_dim
        self.num_prefix_tokens = config.num_prefix_tokens
        if config.class_token:
            self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        if config.register_tokens:
            self.reg_token = nn.Parameter(torch.zeros(1, config.register_tokens, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, config.num_patches, dim))
        self.patch_embed = PatchEmbed(dim, config.patch_size)
        self.blocks = nn.ModuleList(VisionBlock(config) for _ in range(config.depth - 1))

    def forward(self, picture: Tensor) -> Tensor:
        x = self.embed(picture)  # [B, P + N, D]
        add_and_norm = _residual_norm_kernel() if x.is_cuda and not torch.is_grad_enabled() else None
        if add_and_norm is None:
            for block in self.blocks:
                x = block(x)  # [B, P + N, D]
        else:
            x = self._run_joined(x, add_and_norm)
        return x[:, self.num_prefix_tokens :]  # [B, N, D]

    def _run_joined(self, x: Tensor, add_and_norm: AddAndNorm) -> Tensor:
        """The blocks, with what lies between two products as one kernel."""
        normed = self.blocks[0].norm1(x)
        for block, following in itertools.zip_longest(self.blocks, self.blocks[1:]):
            x, normed = add_and_norm(x, block.attn(normed), block.ls1.gamma, block.norm2)
            branch = block.mlp(normed)
            if following is None:
                return x + block.ls2(branch)
            x, normed = add_and_norm(x, branch, block.ls2.gamma, following.norm1)
        return x

    def embed(self, picture: Tensor) -> Tensor:
        """Picture [B, 3, 224, 224] -> class token, registers, patches [B, P + N, D]."""
        patches = self.patch_embed(picture) + self.pos_embed  # [B, N, D]
        prefix = [
            getattr(self, name).expand(patches.shape[0], -1, -1)
            for name in ("cls_token", "reg_token")
            if hasattr(self, name)
        ]
        return torch.cat([*prefix, patches], dim=1)  # [B, P + N, D]


AddAndNorm = Callable[[Tensor, Tensor, Tensor | None, nn.LayerNorm], tuple[Tensor, Tensor]]


@functools.lru_cache(maxsize=1)
def _residual_norm_kernel() -> AddAndNorm | None:
    try:
        from sqap_vla.cogact.residual_norm_kernel import add_and_norm
    except ImportError:  # Triton comes with CUDA builds of torch for Linux, and with no other
        return None
    return add_and_norm


class PatchEmbed(nn.Module):
    def __init__(self, dim: int, patch_size: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, kernel_size=patch_size, stride=patch_size)

    def forward(self, picture: Tensor) -> Tensor:
        if picture.is_cuda:  # cuDNN's convolution of one picture takes several times as long as the product
            return self.as_product(picture)
        return self.proj(picture).flatten(2).transpose(1, 2)  # [B, N, D]

    def as_product(self, picture: Tensor) -> Tensor:
        """The same sums: patches do not overlap."""
        size = self.proj.kernel_size[0]
        rows = picture.unflatten(2, (-1, size)).unflatten(4, (-1, size))  # [B, 3, rows, size, columns, size]
        patches = rows.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)  # [B, N, 3 * size * size]
        return F.linear(patches, self.proj.weight.flatten(1), self.proj.bias)


class VisionBlock(nn.Module):
    def __init__(self, config: VisionTowerConfig) -> None:
        super().__init__()
        dim = config.embed_dim
        self.norm1 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.attn = SelfAttention(dim, config.num_heads)
        self.ls1 = LayerScale(dim) if config.layer_scale else Unscaled()
        self.norm2 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.mlp = Mlp(dim, config.mlp_hidden)
        self.ls2 = LayerScale(dim) if config.layer_scale else Unscaled()

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.ls1(self.attn(self.norm1(x)))  # [B, P + N, D]
        return x + self.ls2(self.mlp(self.norm2(x)))  # [B, P + N, D]


class LayerScale(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class Unscaled(nn.Identity):
    gamma = None


class Projector(nn.Module):
    """Fused vision features -> visual tokens: three linears, four times wider in the middle, exact GELU."""

    def __init__(self, vision_dim: int, decoder_dim: int) -> None:
        super().__init__()
        self.projector = nn.Sequential(
            nn.Linear(vision_dim, 4 * vision_dim),
            nn.GELU(),
            nn.Linear(4 * vision_dim, decoder_dim),
            nn.GELU(),
            nn.Linear(decoder_dim, decoder_dim),
        )

    def forward(self, features: Tensor) -> Tensor:
        return self.projector(features)  # [B, N, D]
