# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""What the model takes, and how busy the GPU is, as figures for ~/status."""

from __future__ import annotations

import functools
from collections import Counter
from typing import Any

import torch

from sqap_vla.cogact.model import CogAct
from sqap_vla.evaluation.inspect_layers import stored_layers
from sqap_vla.quantization.backends.registry import select_backend
from sqap_vla.quantization.linear import QuantizedLinear


def compression_figures(model: CogAct) -> dict[str, str]:
    """Precision of the decoder's linear layers, their bytes, and what the same layers take in bfloat16."""
    stack = model.decoder.layers
    costs = stored_layers(stack)
    counts = Counter(cost.precision for cost in costs)
    quantized = [layer for layer in stack.modules() if isinstance(layer, QuantizedLinear)]
    backends = {select_backend(model.device, layer.backend).name for layer in quantized}
    return {
        "model/precision": ", ".join(f"{name} {count} layers" for name, count in counts.most_common()),
        "model/backend": ", ".join(sorted(backends)) or "float",
        "model/decoder_mb": f"{sum(cost.size_bytes for cost in costs) / 1e6:.1f}",
        "model/decoder_bf16_mb": f"{sum(cost.float_bytes for cost in costs) / 1e6:.1f}",
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
