# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Triton: four-bit weights unpacked in registers, int8 tensor cores, scales, bias, residual and dtype in the epilogue.

Runs on every GPU with int8 tensor cores (compute capability 7.5 and up). Weights are read packed, so the memory traffic
is that of four bits; products run at int8 rate (triton_kernels.py). What comes before a product - norm, gate, Hadamard
transform, quantization - is one kernel for each token (triton_rows.py, triton_rotation.py).

Triton's interpreter (TRITON_INTERPRET=1) runs the same kernels on the CPU, which is how they are tested without a GPU.
"""

from __future__ import annotations

import functools
import importlib
from types import ModuleType

import torch
from torch import Tensor

from sqap_vla.quantization.backends import Backend
from sqap_vla.quantization.backends.hadamard_factors import factors_of
from sqap_vla.quantization.online import InputRotation
from sqap_vla.quantization.packing import IntegerWeight
from sqap_vla.quantization.quantizer import ActivationSpec, Granularity, QuantizedInput


class TritonBackend(Backend):
    """planar: whether four-bit activations are written with their even columns first; for a product that is not this
    backend's own they must not be."""

    name = "triton"

    def __init__(self, planar: bool = True) -> None:
        self._planar = planar

    def unavailable(self, device: torch.device) -> str | None:
        if device.type != "cuda":
            return f"Triton compiles for GPUs, not for {device.type}"
        if torch.cuda.get_device_capability(device) < (7, 5):
            return "int8 tensor cores came with compute capability 7.5"
        try:
            _products(), _rows(), _rotation()
        except ImportError as error:  # it comes with CUDA builds of torch for Linux, and with no other
            return f"the package triton cannot be imported: {error}"
        return None

    def accumulate(self, x: Tensor, weight: IntegerWeight, input_bits: int = 8) -> Tensor:
        sums = torch.empty(x.shape[0], weight.outputs, dtype=torch.int32, device=x.device)
        _products().launch_gemm(sums, x, weight, None, None)
        return sums

    def quantize(self, x: Tensor, spec: ActivationSpec, channel_scale: Tensor | None = None) -> QuantizedInput:
        if spec.granularity is Granularity.TENSOR:
            return super().quantize(x, spec, channel_scale)
        rows, planar = x.reshape(-1, x.shape[-1]), self._writes_planar(spec, x.shape[-1])
        made = _rows().launch_quantize(rows, spec.bits, spec.clip_ratio, channel_scale, planar=planar)
        return QuantizedInput(*made, spec.bits, planar)

    def norm_quantize(self, x: Tensor, gain: Tensor, eps: float, spec: ActivationSpec) -> QuantizedInput:
        if spec.granularity is not Granularity.TOKEN:
            return super().norm_quantize(x, gain, eps, spec)
        rows, planar = x.reshape(-1, x.shape[-1]), self._writes_planar(spec, x.shape[-1])
        made = _rows().launch_quantize(rows, spec.bits, spec.clip_ratio, None, gain, eps, planar)
        return QuantizedInput(*made, spec.bits, planar)

    def rotate_quantize(self, x: Tensor, rotation: InputRotation | None, spec: ActivationSpec) -> QuantizedInput:
        return self._rotate(x, rotation, spec, False) or super().rotate_quantize(x, rotation, spec)

    def gate_rotate_quantize(self, x: Tensor, rotation: InputRotation | None, spec: ActivationSpec) -> QuantizedInput:
        return self._rotate(x, rotation, spec, True) or super().gate_rotate_quantize(x, rotation, spec)

    def linear(
        self,
        x: QuantizedInput,
        weight: IntegerWeight,
        weight_scale: Tensor,
        bias: Tensor | None = None,
        dtype: torch.dtype = torch.float32,
        residual: Tensor | None = None,
    ) -> Tensor:
        if weight_scale.shape[1] > 1:
            return super().linear(x, weight, weight_scale, bias, dtype, residual)
        y = torch.empty(x.values.shape[0], weight.outputs, dtype=dtype, device=x.values.device)
        _products().launch_gemm(y, x.values, weight, x.scale, weight_scale, bias, residual, x.planar)
        return y

    def _rotate(
        self, x: Tensor, rotation: InputRotation | None, spec: ActivationSpec, gated: bool
    ) -> QuantizedInput | None:
        """None where the kernel does not take it."""
        if rotation is None:
            return None
        factors = factors_of(rotation.size, rotation.stride)
        if spec.granularity is not Granularity.TOKEN or factors is None or not factors.fits:
            return None
        rows, planar = x.reshape(-1, x.shape[-1]), self._writes_planar(spec, rotation.size * rotation.stride)
        made = _rotation().launch_rotate_quantize(rows, factors, spec.bits, spec.clip_ratio, gated, planar)
        return QuantizedInput(*made, spec.bits, planar)

    def _writes_planar(self, spec: ActivationSpec, columns: int) -> bool:
        return self._planar and spec.bits == 4 and columns % 2 == 0


@functools.lru_cache(maxsize=1)
def _products() -> ModuleType:
    """Imported when first needed: Triton takes a while. Raises ImportError where it is missing."""
    return importlib.import_module("sqap_vla.quantization.backends.triton_kernels")


@functools.lru_cache(maxsize=1)
def _rows() -> ModuleType:
    """As `_products`."""
    return importlib.import_module("sqap_vla.quantization.backends.triton_rows")


@functools.lru_cache(maxsize=1)
def _rotation() -> ModuleType:
    """As `_products`."""
    return importlib.import_module("sqap_vla.quantization.backends.triton_rotation")
