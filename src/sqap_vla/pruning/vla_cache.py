# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""VLA-Cache: which visual tokens may be taken from the previous frame, and from which layer on.

    static     patches that look as before: cosine similarity of their pixels of at least a threshold, the most
               similar ones first
    relevant   patches that the text attended to most in the previous frame; always computed anew
    reusable   static and not relevant, in raster order
    share_l    1 - normalised attention entropy of layer l in the previous frame: layers that look at little reuse
               more; a rise from one layer to the next counts only in part

At each of a few layers the first max(1, floor(share_l * reusable)) tokens stand aside; where that is fewer than
already do, nothing changes, so the set only grows.

Source: arXiv 2502.02175, section 4; siyuhsu/vla-cache, vla_cache_utils.py and modeling_llama.py. Sizes follow the
code where the paper differs (paper: k = 100). Similarity runs on the host, on the 224x224 picture the network sees.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

EPS = 1e-8


@dataclass(frozen=True)
class VlaCachePolicy:
    """The rule and its numbers; see the module. Raises ValueError for values that make no sense.

    similarity_threshold: lowest cosine similarity of a static patch. static_tokens, relevant_tokens: most patches
    that count as static or relevant. reuse_layers: zero-based, ascending, where tokens may stand aside; those that
    the decoder does not have are left out. relevance_layer: zero-based layer whose attention says what is relevant;
    None is the last of the first half (15 of 32). reuse_growth: part of a rise in share that counts. patch_px: side of
    one token's patch.
    """

    similarity_threshold: float = 0.996
    static_tokens: int = 130
    relevant_tokens: int = 120
    reuse_layers: tuple[int, ...] = (2, 6, 9, 11)
    relevance_layer: int | None = None
    reuse_growth: float = 0.55
    patch_px: int = 14

    def __post_init__(self) -> None:
        if not -1 <= self.similarity_threshold <= 1:
            raise ValueError(f"similarity_threshold is {self.similarity_threshold}; a cosine is in [-1, 1]")
        if self.static_tokens < 0 or self.relevant_tokens < 0:
            raise ValueError(
                f"static_tokens is {self.static_tokens} and relevant_tokens {self.relevant_tokens}; both must be >= 0"
            )
        layers = self.reuse_layers
        if not layers or min(layers) < 0 or list(layers) != sorted(set(layers)):
            raise ValueError(f"reuse_layers is {layers}; give at least one layer from 0, ascending, each once")
        if not 0 <= self.reuse_growth <= 1:
            raise ValueError(f"reuse_growth is {self.reuse_growth}; it must be in [0, 1]")

    def relevance_layer_of(self, num_layers: int) -> int:
        """Zero-based. Raises ValueError for a layer that the decoder does not have."""
        if self.relevance_layer is None:
            return max(num_layers // 2 - 1, 0)
        if not 0 <= self.relevance_layer < num_layers:
            raise ValueError(f"relevance_layer is {self.relevance_layer}; the decoder has layers 0 to {num_layers - 1}")
        return self.relevance_layer

    def plan(
        self, previous: np.ndarray, picture: np.ndarray, entropy: Tensor, relevance: Tensor, first_visual: int = 1
    ) -> dict[int, Tensor]:
        """Positions in the sequence that stand aside, by the layer from which on they do.

        previous, picture: uint8 [S, S, 3], the frame before and this one. entropy: [L], relevance: [N], the frame
        before's (AttentionTrace). first_visual: position of visual token 0. Each layer's set holds those of the
        layers before it; layers that add nothing are left out. int64, on entropy's device.
        """
        similarity = patch_similarity(previous, picture, self.patch_px)
        static = static_patches(similarity, self.static_tokens, self.similarity_threshold)
        relevant = top_patches(relevance, self.relevant_tokens)
        positions = first_visual + reusable_patches(static, relevant)
        shares = reuse_shares(entropy, self.reuse_growth)
        return {
            layer: torch.from_numpy(chosen).to(entropy.device)
            for layer, chosen in reused_by_layer(positions, shares, self.reuse_layers).items()
        }


def patch_similarity(previous: np.ndarray, picture: np.ndarray, patch_px: int = 14) -> np.ndarray:
    """Cosine similarity of the raw pixels of each patch in two pictures uint8 [S, S, 3]: float32 [N], row-major.

    Raises ValueError for pictures of different or unsuitable sizes.
    """
    if previous.shape != picture.shape or picture.ndim != 3 or any(side % patch_px for side in picture.shape[:2]):
        raise ValueError(
            f"pictures are {previous.shape} and {picture.shape}; they must be equal [H, W, C] with H and W multiples "
            f"of {patch_px}"
        )
    a, b = (_patches(p, patch_px) for p in (previous, picture))
    return np.sum(a * b, axis=1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1) + np.float32(EPS))


def static_patches(similarity: np.ndarray, most: int, threshold: float) -> np.ndarray:
    """Patches at or above the threshold, most similar first, `most` at the most; int64. Ties go to the lowest index."""
    order = np.argsort(-similarity, kind="stable")
    return order[similarity[order] >= threshold][:most]


def top_patches(relevance: Tensor, most: int) -> np.ndarray:
    """The `most` highest relevances, highest first; int64. Ties go to the lowest index."""
    return np.argsort(-relevance.float().cpu().numpy(), kind="stable")[:most]


def reusable_patches(static: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    """Static and not relevant, ascending."""
    return np.setdiff1d(static, relevant)


def reuse_shares(entropy: Tensor, growth: float | None = 0.55) -> np.ndarray:
    """Mean attention entropy of each layer [L] -> share of the reusable tokens that each layer reuses, float32 [L].

    growth: a rise counts by this part of it, from the value that the layer before got; None leaves rises as they are.
    """
    entropy = entropy.float().cpu().numpy()
    spread = entropy.max() - entropy.min() + np.float32(1e-10)
    shares = (1 - (entropy - entropy.min()) / spread).astype(np.float64)
    if growth is not None:
        for layer in range(1, len(shares)):
            rise = shares[layer] - shares[layer - 1]
            if rise > 0:
                shares[layer] = shares[layer - 1] + growth * rise
    return shares.astype(np.float32)


def reused_by_layer(positions: np.ndarray, shares: np.ndarray, layers: tuple[int, ...]) -> dict[int, np.ndarray]:
    """positions int64 [m], ascending -> for each of `layers` that adds some, the positions that it reuses."""
    chosen: dict[int, np.ndarray] = {}
    most = 0
    for layer in (layer for layer in layers if layer < len(shares)):
        # float32 on both sides: with an int, NumPy 1 computes in float64 and rounds another way than NumPy 2.
        count = max(1, math.floor(shares[layer] * np.float32(len(positions)))) if len(positions) else 0
        if count > most:
            chosen[layer] = positions[:count]
            most = count
    return chosen


def _patches(picture: np.ndarray, patch_px: int) -> np.ndarray:
    """[H, W, C] -> float32 [N, patch_px * patch_px * C], row-major."""
    rows, columns = (side // patch_px for side in picture.shape[:2])
    blocks = picture.reshape(rows, patch_px, columns, patch_px, -1).swapaxes(1, 2)
    return blocks.reshape(rows * columns, -1).astype(np.float32)
