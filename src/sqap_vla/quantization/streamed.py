# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The rotated float model of a checkpoint that is too large for memory, for one calibration pass.

Towers, projector and head are views of the mapped checkpoint, which are no memory of ours. Each linear of the decoder
gets its rotated weight when it is called and gives it back afterwards, so that only one lies in memory at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from sqap_vla.cogact.config import CogActConfig
from sqap_vla.cogact.layout import build_on_meta
from sqap_vla.cogact.model import CogAct
from sqap_vla.quantization.calibration import InputStatistics, input_statistics
from sqap_vla.quantization.conversion import TensorSource
from sqap_vla.quantization.policy import PrecisionPolicy, QuantizationConfig
from sqap_vla.quantization.quantize import layer_specs
from sqap_vla.quantization.quantizer import Precision
from sqap_vla.quantization.rotation import DECODER, rotate_modules

Run = Callable[[CogAct], object]


def calibrate_streamed(
    tensors: Mapping[str, Tensor], config: CogActConfig, quantization: QuantizationConfig, run: Run
) -> dict[str, InputStatistics]:
    """What the linears that `quantization` quantizes read while run(model) passes frames through the float model.

    tensors: of the checkpoint, by name, mapped. Raises ValueError as `input_statistics`.
    """
    names = layer_specs(build_on_meta(config), quantization)
    model = streamed_model(tensors, config, quantization)
    with torch.inference_mode():
        return input_statistics(model, names, lambda: run(model))


def streamed_model(tensors: Mapping[str, Tensor], config: CogActConfig, quantization: QuantizationConfig) -> CogAct:
    """See the module's docstring. Its dtype is the checkpoint's, its rotation that of `quantization`."""
    unquantized = QuantizationConfig(PrecisionPolicy(precision=Precision.BF16), quantization.rotation)
    source = TensorSource(tensors, config, unquantized)
    model = build_on_meta(config)
    rotate_modules(model, quantization.rotation)
    streamed = {
        f"{name}.weight": module
        for name, module in model.named_modules()
        if name.startswith(f"{DECODER}layers.") and isinstance(module, nn.Linear)
    }
    dtype = tensors[f"{DECODER}embed_tokens.weight"].dtype
    resident = {name: source[name] for name in model.state_dict() if name not in streamed}
    for name, tensor in resident.items():
        resident[name] = tensor.to(torch.float32 if name.startswith("action_model.") else dtype)
    model.load_state_dict(resident, strict=False, assign=True)
    for name, linear in streamed.items():
        _stream(linear, lambda name=name: source[name].to(dtype))
    return model


def _stream(linear: nn.Linear, weight: Callable[[], Tensor]) -> None:
    empty = linear.weight

    def take(module: nn.Linear, arguments: Iterable[Tensor]) -> None:
        module.weight = nn.Parameter(weight(), requires_grad=False)

    def give_back(module: nn.Linear, arguments: Iterable[Tensor], output: Tensor) -> None:
        module.weight = empty

    linear.register_forward_pre_hook(take)
    linear.register_forward_hook(give_back)
