# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""torch._int_mm: oneDNN's int8 product on the CPU (AVX-512 VNNI, AMX), cuBLASLt's on CUDA.

Four-bit weights are widened on the fly, in pieces that stay in the cache, so they are never held twice. They are not
unpacked to consecutive elements: the even columns (low nibbles) and the odd ones (high nibbles) go side by side, each
still 16 times too large, since shifting a low nibble up and masking a high one is cheaper than sign-extending and
interleaving them. The input's columns are put in the same order, and the sums are shifted down by 4, which loses
nothing.

On CUDA _int_mm wants more than 16 rows and multiples of 8 elsewhere; what is missing is filled up with zeros.

A CPU without VNNI has no such product, and torch's stand-in is ten to twenty times slower than one in float32 (AMD Zen
3). There the product is done in float32, which is exact: sums below 2^24 are whole numbers, whatever their order. So
many inputs at a time are summed as cannot reach that.

oneDNN's prepacked qlinear_pointwise is up to 15 % faster with unsigned activations, but returns float32, which does
not hold the accumulators of 8-bit weights exactly; with signed ones it took 30 s for one 4096 x 4096 layer.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor
from torch.nn import functional as F

from sqap_vla.quantization.backends import Backend
from sqap_vla.quantization.packing import IntegerWeight

_ROWS_AT_ONCE = 1024  # times 4096 inputs is 4 MB
_HIGH_NIBBLE = -16  # 0xF0
_CUDA_MIN_ROWS = 17
_EXACT_BELOW = 2**24  # whole numbers in float32


class Int8Backend(Backend):
    name = "int8"

    def unavailable(self, device: torch.device) -> str | None:
        if device.type not in ("cpu", "cuda"):
            return f"torch._int_mm does not run on {device.type}"
        if device.type == "cuda" and torch.cuda.get_device_capability(device) < (7, 5):
            return "int8 tensor cores came with compute capability 7.5"
        return None

    def accumulate(self, x: Tensor, weight: IntegerWeight, input_bits: int = 8) -> Tensor:
        if x.device.type == "cpu" and not has_vnni():
            return exact_float_mm(x, weight)
        if weight.bits == 8:
            return _int_mm(x, weight.data)
        x = torch.cat([x[:, ::2], x[:, 1::2]], dim=1)  # [M, K], even columns first
        sums = torch.empty(x.shape[0], weight.outputs, dtype=torch.int32, device=x.device)
        for start in range(0, weight.outputs, _ROWS_AT_ONCE):
            nibbles = weight.data[start : start + _ROWS_AT_ONCE].view(torch.int8)  # [n, K / 2]
            wide = torch.empty(nibbles.shape[0], weight.inputs, dtype=torch.int8, device=x.device)
            torch.bitwise_left_shift(nibbles, 4, out=wide[:, : weight.inputs // 2])
            torch.bitwise_and(nibbles, _HIGH_NIBBLE, out=wide[:, weight.inputs // 2 :])
            torch.bitwise_right_shift(_int_mm(x, wide), 4, out=sums[:, start : start + _ROWS_AT_ONCE])
        return sums


def _int_mm(x: Tensor, weight: Tensor) -> Tensor:
    """int8 [M, K], int8 [N, K] -> int32 [M, N]."""
    if x.device.type != "cuda":
        return torch._int_mm(x, weight.t())
    rows, inputs, outputs = *x.shape, weight.shape[0]
    x = F.pad(x, (0, -inputs % 8, 0, max(0, _CUDA_MIN_ROWS - rows)))
    weight = F.pad(weight, (0, -inputs % 8, 0, -outputs % 8))
    return torch._int_mm(x.contiguous(), weight.contiguous().t())[:rows, :outputs]


def exact_float_mm(x: Tensor, weight: IntegerWeight) -> Tensor:
    """int8 [M, K], weight [N, K] -> int32 [M, N] by float32 products, of as many inputs as leave every sum exact."""
    largest = max(1, int(x.abs().amax())) * 2 ** (weight.bits - 1)
    step = (_EXACT_BELOW - 1) // largest // 2 * 2
    sums = torch.zeros(x.shape[0], weight.outputs, dtype=torch.int32)
    for start in range(0, weight.inputs, step):
        stop = min(start + step, weight.inputs)
        wide = x[:, start:stop].float()
        columns = weight.columns(start, stop)
        for row in range(0, weight.outputs, _ROWS_AT_ONCE):
            piece = IntegerWeight(columns.data[row : row + _ROWS_AT_ONCE], weight.bits).values().float()
            sums[:, row : row + _ROWS_AT_ONCE] += (wide @ piece.t()).to(torch.int32)
    return sums


@functools.lru_cache(maxsize=1)
def has_vnni() -> bool:
    """Whether the CPU has the int8 instructions that oneDNN needs."""
    return torch.cpu._is_vnni_supported()
