# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Triton: four-bit weights unpacked in registers, int8 tensor cores, scales, bias and dtype in the epilogue.

Runs on every GPU with int8 tensor cores (compute capability 7.5 and up). Weights are read packed, so the memory traffic
is that of four bits; products run at int8 rate. A packed byte holds inputs 2 j and 2 j + 1, so a tile of weights is
two tiles, of the even and the odd inputs, and the activations are loaded as two tiles likewise: nothing is interleaved.

    C[m, n] = sum_j x[m, 2 j] w[n, 2 j] + sum_j x[m, 2 j + 1] w[n, 2 j + 1]

Programs are ordered so that neighbours share weights: with some 300 rows, all row tiles of one column tile come one
after another, and a weight is read from memory once.

Triton's interpreter (TRITON_INTERPRET=1) runs the same kernels on the CPU, which is how they are tested without a GPU.
"""

from __future__ import annotations

import functools
import importlib
from types import ModuleType

import torch
from torch import Tensor

from sqap_vla.quantization.backends import Backend
from sqap_vla.quantization.packing import IntegerWeight
from sqap_vla.quantization.quantizer import ActivationSpec, Granularity, QuantizedInput


class TritonBackend(Backend):
    name = "triton"

    def unavailable(self, device: torch.device) -> str | None:
        if device.type != "cuda":
            return f"Triton compiles for GPUs, not for {device.type}"
        if torch.cuda.get_device_capability(device) < (7, 5):
            return "int8 tensor cores came with compute capability 7.5"
        try:
            _kernels()
        except ImportError as error:  # it comes with CUDA builds of torch for Linux, and with no other
            return f"the package triton cannot be imported: {error}"
        return None

    def accumulate(self, x: Tensor, weight: IntegerWeight, input_bits: int = 8) -> Tensor:
        sums = torch.empty(x.shape[0], weight.outputs, dtype=torch.int32, device=x.device)
        _kernels().launch_gemm(sums, x, weight, None, None, None)
        return sums

    def quantize(self, x: Tensor, spec: ActivationSpec, channel_scale: Tensor | None = None) -> QuantizedInput:
        if spec.granularity is Granularity.TENSOR:
            return super().quantize(x, spec, channel_scale)
        rows = x.reshape(-1, x.shape[-1])
        return QuantizedInput(*_kernels().launch_quantize(rows, spec.bits, spec.clip_ratio, channel_scale), spec.bits)

    def linear(
        self,
        x: QuantizedInput,
        weight: IntegerWeight,
        weight_scale: Tensor,
        bias: Tensor | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        if weight_scale.shape[1] > 1:
            return super().linear(x, weight, weight_scale, bias, dtype)
        y = torch.empty(x.values.shape[0], weight.outputs, dtype=dtype, device=x.values.device)
        _kernels().launch_gemm(y, x.values, weight, x.scale, weight_scale, bias)
        return y


@functools.lru_cache(maxsize=1)
def _kernels() -> ModuleType:
    """Imported when first needed: Triton takes a while. Raises ImportError where it is missing."""
    return importlib.import_module("sqap_vla.quantization.backends.triton_kernels")
