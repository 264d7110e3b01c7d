# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Pillow's bicubic resize of 8-bit pictures as tensor operations, equal to the last bit, on any device.

Pillow widens the bicubic kernel (a = -0.5) by the scale, so that shrinking averages; turns each output pixel's weights,
whose sum is 1, into integers of 22 fractional bits; and resizes rows first, then columns, rounding to 8 bits after
each. (From version 13 it begins with the columns where that is less work, so only pictures wider than high that shrink
are taken here, as a camera's do.) On CUDA with Triton each axis is one kernel.

Source: Pillow, src/libImaging/Resample.c (precompute_coeffs, normalize_coeffs_8bpc, ImagingResampleHorizontal_8bpc).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

_FRACTION_BITS = 22
_SUPPORT = 2.0  # of the bicubic kernel, in input pixels where nothing shrinks


def resize_pictures(pictures: Tensor, size: int) -> Tensor:
    """uint8 [B, H, W, C] -> uint8 [B, size, size, C]. Raises ValueError for a picture that is not `resizable`."""
    return _resizer(*pictures.shape[1:3], size, pictures.device)(pictures)


def resizable(height: int, width: int, size: int) -> bool:
    """Whether a picture of that size is resized here as Pillow does it."""
    return size <= height < width or height == width == size


class Resizer:
    """Resizes pictures of one size. Its tables stay where they are as long as it lives, as a CUDA graph needs. Raises
    ValueError for a size that is not `resizable`."""

    def __init__(self, height: int, width: int, size: int, device: torch.device) -> None:
        if not resizable(height, width, size):
            raise ValueError(f"a picture of {width}x{height} to {size}; it must be wider than high, and shrink")
        self._columns, self._rows = (_taps(length, size, device) for length in (width, height))

    def __call__(self, pictures: Tensor) -> Tensor:
        """uint8 [B, H, W, C] of that size, on that device -> uint8 [B, size, size, C]."""
        return _resize_axis(_resize_axis(pictures, 2, self._columns), 1, self._rows)


_resizer = functools.lru_cache(maxsize=8)(Resizer)


def _resize_axis(pictures: Tensor, axis: int, taps: tuple[Tensor, Tensor]) -> Tensor:
    index, weights = taps  # [size, taps]
    if pictures.shape[axis] == len(index):
        return pictures
    if pictures.is_cuda and (kernel := _kernel()) is not None:
        return kernel(pictures, axis, index, weights, _FRACTION_BITS)
    gathered = pictures.index_select(axis, index.flatten()).unflatten(axis, index.shape)
    weights = weights.view(*[1] * axis, *weights.shape, *[1] * (pictures.dim() - 1 - axis))
    # Weights sum to 2^22 and their magnitudes to less than twice that: 255 times it fits 32 bits, as in Pillow.
    sums = (gathered * weights).sum(dim=axis + 1, dtype=torch.int32)
    return ((sums + (1 << (_FRACTION_BITS - 1))) >> _FRACTION_BITS).clamp_(0, 255).to(torch.uint8)


@functools.lru_cache(maxsize=1)
def _kernel() -> Callable[[Tensor, int, Tensor, Tensor, int], Tensor] | None:
    try:
        from sqap_vla.cogact.resize_kernel import resize_axis_kernel
    except ImportError:  # Triton comes with CUDA builds of torch for Linux, and with no other
        return None
    return resize_axis_kernel


def _taps(length: int, size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Which input pixels each output pixel is made of, int64 [size, taps], and how much of each, int32 [size, taps]."""
    scale = length / size
    widened = max(scale, 1.0)
    support = _SUPPORT * widened
    taps = math.ceil(support) * 2 + 1
    index = np.zeros((size, taps), np.int64)
    weights = np.zeros((size, taps), np.int32)
    for output in range(size):
        centre = (output + 0.5) * scale
        first = max(int(centre - support + 0.5), 0)
        last = min(int(centre + support + 0.5), length)
        shares = [_bicubic((pixel - centre + 0.5) * (1.0 / widened)) for pixel in range(first, last)]
        total = sum(shares)
        scaled = [share / total * (1 << _FRACTION_BITS) for share in shares]
        index[output, : len(shares)] = range(first, last)
        weights[output, : len(shares)] = [int(value - 0.5) if value < 0 else int(value + 0.5) for value in scaled]
    with torch.inference_mode(False):
        return torch.from_numpy(index).to(device), torch.from_numpy(weights).to(device)


def _bicubic(x: float) -> float:
    a, x = -0.5, abs(x)
    if x < 1.0:
        return ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    return (((x - 5.0) * x + 8.0) * x - 4.0) * a if x < 2.0 else 0.0
