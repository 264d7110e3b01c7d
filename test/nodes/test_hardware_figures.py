# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Figures of the model and the GPU. NVML is stood in for: what is asked of it, and what becomes of its answers."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace

import pytest
import torch

from sqap_vla.cogact.random_checkpoint import demo_config
from sqap_vla.evaluation.bench_models import random_model
from sqap_vla.nodes import hardware_figures
from sqap_vla.nodes.hardware_figures import compression_figures, gpu_figures, nvml_figures
from sqap_vla.quantization.policy import PrecisionPolicy, preset
from sqap_vla.quantization.quantize import quantize_model


class NVMLError(Exception):
    pass


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    module = ModuleType("pynvml")
    module.NVMLError, module.NVML_TEMPERATURE_GPU = NVMLError, 0
    module.nvmlInit = lambda: None
    module.nvmlDeviceGetHandleByUUID = lambda uuid: uuid
    module.nvmlDeviceGetMemoryInfo = lambda device: SimpleNamespace(used=3_000_000, total=8_000_000)
    module.nvmlDeviceGetUtilizationRates = lambda device: SimpleNamespace(gpu=57)
    module.nvmlDeviceGetTemperature = lambda device, sensor: {"GPU-0a": 61}[device]
    monkeypatch.setitem(sys.modules, "pynvml", module)
    hardware_figures._nvml_device.cache_clear()
    yield module
    hardware_figures._nvml_device.cache_clear()


def test_nvml_tells_use_memory_and_temperature_of_the_device(nvml: ModuleType):
    assert nvml_figures("0a") == {
        "memory/gpu_used_mb": "3",
        "memory/gpu_total_mb": "8",
        "memory/gpu_utilization_percent": "57",
        "memory/gpu_temperature_c": "61",
    }


@pytest.mark.parametrize("broken", ["nvmlInit", "nvmlDeviceGetHandleByUUID", "nvmlDeviceGetUtilizationRates"])
def test_without_nvml_there_are_no_figures_of_it(nvml: ModuleType, broken: str):
    def fails(*args: object) -> None:
        raise NVMLError("not supported")

    setattr(nvml, broken, fails)
    assert nvml_figures("0a") == {}


def test_the_package_may_be_missing(nvml: ModuleType, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert nvml_figures("0a") == {}


def test_a_cpu_has_no_figures():
    assert gpu_figures(torch.device("cpu")) == {}


def test_the_bytes_of_the_decoder_are_those_of_its_layers():
    config = demo_config()
    model = random_model(config, torch.bfloat16, torch.device("cpu"))
    linears = [layer for layer in model.decoder.layers.modules() if type(layer) is torch.nn.Linear]
    bf16_mb = sum(layer.weight.numel() for layer in linears) * 2 / 1e6
    figures = compression_figures(model)
    assert figures["model/precision"] == f"bfloat16 {len(linears)} layers" and figures["model/backend"] == "float"
    assert figures["model/decoder_mb"] == figures["model/decoder_bf16_mb"] == f"{bf16_mb:.1f}"

    quantize_model(model, preset("default", policy=PrecisionPolicy(precision="w8a8")), backend="reference")
    figures = compression_figures(model)
    assert figures["model/precision"] == f"w8a8 {len(linears)} layers" and figures["model/backend"] == "reference"
    assert bf16_mb / 2 < float(figures["model/decoder_mb"]) < 0.6 * bf16_mb
    assert figures["model/decoder_bf16_mb"] == f"{bf16_mb:.1f}"
