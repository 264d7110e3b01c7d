# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""A float CogAct, in memory, made into a quantized one; or its empty shell, to load quantized tensors into.

What a converter does one tensor at a time (rotation.rotate_tensor, then linear.quantized_tensors) is done here on a
whole model. Both give the same tensors, and `quantize_modules` the shell that they fit.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from torch import Tensor, nn

from sqap_vla.cogact.model import CogAct
from sqap_vla.quantization.backends.registry import AUTO
from sqap_vla.quantization.calibration import input_group, input_statistics
from sqap_vla.quantization.linear import LinearSpec, QuantizedLinear
from sqap_vla.quantization.online import RotatedLinear, SharedInput
from sqap_vla.quantization.policy import QuantizationConfig
from sqap_vla.quantization.quantizer import Granularity, QuantizedInput, channel_scale
from sqap_vla.quantization.rotation import rotate_model, rotate_modules

logger = logging.getLogger(__name__)


def quantize_model(
    model: CogAct, config: QuantizationConfig, calibrate: Callable[[], object] | None = None, backend: str = AUTO
) -> None:
    """Rotate and quantize a float model in place.

    calibrate: passes calibration frames through `model`, which is rotated by then; for configs that need it, and no
    others. backend: of the integer products. Raises ValueError if the policy, the calibration or a layer's sizes do
    not fit; the model is then of no further use.
    """
    if (calibrate is not None) != config.needs_calibration:
        raise ValueError(
            f"calibration frames are {'not ' if calibrate is None else ''}given for granularity "
            f"{config.granularity.value}, bias_correction {config.bias_correction}; channel and bias_correction need "
            "them, nothing else does"
        )
    specs = layer_specs(model, config)
    rotate_model(model, config.rotation)
    statistics = input_statistics(model, specs, calibrate) if calibrate is not None else {}
    before = _weight_bytes(model)
    shares: dict[object, SharedInput[QuantizedInput]] = {}
    for name, spec in specs.items():
        layer = model.get_submodule(name)
        scale = mean = None
        if config.granularity is Granularity.CHANNEL:
            scale = channel_scale(statistics[name].magnitude, spec.precision.activation_bits)
        if config.bias_correction:
            mean = statistics[name].mean
        try:
            quantized = QuantizedLinear.from_float(layer, spec, scale, mean, _share(shares, name, layer, spec), backend)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        model.set_submodule(name, quantized)
    logger.info(
        "quantized %d linears, rotation %s, activations by %s: %.1f MB of weights, %.1f before",
        len(specs), config.rotation.kind.value, config.granularity.value, _weight_bytes(model) / 1e6, before / 1e6,
    )  # fmt: skip


def quantize_modules(model: CogAct, config: QuantizationConfig, backend: str = AUTO) -> None:
    """Replace modules only, with empty buffers on the model's device (meta too), ready for load_state_dict.

    Raises ValueError if the policy or a layer's sizes do not fit.
    """
    specs = layer_specs(model, config)
    rotate_modules(model, config.rotation)
    shares: dict[object, SharedInput[QuantizedInput]] = {}
    for name, spec in specs.items():
        layer = model.get_submodule(name)
        rotation = layer.rotation if isinstance(layer, RotatedLinear) else None
        weight = layer.weight
        try:
            quantized = QuantizedLinear(
                layer.in_features,
                layer.out_features,
                spec,
                rotation,
                layer.bias is not None,
                _share(shares, name, layer, spec),
                backend,
                weight.device,
                weight.dtype,
            )
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        model.set_submodule(name, quantized.train(layer.training))


def layer_specs(model: CogAct, config: QuantizationConfig) -> dict[str, LinearSpec]:
    """What of the model's linears is quantized, and how, by full name. Raises ValueError for a rule without a layer."""
    layers = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    config.policy.check(layers)
    return {name: spec for name in layers if (spec := config.spec_of(name)) is not None}


def _share(
    shares: dict[object, SharedInput[QuantizedInput]], name: str, layer: nn.Linear, spec: LinearSpec
) -> SharedInput[QuantizedInput]:
    """One for all layers that read the same tensor and make the same integers of it."""
    key = (input_group(name), getattr(layer, "rotation", None), spec.activation)
    return shares.setdefault(key, SharedInput())


def _weight_bytes(model: CogAct) -> int:
    tensors: dict[int, Tensor] = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


__all__ = ["layer_specs", "quantize_model", "quantize_modules"]
