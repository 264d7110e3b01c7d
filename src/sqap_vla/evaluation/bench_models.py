# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Networks to measure: random weights at any size, and the quantized network of the same weights.

Made one tensor at a time and on the device, so that the full size fits where the network itself does.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from sqap_vla.cogact.config import CogActConfig
from sqap_vla.cogact.layout import build_on_meta
from sqap_vla.cogact.model import CogAct
from sqap_vla.cogact.random_checkpoint import HEAD, answer_the_noise, random_tensor
from sqap_vla.quantization.linear import quantized_tensors
from sqap_vla.quantization.policy import QuantizationConfig
from sqap_vla.quantization.quantize import layer_specs, quantize_modules
from sqap_vla.quantization.rotation import folded_gain, rotate_tensor


def with_layers(config: CogActConfig, layers: int | None) -> CogActConfig:
    """The same network with fewer (or more) decoder layers; None changes nothing."""
    if layers is None:
        return config
    return dataclasses.replace(config, decoder=dataclasses.replace(config.decoder, num_layers=layers))


@torch.no_grad()
def random_model(config: CogActConfig, dtype: torch.dtype, device: torch.device, seed: int = 0) -> CogAct:
    """Vision and decoder in `dtype`, the head in float32. The same seed gives the same weights on the same kind of
    device, rounded to `dtype`.
    """
    model = build_on_meta(config)
    generator = torch.Generator(device).manual_seed(seed)
    tensors = {}
    for name, parameter in model.named_parameters():
        wide = random_tensor(name, tuple(parameter.shape), generator)
        tensors[name] = wide if name.startswith("action_model.") else wide.to(dtype)
    answer_the_noise({name: tensor for name, tensor in tensors.items() if name.startswith(HEAD)})
    return _load(model, tensors)


@torch.no_grad()
def quantized_copy(model: CogAct, config: QuantizationConfig, dtype: torch.dtype) -> CogAct:
    """`model` quantized, in tensors of its own where they change; `model` stays as it is. dtype: of what is not
    quantized. Raises ValueError where the config does not fit.
    """
    shell = build_on_meta(model.config)
    specs = layer_specs(shell, config)
    parameters, tensors = dict(model.named_parameters()), {}
    for name, parameter in parameters.items():
        gain = folded_gain(name, config.rotation)
        rotated = rotate_tensor(
            name, parameter, config.rotation, model.config.decoder, None if gain is None else parameters[gain]
        )
        layer = name.removesuffix(".weight")
        if layer in specs:
            made = quantized_tensors(rotated.float(), specs[layer])
            tensors |= {f"{layer}.{key}": tensor for key, tensor in made.items()}
        else:
            tensors[name] = rotated if name.startswith("action_model.") else rotated.to(dtype)
    quantize_modules(shell, config)
    return _load(shell, tensors)


def weight_bytes(model: CogAct, shared_with: CogAct | None = None) -> int:
    """Of all its tensors, each once; with another model, of those that both have."""
    tensors = _storages(model)
    if shared_with is not None:
        other = _storages(shared_with)
        tensors = {address: size for address, size in tensors.items() if address in other}
    return sum(tensors.values())


def _storages(model: CogAct) -> dict[int, int]:
    return {tensor.data_ptr(): tensor.nbytes for tensor in (*model.parameters(), *model.buffers())}


def fast_dtype(device: torch.device) -> torch.dtype:
    """What a device multiplies fastest in floating point: bfloat16 on GPUs and on CPUs with instructions for it."""
    if device.type != "cpu" or torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported():
        return torch.bfloat16
    return torch.float32


def _load(model: CogAct, tensors: dict[str, Tensor]) -> CogAct:
    model.load_state_dict(tensors, assign=True)
    return model.eval().requires_grad_(False)
