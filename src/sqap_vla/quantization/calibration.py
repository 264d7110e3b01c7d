# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Largest magnitude of every input channel on calibration frames, for activation granularity `channel`."""

from __future__ import annotations

from collections.abc import Callable, Iterable

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


def input_magnitudes(model: nn.Module, names: Iterable[str], run: Callable[[], object]) -> dict[str, Tensor]:
    """Run the float model, rotated or not, and note what its linears read.

    names: full names of the linears. run: passes calibration frames through the model, all that matter. Returns, by
    name, float32 [K] on the CPU: channel by channel, behind the layer's own rotation, the largest magnitude over all
    tokens, and over those of the layers that read the same tensor in the same way. Raises ValueError if one was never
    run.
    """
    layers: dict[str, nn.Linear] = {name: model.get_submodule(name) for name in names}
    found: dict[object, Tensor] = {}

    def observe(key: object) -> Callable[[nn.Linear, tuple[Tensor]], None]:
        def hook(layer: nn.Linear, arguments: tuple[Tensor]) -> None:
            x = layer.rotated(arguments[0]) if isinstance(layer, RotatedLinear) else arguments[0]
            magnitude = x.detach().abs().flatten(0, -2).amax(0).float().cpu()  # [K]
            found[key] = torch.maximum(found[key], magnitude) if key in found else magnitude

        return hook

    keys = {name: (input_group(name), getattr(layer, "rotation", None)) for name, layer in layers.items()}
    handles = [layer.register_forward_pre_hook(observe(keys[name])) for name, layer in layers.items()]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    idle = [name for name, key in keys.items() if key not in found]
    if idle:
        raise ValueError(f"calibration never ran {len(idle)} layers, {idle[0]} among them; run whole frames through it")
    return {name: found[key] for name, key in keys.items()}
