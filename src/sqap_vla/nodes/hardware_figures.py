# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""What the model takes, and how busy the GPU is, as figures for ~/status."""

from __future__ import annotations

import functools
from collections import Counter
from typing import Any

import torch
from torch import nn

from sqap_vla.cogact.model import CogAct
from sqap_vla.quantization.backends.registry import select_backend
from sqap_vla.quantization.linear import QuantizedLinear

BF16_BYTES = 2


def compression_figures(model: CogAct) -> dict[str, str]:
    """Precision of the decoder's linear layers, their bytes, and what the same layers take in bfloat16."""
    layers = list(model.decoder.layers.modules())
    quantized = [layer for layer in layers if isinstance(layer, QuantizedLinear)]
    floats = [layer for layer in layers if type(layer) is nn.Linear]
    counts = Counter(layer.spec.precision.value for layer in quantized)
    if floats:
        counts[str(floats[0].weight.dtype).removeprefix("torch.")] = len(floats)
    weights = sum(layer.in_features * layer.out_features for layer in (*quantized, *floats))
    held = sum(tensor.numel() * tensor.element_size() for layer in quantized for tensor in layer.buffers())
    held += sum(tensor.numel() * tensor.element_size() for layer in floats for tensor in layer.parameters())
    backends = {select_backend(model.device, layer.backend).name for layer in quantized}
    return {
        "model/precision": ", ".join(f"{name} {count} layers" for name, count in counts.most_common()),
        "model/backend": ", ".join(sorted(backends)) or "float",
        "model/decoder_mb": f"{held / 1e6:.1f}",
        "model/decoder_bf16_mb": f"{weights * BF16_BYTES / 1e6:.1f}",
    }


def gpu_figures(device: torch.device) -> dict[str, str]:
    """Memory that torch holds on the GPU and, where NVML knows the device (nvidia-ml-py; not on a Jetson), what all
    processes take of it. Empty on the CPU."""
    if device.type != "cuda":
        return {}
    figures = {
        "memory/gpu_allocated_mb": f"{torch.cuda.memory_allocated(device) / 1e6:.0f}",
        "memory/gpu_peak_mb": f"{torch.cuda.max_memory_allocated(device) / 1e6:.0f}",
    }
    return figures | nvml_figures(str(torch.cuda.get_device_properties(device).uuid))


def nvml_figures(uuid: str) -> dict[str, str]:
    """uuid: of the device, without "GPU-". Empty where there is no NVML, or it does not know the device."""
    found = _nvml_device(uuid)
    if found is None:
        return {}
    nvml, device = found
    try:
        memory, rates = nvml.nvmlDeviceGetMemoryInfo(device), nvml.nvmlDeviceGetUtilizationRates(device)
        temperature = nvml.nvmlDeviceGetTemperature(device, nvml.NVML_TEMPERATURE_GPU)
    except nvml.NVMLError:  # a device that lacks one of them
        return {}
    return {
        "memory/gpu_used_mb": f"{memory.used / 1e6:.0f}",
        "memory/gpu_total_mb": f"{memory.total / 1e6:.0f}",
        "memory/gpu_utilization_percent": str(rates.gpu),
        "memory/gpu_temperature_c": str(temperature),
    }


@functools.lru_cache(maxsize=8)
def _nvml_device(uuid: str) -> tuple[Any, Any] | None:
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        return pynvml, pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
    except pynvml.NVMLError:
        return None
