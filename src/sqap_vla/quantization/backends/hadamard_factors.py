# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""A Hadamard transform as two small products with matrices of +-1, as the GPU kernel does it (triton_rotation.py)."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from sqap_vla.quantization.hadamard import hadamard_matrix, split

LARGEST_LEFT = 256
LARGEST_ACROSS = 128
SMALLEST_DOT = 16  # tl.dot takes no fewer rows, columns or inputs


@dataclass(frozen=True)
class Factors:
    """A transform of rows * columns values as H_rows X H_columns. columns 1: no right factor; then `width` values lie
    side by side that are not mixed, and X is [rows, width]."""

    rows: int
    columns: int
    width: int

    @property
    def fits(self) -> bool:
        """Whether a kernel takes it."""
        power_of_two = self.width & (self.width - 1) == 0
        narrow = (2 if self.columns == 1 else 1) * SMALLEST_DOT  # across, half of them are multiplied at a time
        rows = LARGEST_ACROSS if self.columns == 1 else LARGEST_LEFT
        return self.rows <= rows and power_of_two and narrow <= self.width <= 128


def factors_of(size: int, stride: int) -> Factors | None:
    """Of T_size on one axis (online.InputRotation); None for lengths whose transform is in blocks."""
    blocks, m, power = split(size)
    if blocks > 1:
        return None
    if stride > 1:
        return Factors(size, 1, stride)
    columns = min(power, 64)
    return Factors(m * (power // columns), columns, columns)


@functools.lru_cache(maxsize=32)
def left_factor(rows: int, padded: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """[padded, padded], zeros around H_rows: read without masks, in whole words."""
    return _placed(F.pad(_signs(rows), (0, padded - rows, 0, padded - rows)), dtype, device)


@functools.lru_cache(maxsize=32)
def right_factor(columns: int, planar: bool, dtype: torch.dtype, device: torch.device) -> Tensor:
    """H_columns; planar: with its even columns first, so that integers come in the order in which they are written."""
    matrix = _signs(columns)
    return _placed(torch.cat([matrix[:, ::2], matrix[:, 1::2]], dim=1) if planar else matrix, dtype, device)


def _signs(rows: int) -> Tensor:
    """The matrix of +-1 whose transform `hadamard.transform` is, up to its factor: H_m (x) H_power."""
    _, m, power = split(rows)
    return torch.kron(hadamard_matrix(m), hadamard_matrix(power))


def _placed(matrix: Tensor, dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # it outlives the call, and may be used outside of inference mode later
        return matrix.to(device=device, dtype=dtype).contiguous()
