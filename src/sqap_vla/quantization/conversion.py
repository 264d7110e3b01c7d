# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""A checkpoint's float tensors -> the tensors of the model as an artifact stores it, one linear layer at a time.

What is not quantized keeps its values, in the artifact's dtype, but for two exceptions: the action head is always
float32, and a quantized model's embedding table always bfloat16, whose rounding (54 dB) is far below that of four bits
and which would otherwise be a sixth of the LLM's bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from sqap_vla.cogact.config import CogActConfig
from sqap_vla.cogact.layout import build_on_meta
from sqap_vla.cogact.model import CogAct
from sqap_vla.quantization.calibration import InputStatistics
from sqap_vla.quantization.linear import LinearSpec, quantized_tensors
from sqap_vla.quantization.manifest import ArtifactError
from sqap_vla.quantization.policy import QuantizationConfig
from sqap_vla.quantization.quantize import layer_specs, quantize_modules
from sqap_vla.quantization.quantizer import Granularity, channel_scale
from sqap_vla.quantization.rotation import DECODER, folded_gain, rotate_tensor
from sqap_vla.quantization.shards import TensorSpec

EMBEDDING = f"{DECODER}embed_tokens.weight"


def build_shell(config: CogActConfig, quantization: QuantizationConfig | None) -> CogAct:
    """The network without memory behind its tensors, ready to be given those of an artifact.

    Raises ValueError if the quantization does not fit the network.
    """
    model = build_on_meta(config)
    if quantization is not None:
        quantize_modules(model, quantization)
    return model


def specs_of(model: CogAct, dtype: torch.dtype, quantized: bool) -> list[TensorSpec]:
    """What an artifact stores of such a shell, in the model's order."""
    parameters = {name for name, _ in model.named_parameters()}

    def stored_as(name: str, tensor: Tensor) -> torch.dtype:
        if name not in parameters:  # integers, scales and biases of quantized layers have their own
            return tensor.dtype
        if name.startswith("action_model."):
            return torch.float32
        return torch.bfloat16 if quantized and name == EMBEDDING else dtype

    return [
        TensorSpec(name, stored_as(name, tensor), tuple(tensor.shape)) for name, tensor in model.state_dict().items()
    ]


class TensorSource:
    """Gives the tensors of the converted model by name.

    A quantized layer's tensors are all made when the first of them is asked for, and each is kept until it has been
    asked for once.
    """

    def __init__(
        self,
        tensors: Mapping[str, Tensor],
        config: CogActConfig,
        quantization: QuantizationConfig | None,
        statistics: Mapping[str, InputStatistics] | None = None,
        made: Callable[[int], None] = lambda size_bytes: None,
    ) -> None:
        """tensors: of the checkpoint, by name, mapped. statistics: of every quantized linear, where `quantization`
        needs calibration. made: hears of each layer that was quantized, by the bytes of its tensors. Raises ValueError
        if the quantization does not fit the network."""
        self._tensors, self._config, self._quantization = tensors, config, quantization
        self._statistics, self._made = statistics or {}, made
        self._specs: dict[str, LinearSpec] = {}
        if quantization is not None:
            self._specs = layer_specs(build_on_meta(config), quantization)
        self._waiting: dict[str, Tensor] = {}

    def __getitem__(self, name: str) -> Tensor:
        """Raises ArtifactError where a weight cannot be quantized, KeyError for an unknown name."""
        layer = name.rpartition(".")[0]
        if layer not in self._specs:
            return self._rotated(name)
        if name not in self._waiting:
            made = self._quantize(layer)
            self._waiting |= {f"{layer}.{leaf}": tensor for leaf, tensor in made.items()}
            self._made(sum(tensor.nbytes for tensor in made.values()))
        return self._waiting.pop(name)

    def _rotated(self, name: str) -> Tensor:
        tensor = self._tensors[name]
        if self._quantization is None:
            return tensor
        rotation = self._quantization.rotation
        gain = folded_gain(name, rotation)
        return rotate_tensor(name, tensor, rotation, self._config.decoder, self._tensors[gain] if gain else None)

    def _quantize(self, layer: str) -> dict[str, Tensor]:
        spec = self._specs[layer]
        scale = mean = None
        if spec.granularity is Granularity.CHANNEL:
            scale = channel_scale(self._statistics[layer].magnitude, spec.precision.activation_bits)
        if spec.bias_correction:
            mean = self._statistics[layer].mean
        bias = self._rotated(f"{layer}.bias").float() if f"{layer}.bias" in self._tensors else None
        try:
            return quantized_tensors(self._rotated(f"{layer}.weight"), spec, bias, scale, mean)
        except ValueError as error:
            raise ArtifactError(f"{layer}: {error}") from error
