# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""x86 kernels of our own (kernels/cpu_gemm.cpp): AVX-512 VNNI, AVX-VNNI or AVX2, whichever the processor has.

Four-bit weights stay packed; they are widened in pieces that stay in the cache, once for each call, which costs less
than a tenth of the product from 64 tokens on. Scales, bias and the conversion to the caller's dtype are part of the
product.
"""

from __future__ import annotations

import ctypes
import functools
import platform

import torch
from torch import Tensor

from sqap_vla.quantization.backends import Backend
from sqap_vla.quantization.backends.compiled import BuildError, build, find_compiler
from sqap_vla.quantization.packing import IntegerWeight
from sqap_vla.quantization.quantizer import QuantizedInput

OPTIONS = ("-O3", "-march=native", "-std=c++17", "-fPIC", "-shared", "-fopenmp", "-ffp-contract=off")
PORTABLE = "-DSQAP_PORTABLE_DOT"  # for tests: the layout of AVX-512 VNNI, without its instruction
_POINTER, _INT, _LONG = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64


class SimdBackend(Backend):
    """extra_options: for the compiler."""

    name = "simd"

    def __init__(self, extra_options: tuple[str, ...] = ()) -> None:
        self._options = (*OPTIONS, *extra_options)

    def unavailable(self, device: torch.device) -> str | None:
        if device.type != "cpu":
            return f"it is for the CPU, not for {device.type}"
        if platform.machine() not in ("x86_64", "AMD64"):
            return f"it is for x86, not for {platform.machine()}"
        if torch.backends.cpu.get_cpu_capability() in ("DEFAULT", "NO AVX"):
            return "the processor has no AVX2"
        try:
            self._library  # noqa: B018
        except BuildError as error:
            return str(error)
        return None

    @property
    def instructions(self) -> str:
        """What it was compiled for, such as 'AVX2'. Raises BuildError if it cannot be compiled."""
        return self._library.sqap_isa().decode()

    def accumulate(self, x: Tensor, weight: IntegerWeight, input_bits: int = 8) -> Tensor:
        sums = torch.empty(x.shape[0], weight.outputs, dtype=torch.int32)
        x = _rows(x)
        data = _rows(weight.data)
        self._library.sqap_accumulate(
            sums.data_ptr(), x.data_ptr(), x.stride(0), *x.shape, data.data_ptr(), data.stride(0), weight.outputs,
            weight.bits,
        )  # fmt: skip
        return sums

    def linear(
        self,
        x: QuantizedInput,
        weight: IntegerWeight,
        weight_scale: Tensor,
        bias: Tensor | None = None,
        dtype: torch.dtype = torch.float32,
        residual: Tensor | None = None,
    ) -> Tensor:
        if weight_scale.shape[1] > 1 or dtype not in (torch.float32, torch.bfloat16):
            return super().linear(x, weight, weight_scale, bias, dtype, residual)
        y = torch.empty(x.values.shape[0], weight.outputs, dtype=dtype)
        values, data, input_scale = _rows(x.values), _rows(weight.data), x.scale.float().contiguous()
        scale = weight_scale.float().contiguous()
        bias = None if bias is None else bias.float().contiguous()
        self._library.sqap_linear(
            y.data_ptr(), dtype == torch.bfloat16, values.data_ptr(), values.stride(0), input_scale.data_ptr(),
            *values.shape, data.data_ptr(), data.stride(0), scale.data_ptr(),
            None if bias is None else bias.data_ptr(), weight.outputs, weight.bits,
        )  # fmt: skip
        return y if residual is None else y.add_(residual)

    @functools.cached_property
    def _library(self) -> ctypes.CDLL:
        library = build("cpu_gemm.cpp", find_compiler(("g++", "clang++")), self._options)
        library.sqap_isa.restype = ctypes.c_char_p
        library.sqap_accumulate.argtypes = (
            _POINTER, _POINTER, _LONG, _LONG, _LONG, _POINTER, _LONG, _LONG, _INT,
        )  # fmt: skip
        library.sqap_accumulate.restype = None
        library.sqap_linear.argtypes = (
            _POINTER, _INT, _POINTER, _LONG, _POINTER, _LONG, _LONG, _POINTER, _LONG, _POINTER, _POINTER, _LONG, _INT,
        )  # fmt: skip
        library.sqap_linear.restype = None
        return library


def _rows(x: Tensor) -> Tensor:
    """A matrix whose rows are consecutive bytes, as it is or copied."""
    return x if x.stride(1) == 1 or x.shape[1] == 1 else x.contiguous()
