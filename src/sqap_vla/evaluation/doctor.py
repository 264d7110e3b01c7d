# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""What this machine can do: devices, backends with the reason for and against each, and whether compression pays.

One linear layer of the decoder's (4096 x 4096) is measured on each device: in floating point and by every backend. The
decoder consists of such layers, so their ratio says what to expect of the whole; `sqap-vla bench` measures that.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import psutil
import torch
from torch.nn import functional as F

from sqap_vla.cogact.config import official_config
from sqap_vla.cogact.layout import build_on_meta
from sqap_vla.evaluation.environment import clocks, hardware
from sqap_vla.quantization.backends import Backend
from sqap_vla.quantization.backends.registry import BackendError, backends, examine_backend, select_backend
from sqap_vla.quantization.packing import IntegerWeight, pack_int4
from sqap_vla.quantization.quantizer import ActivationSpec, quantize_input

WIDTH = 4096
RUNS = 3
GIB = 2**30


@dataclass(frozen=True)
class BackendFinding:
    """reason: why it does not run, '' where it does. ms: of one layer, input quantized within."""

    name: str
    reason: str
    ms: float | None


@dataclass(frozen=True)
class DeviceFinding:
    """float_ms: one layer in each dtype. chosen: the backend that would be used, None where none runs."""

    device: str
    memory_gib: float
    float_ms: dict[str, float]
    backends: tuple[BackendFinding, ...]
    chosen: str | None

    @property
    def speedup(self) -> float | None:
        """Of the chosen backend over the fastest floating point."""
        ms = next((each.ms for each in self.backends if each.name == self.chosen), None)
        return min(self.float_ms.values()) / ms if ms else None

    @property
    def warnings(self) -> tuple[str, ...]:
        found = []
        if self.chosen is None:
            found.append("no integer backend runs here: only the dense model can be used on this device")
        elif self.speedup is not None and self.speedup < 1:
            found.append(
                f"the compressed model would be SLOWER than the dense one here ({self.speedup:.2f}x per layer); it "
                "saves memory all the same, and token pruning helps both. For speed, run the dense network with pruning"
            )
        need = dense_gib()
        if need["bfloat16"] > self.memory_gib > need["w4a4"]:
            found.append(f"the dense network ({need['bfloat16']:.1f} GiB) does not fit, the compressed one does")
        elif self.memory_gib < need["w4a4"]:
            found.append(f"not even the compressed network ({need['w4a4']:.1f} GiB and activations) fits into memory")
        return tuple(found)


def examine(tokens: int = 282) -> list[DeviceFinding]:
    """The CPU and, where torch sees one, the CUDA device. Takes some seconds. Raises ValueError for tokens below 1."""
    if tokens < 1:
        raise ValueError(f"tokens is {tokens}; a product has at least one row")
    devices = [torch.device("cpu")]
    if torch.cuda.is_available():
        devices.insert(0, torch.device("cuda"))
    return [_examine_device(device, tokens) for device in devices]


def dense_gib() -> dict[str, float]:
    """Weights of CogACT-Base, dense and compressed, GiB."""
    model = build_on_meta(official_config())
    total = sum(parameter.numel() for parameter in model.parameters())
    decoder = sum(p.numel() for name, p in model.decoder.layers.named_parameters() if name.endswith("proj.weight"))
    head = sum(parameter.numel() for parameter in model.action_model.parameters())
    rest = 2 * (total - head - decoder) + 4 * head
    return {"bfloat16": (rest + 2 * decoder) / GIB, "w4a4": (rest + decoder / 2) / GIB}


@torch.inference_mode()
def _examine_device(device: torch.device, tokens: int) -> DeviceFinding:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(tokens, WIDTH, generator=generator)
    values = torch.randint(-7, 8, (WIDTH, WIDTH), generator=generator, dtype=torch.int8)
    weight = IntegerWeight(pack_int4(values).to(device), 4)
    scale = torch.ones(WIDTH, 1, device=device)
    float_ms = {}
    for dtype in (torch.float32, torch.bfloat16):
        a, b = x.to(device, dtype), values.to(device, dtype)
        float_ms[str(dtype).removeprefix("torch.")] = _time(lambda a=a, b=b: F.linear(a, b), device)
    findings = []
    for backend in backends():
        reason = examine_backend(backend, device)
        ms = None
        if not reason and backend.name != "reference":
            ms = _time(lambda backend=backend: _layer(backend, x.to(device), weight, scale), device)
        findings.append(BackendFinding(backend.name, reason or "", ms))
    try:
        chosen = select_backend(device).name
    except BackendError:
        chosen = None
    free = torch.cuda.mem_get_info(device)[1] if device.type == "cuda" else psutil.virtual_memory().total
    return DeviceFinding(str(device), free / GIB, float_ms, tuple(findings), chosen)


def _layer(backend: Backend, x: torch.Tensor, weight: IntegerWeight, scale: torch.Tensor) -> None:
    backend.linear(quantize_input(x, ActivationSpec(4)), weight, scale, None, torch.bfloat16)


def _time(run: Callable[[], object], device: torch.device) -> float:
    """The fastest of some runs, ms."""
    run()
    best = float("inf")
    for _ in range(RUNS):
        _wait(device)
        started = time.perf_counter()
        run()
        _wait(device)
        best = min(best, 1e3 * (time.perf_counter() - started))
    return best


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def format_findings(findings: list[DeviceFinding]) -> str:
    lines = [hardware(), *clocks(), ""]
    for finding in findings:
        lines.append(f"{finding.device}: {finding.memory_gib:.0f} GiB")
        lines += [f"  dense layer in {name:<10}{ms:9.2f} ms" for name, ms in finding.float_ms.items()]
        for backend in finding.backends:
            state = backend.reason or (f"{backend.ms:9.2f} ms" if backend.ms is not None else "the definition, slow")
            mark = "->" if backend.name == finding.chosen else "  "
            lines.append(f"  {mark} w4a4 by {backend.name:<12}{state}")
        if finding.speedup is not None:
            lines.append(f"  backend {finding.chosen}: {finding.speedup:.2f}x the fastest dense layer")
        lines += [f"  WARNING: {warning}" for warning in finding.warnings]
        lines.append("")
    need = dense_gib()
    lines.append(
        f"CogACT-Base weighs {need['bfloat16']:.1f} GiB dense and {need['w4a4']:.1f} GiB compressed. Measured: one "
        f"layer of {WIDTH} x {WIDTH}; `sqap-vla bench` measures the whole."
    )
    return "\n".join(lines)
