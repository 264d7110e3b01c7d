# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The same network with fewer decoder layers and narrower MLPs, training-free.

A layer matters as much as it changes its input: I = 1 - mean cosine of its input and output over samples and tokens
(EfficientVLA, arXiv 2506.10100, eq. 1); the lowest leave, wherever they stand. MLP channels leave by the size of what
they can add, |gate row| * |up row| * |down column|, read from the weights alone. EfficientVLA takes PruneNet (arXiv
2501.15296) for that step, a learned policy that looks at the weights alone as well.

The reduced model shares every tensor with the one it was made of, except the narrowed MLPs, which are copies.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sqap_vla.cogact.llama import DecoderLayer, LlamaDecoder, LlamaMlp, rotary_tables
from sqap_vla.cogact.model import CogAct, sharing_copy


@torch.no_grad()
def layer_importance(decoder: LlamaDecoder, embeds: Tensor) -> Tensor:
    """embeds: samples of equal length, no padding [B, T, D]. Returns float64 [L] on the host; 0 changes nothing."""
    positions = torch.arange(embeds.shape[1], device=embeds.device).expand(len(embeds), -1)
    rope = rotary_tables(positions, decoder.config.head_dim, decoder.config.rope_theta, embeds.dtype)
    x, importance = embeds, []
    for layer in decoder.layers:
        output = layer(x, rope)  # [B, T, D]
        importance.append(1 - F.cosine_similarity(x.double(), output.double(), dim=-1).mean())
        x = output
    return torch.stack(importance).cpu()


def least_important(importance: Tensor, count: int) -> tuple[int, ...]:
    """The `count` layers with the lowest importance [L], ascending by index. Ties go to the lowest index."""
    return tuple(sorted(torch.sort(importance, stable=True).indices[:count].tolist()))


def mlp_channel_importance(mlp: LlamaMlp) -> Tensor:
    """float32 [H] for the H channels between up and down projection."""
    gate, up, down = (_weight(mlp, name) for name in ("gate_proj", "up_proj", "down_proj"))
    return gate.float().norm(dim=1) * up.float().norm(dim=1) * down.float().norm(dim=0)


@torch.no_grad()
def reduced_model(model: CogAct, layers: Sequence[int], mlp_sparsity: float = 0.0) -> CogAct:
    """`model` with `layers` only (zero-based, ascending) and 1 - mlp_sparsity of each one's MLP channels.

    `model` itself stays as it is. Raises ValueError for layers that are not there or out of order, a sparsity
    outside [0, 1), or quantized weights.
    """
    count = len(model.decoder.layers)
    if not layers or list(layers) != sorted(set(layers)) or not 0 <= layers[0] <= layers[-1] < count:
        raise ValueError(f"layers to keep are {tuple(layers)}; give at least one of 0 to {count - 1}, ascending, once")
    if not 0 <= mlp_sparsity < 1:
        raise ValueError(f"mlp_sparsity is {mlp_sparsity}; it must be in [0, 1), 0.25 drops a quarter of the channels")
    kept = model.decoder.config.intermediate_size - round(mlp_sparsity * model.decoder.config.intermediate_size)
    decoder = sharing_copy(model.decoder)
    decoder.config = dataclasses.replace(decoder.config, num_layers=len(layers), intermediate_size=max(kept, 1))
    decoder.layers = nn.ModuleList(
        _with_narrow_mlp(model.decoder.layers[i], decoder.config.intermediate_size) for i in layers
    )
    return model.with_decoder(decoder)


def _with_narrow_mlp(layer: DecoderLayer, channels: int) -> DecoderLayer:
    width = _weight(layer.mlp, "gate_proj").shape[0]
    if channels == width:
        return layer
    kept = torch.sort(mlp_channel_importance(layer.mlp), descending=True, stable=True).indices[:channels].sort().values
    narrow = sharing_copy(layer)
    narrow.mlp = sharing_copy(layer.mlp)
    for name, dim in (("gate_proj", 0), ("up_proj", 0), ("down_proj", 1)):
        weight = _weight(layer.mlp, name).index_select(dim, kept)
        with torch.device("meta"):
            linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
        linear.weight = nn.Parameter(weight, requires_grad=False)
        setattr(narrow.mlp, name, linear)
    return narrow.eval()


def _weight(mlp: LlamaMlp, name: str) -> Tensor:
    linear = getattr(mlp, name)
    if type(linear) is not nn.Linear:
        raise ValueError(
            f"{name} is a {type(linear).__name__}; MLP channels are dropped from float weights only: "
            "reduce the model before it is quantized, or set mlp_sparsity to 0"
        )
    return linear.weight
