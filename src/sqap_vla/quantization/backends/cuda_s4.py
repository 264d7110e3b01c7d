# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Native four-bit tensor cores (kernels/s4_gemm.cu): twice the rate of int8, on NVIDIA's Ampere and Ada only.

That is A100 (8.0), RTX 30 and A40 (8.6), Jetson Orin (8.7), RTX 40 and L40S (8.9). Hopper and later have none. Compiled
by nvcc at first use; without nvcc the backend is absent, and the int8 tensor cores do the work. It is for w4a4 where
rows are whole 16-byte pieces (K divides by 32); anything else goes to the Triton backend, or int8.
"""

from __future__ import annotations

import ctypes
import functools
import os
from pathlib import Path

import torch
from torch import Tensor

from sqap_vla.quantization.backends import Backend
from sqap_vla.quantization.backends.compiled import BuildError, build, find_compiler
from sqap_vla.quantization.backends.int8 import Int8Backend
from sqap_vla.quantization.backends.triton_w4a4 import TritonBackend
from sqap_vla.quantization.online import InputRotation
from sqap_vla.quantization.packing import IntegerWeight
from sqap_vla.quantization.quantizer import ActivationSpec, QuantizedInput

CAPABILITIES = ((8, 0), (8, 6), (8, 7), (8, 9))
SOURCE = "s4_gemm.cu"
EMULATION = ("-x", "c++", "-O2", "-std=c++17", "-fPIC", "-shared", "-DSQAP_EMULATE")  # for tests, by a C++ compiler
_LARGE_TILE = (128, 128)
_POINTER, _INT, _LONG = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64
_ARGUMENTS = (
    _INT, _POINTER, _INT, _POINTER, _LONG, _POINTER, _POINTER, _LONG, _INT, _INT, _INT, _POINTER, _POINTER, _INT,
    _POINTER, _POINTER, _POINTER,
)  # fmt: skip


def nvcc_options(capability: tuple[int, int]) -> tuple[str, ...]:
    """For code of one compute capability."""
    number = f"{capability[0]}{capability[1]}"
    architecture = f"arch=compute_{number},code=sm_{number}"
    return ("-O3", "-std=c++17", "-shared", "-Xcompiler", "-fPIC", "-gencode", architecture)


def find_nvcc() -> str:
    """On the path, or where CUDA is usually installed. Raises BuildError if it is not there."""
    homes = [home for home in (os.environ.get("CUDA_HOME"), "/usr/local/cuda") if home]
    return find_compiler(("nvcc", *(str(Path(home) / "bin" / "nvcc") for home in homes)))


class CudaS4Backend(Backend):
    """emulated: the same indices on the CPU, for tests."""

    name = "cuda_s4"

    def __init__(self, emulated: bool = False) -> None:
        self._emulated = emulated

    def unavailable(self, device: torch.device) -> str | None:
        if device.type != "cuda":
            return f"four-bit tensor cores are NVIDIA's, not of {device.type}"
        capability = torch.cuda.get_device_capability(device)
        if capability not in CAPABILITIES:
            return f"compute capability {capability[0]}.{capability[1]} has no four-bit tensor cores"
        try:
            self._function(device)
        except BuildError as error:
            return str(error)
        return None

    def accumulate(self, x: Tensor, weight: IntegerWeight, input_bits: int = 8) -> Tensor:
        if not self._fits(x, weight, input_bits):
            return _other(x.device).accumulate(x, weight, input_bits)
        sums = torch.empty(x.shape[0], weight.outputs, dtype=torch.int32, device=x.device)
        self._launch(x, weight, sums=sums)
        return sums

    def quantize(self, x: Tensor, spec: ActivationSpec, channel_scale: Tensor | None = None) -> QuantizedInput:
        return _other(x.device).quantize(x, spec, channel_scale)

    def norm_quantize(self, x: Tensor, gain: Tensor, eps: float, spec: ActivationSpec) -> QuantizedInput:
        return _other(x.device).norm_quantize(x, gain, eps, spec)

    def rotate_quantize(self, x: Tensor, rotation: InputRotation, spec: ActivationSpec) -> QuantizedInput:
        return _other(x.device).rotate_quantize(x, rotation, spec)

    def gate_rotate_quantize(self, x: Tensor, rotation: InputRotation, spec: ActivationSpec) -> QuantizedInput:
        return _other(x.device).gate_rotate_quantize(x, rotation, spec)

    def linear(
        self,
        x: QuantizedInput,
        weight: IntegerWeight,
        weight_scale: Tensor,
        bias: Tensor | None = None,
        dtype: torch.dtype = torch.float32,
        residual: Tensor | None = None,
    ) -> Tensor:
        if not self._fits(x.values, weight, x.bits):
            return _other(x.values.device).linear(x, weight, weight_scale, bias, dtype, residual)
        if weight_scale.shape[1] > 1 or dtype not in (torch.float32, torch.bfloat16):
            return super().linear(x, weight, weight_scale, bias, dtype, residual)
        y = torch.empty(x.values.shape[0], weight.outputs, dtype=dtype, device=x.values.device)
        scales = (x.scale.float().contiguous(), weight_scale.float().contiguous())
        self._launch(x.values, weight, y, *scales, None if bias is None else bias.float().contiguous())
        return y if residual is None else y.add_(residual)

    def _fits(self, x: Tensor, weight: IntegerWeight, input_bits: int) -> bool:
        aligned = weight.data.stride(0) % 16 == 0 and weight.data.data_ptr() % 16 == 0
        return weight.bits == 4 and input_bits == 4 and weight.inputs % 32 == 0 and aligned and x.stride(1) == 1

    def _launch(
        self,
        x: Tensor,
        weight: IntegerWeight,
        y: Tensor | None = None,
        x_scale: Tensor | None = None,
        w_scale: Tensor | None = None,
        bias: Tensor | None = None,
        sums: Tensor | None = None,
    ) -> None:
        rows, device = x.shape[0], x.device
        packed = torch.empty(rows, weight.inputs // 2, dtype=torch.uint8, device=device)
        tensors = (x_scale, w_scale, bias)
        error = self._function(device)(
            0 if device.index is None else device.index,
            None if self._emulated else torch.cuda.current_stream(device).cuda_stream,
            _large_tiles_fill(rows, weight.outputs, device),
            x.data_ptr(), x.stride(0), packed.data_ptr(), weight.data.data_ptr(), weight.data.stride(0),
            rows, weight.outputs, weight.inputs,
            None if sums is None else sums.data_ptr(), None if y is None else y.data_ptr(),
            y is not None and y.dtype == torch.bfloat16,
            *(None if tensor is None else tensor.data_ptr() for tensor in tensors),
        )  # fmt: skip
        if error:
            raise RuntimeError(f"the four-bit kernel did not start: CUDA error {error}")

    def _function(self, device: torch.device) -> ctypes._CFuncPtr:
        if self._emulated:
            library = build(SOURCE, find_compiler(("g++", "clang++")), EMULATION)
        else:
            library = build(SOURCE, find_nvcc(), nvcc_options(torch.cuda.get_device_capability(device)))
        library.sqap_s4.argtypes = _ARGUMENTS
        return library.sqap_s4


def _large_tiles_fill(rows: int, outputs: int, device: torch.device) -> bool:
    """Whether large tiles, which read less, still give every multiprocessor two blocks."""
    tiles = -(-rows // _LARGE_TILE[0]) * -(-outputs // _LARGE_TILE[1])
    return tiles >= 2 * _multiprocessors(device)


@functools.lru_cache(maxsize=16)
def _multiprocessors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1


@functools.lru_cache(maxsize=16)
def _other(device: torch.device) -> Backend:
    """What runs what this does not."""
    candidates = (TritonBackend(planar=False), Int8Backend())
    return next(backend for backend in candidates if backend.unavailable(device) is None)
