# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""One axis of resize.py as one GPU kernel, in place of eight operations on every tap of every pixel."""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _resize(
    out_ptr, in_ptr, index_ptr, weights_ptr, length, size, taps,
    INNER: tl.constexpr, FRACTION_BITS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """in [outer, length, INNER] -> out [outer, size, INNER]; one program makes BLOCK values of one outer index."""
    outer = tl.program_id(0).to(tl.int64)
    place = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = place < size * INNER
    output, inner = place // INNER, place % INNER
    first = tl.load(index_ptr + output * taps, mask=inside, other=0).to(tl.int32)
    sums = tl.full((BLOCK,), 1 << (FRACTION_BITS - 1), tl.int32)
    for tap in range(taps):
        pixel = first + tap
        weight = tl.load(weights_ptr + output * taps + tap, mask=inside, other=0)
        at = in_ptr + outer * length * INNER + pixel * INNER + inner
        sums += tl.load(at, mask=inside & (pixel < length), other=0).to(tl.int32) * weight
    value = tl.minimum(tl.maximum(sums >> FRACTION_BITS, 0), 255)
    tl.store(out_ptr + outer * size * INNER + place, value.to(tl.uint8), mask=inside)


def resize_axis_kernel(pictures: Tensor, axis: int, index: Tensor, weights: Tensor, fraction_bits: int) -> Tensor:
    """uint8 with one axis of `length` -> of `size`. index int64, ascending by one along taps while weights are not 0,
    and weights int32, both [size, taps]: see resize._taps."""
    pictures, (size, taps) = pictures.contiguous(), index.shape
    shape = pictures.shape
    out = torch.empty(*shape[:axis], size, *shape[axis + 1 :], dtype=torch.uint8, device=pictures.device)
    outer, inner, block = math.prod(shape[:axis]), math.prod(shape[axis + 1 :]), 256
    _resize[(outer, triton.cdiv(size * inner, block))](
        out, pictures, index, weights, shape[axis], size, taps,
        INNER=inner, FRACTION_BITS=fraction_bits, BLOCK=block, num_warps=4,
    )  # fmt: skip
    return out
