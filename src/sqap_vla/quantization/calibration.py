# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""What every linear reads on calibration frames: each input channel's largest magnitude, for activation granularity
`channel`, and its mean, for bias correction. One forward pass, no training.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sqap_vla.quantization.online import RotatedLinear

# Linears of one parent that read one tensor. In the last layer q_proj sees the last token alone, or, where tokens are
# reused across frames, all of them; so they also have one range.
_READ_TOGETHER = ({"q_proj", "k_proj", "v_proj"}, {"gate_proj", "up_proj"})


def input_group(layer: str) -> str:
    """A name that layers reading the same tensor have in common, and no others."""
    parent, _, leaf = layer.rpartition(".")
    together = next((names for names in _READ_TOGETHER if leaf in names), {leaf})
    return f"{parent}.{'+'.join(sorted(together))}"


@dataclass(frozen=True)
class InputStatistics:
    """Of what a linear reads behind its own rotation, channel by channel, float32 [K]. magnitude: the largest, of all
    layers that read the same tensor in the same way. mean: of all tokens, this layer's own.
    """

    magnitude: Tensor
    mean: Tensor


@dataclass
class _Sums:
    magnitude: Tensor
    total: Tensor
    tokens: int

    def add(self, x: Tensor) -> None:
        """x [T, K]."""
        self.magnitude = torch.maximum(self.magnitude, x.abs().amax(0))
        self.total = self.total + x.sum(0, dtype=torch.float64)
        self.tokens += x.shape[0]


def input_statistics(model: nn.Module, names: Iterable[str], run: Callable[[], object]) -> dict[str, InputStatistics]:
    """Run the float model, rotated or not, and note what its linears read.

    names: full names of the linears. run: passes calibration frames through the model, all that matter. Returns the
    statistics by name, on the layers' device. Raises ValueError if one of them was never run.
    """
    layers: dict[str, nn.Linear] = {name: model.get_submodule(name) for name in names}
    sums: dict[str, _Sums] = {}

    def observe(name: str) -> Callable[[nn.Linear, tuple[Tensor]], None]:
        def hook(layer: nn.Linear, arguments: tuple[Tensor]) -> None:
            x = layer.rotated(arguments[0]) if isinstance(layer, RotatedLinear) else arguments[0]
            x = x.detach().flatten(0, -2).float()  # [T, K]
            if not len(x):  # says nothing, and has no largest
                return
            if name not in sums:
                sums[name] = _Sums(x.new_zeros(x.shape[1]), x.new_zeros(x.shape[1], dtype=torch.float64), 0)
            sums[name].add(x)

        return hook

    handles = [layer.register_forward_pre_hook(observe(name)) for name, layer in layers.items()]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    idle = [name for name in layers if name not in sums]
    if idle:
        raise ValueError(f"calibration never ran {len(idle)} layers, {idle[0]} among them; run whole frames through it")
    largest: dict[object, Tensor] = {}
    keys = {name: (input_group(name), getattr(layer, "rotation", None)) for name, layer in layers.items()}
    for name, key in keys.items():
        magnitude = sums[name].magnitude
        largest[key] = torch.maximum(largest[key], magnitude) if key in largest else magnitude
    return {
        name: InputStatistics(largest[key], (sums[name].total / sums[name].tokens).float())
        for name, key in keys.items()
    }
