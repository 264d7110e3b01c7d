# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""A small random decoder, and prunings that keep given tokens."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sqap_vla.cogact.config import DecoderConfig
from sqap_vla.cogact.llama import LlamaDecoder, Pruning


@dataclass(frozen=True)
class Kept:
    kept: Tensor


def keep(kept: Tensor, prune_layer: int, seen: list[Tensor | None] | None = None, **options: object) -> Pruning:
    """A pruning that keeps fixed tokens and notes the scores it was given."""

    def select(scores: Tensor | None, features: Tensor | None = None) -> Kept:
        if seen is not None:
            seen.append(scores)
        return Kept(kept)

    return Pruning(**{"prune_layer": prune_layer, "score_layer": prune_layer - 1, "select": select} | options)


def random_decoder(num_kv_heads: int = 2, num_layers: int = 4) -> LlamaDecoder:
    torch.manual_seed(5)
    decoder = LlamaDecoder(
        DecoderConfig(
            vocab_size=50,
            hidden_size=48,
            intermediate_size=112,
            num_layers=num_layers,
            num_heads=6,
            num_kv_heads=num_kv_heads,
            rms_norm_eps=1e-5,
            rope_theta=5000.0,
        )
    ).eval()
    for parameter in decoder.parameters():
        parameter.copy_(torch.randn_like(parameter) / parameter.shape[-1] ** 0.5 + (parameter.dim() == 1))
    return decoder
