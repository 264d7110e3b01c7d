# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""How hard the decoder's activations are to quantize, at the four places where they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from sqap_vla.cogact.model import CogAct
from sqap_vla.quantization.metrics import kurtosis, outlier_ratio, zeros_in_four_bits
from sqap_vla.quantization.online import RotatedLinear

# By the linear that is asked; those that read the same tensor with it are named as well.
READERS = {
    "self_attn.k_proj": "q, k",
    "self_attn.v_proj": "v",
    "self_attn.o_proj": "o",
    "mlp.up_proj": "gate, up",
    "mlp.down_proj": "down",
}


@dataclass(frozen=True)
class Tails:
    """Of the inputs of one linear, mean over frames. zeros: share that rounds to 0 in four bits."""

    kurtosis: float
    outlier_ratio: float
    zeros: float


@dataclass(frozen=True)
class InputTails:
    """tails: by reader, then by layer. channels: largest and median magnitude over tokens of each channel that q_proj
    and k_proj read in layer `layer`, [2, K].
    """

    tails: dict[str, list[Tails]]
    layer: int
    channels: np.ndarray

    def mean(self, reader: str) -> Tails:
        """Over the layers."""
        rows = [(tails.kurtosis, tails.outlier_ratio, tails.zeros) for tails in self.tails[reader]]
        return Tails(*(float(value) for value in np.mean(rows, axis=0)))


def input_tails(model: CogAct, run: Callable[[], object], layer: int) -> InputTails:
    """Of a float model, rotated or not. run: passes frames through it, one at a time."""
    found: dict[tuple[str, int], list[Tails]] = {}
    tokens: list[Tensor] = []

    def listen(reader: str, index: int) -> Callable[[nn.Module, tuple[Tensor]], None]:
        def hook(linear: nn.Module, arguments: tuple[Tensor]) -> None:
            x = linear.rotated(arguments[0]) if isinstance(linear, RotatedLinear) else arguments[0]
            x = x.flatten(0, -2)  # [T, K]
            found.setdefault((reader, index), []).append(Tails(kurtosis(x), outlier_ratio(x), zeros_in_four_bits(x)))
            if reader == "self_attn.k_proj" and index == layer:
                tokens.append(x.abs().float())

        return hook

    handles = [
        decoder_layer.get_submodule(reader).register_forward_pre_hook(listen(reader, index))
        for index, decoder_layer in enumerate(model.decoder.layers)
        for reader in READERS
    ]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    layers = range(len(model.decoder.layers))
    tails = {reader: [_mean(found[reader, index]) for index in layers] for reader in READERS}
    magnitude = torch.cat(tokens)  # [T, K]
    channels = torch.stack([magnitude.amax(0), magnitude.median(0).values])
    return InputTails(tails, layer, channels.cpu().numpy())


def _mean(rows: list[Tails]) -> Tails:
    return Tails(
        *(float(np.mean([getattr(row, name) for row in rows])) for name in ("kurtosis", "outlier_ratio", "zeros"))
    )
