# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Integer weights as they lie in memory and in files.

8 bits: int8 [N, K]. 4 bits: two's-complement nibbles, two in a byte, uint8 [N, K / 2]:

    byte j of a row:   bits 0-3   element 2 j          bits 4-7   element 2 j + 1

Elements of a row are consecutive, so a row read as little-endian words is what mma.sync.m16n8k64.s4 and CUTLASS's
int4b_t expect. -8 has a place in the format, though the quantizer never writes it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# With more inputs, 127 * 127 * inputs would not fit the int32 accumulators.
MAX_INPUTS = (2**31 - 1) // 127**2


def pack_int4(values: Tensor) -> Tensor:
    """int8 [..., K] in [-8, 7] -> uint8 [..., K / 2]. Raises ValueError for an odd K, another dtype or range."""
    if values.dtype != torch.int8 or values.shape[-1] % 2:
        raise ValueError(
            f"values are {values.dtype} with {values.shape[-1]} in a row; two int8 go into a byte, so there must be an "
            "even number (keep such a layer in 8 bits)"
        )
    if values.numel() and (values.min() < -8 or values.max() > 7):
        raise ValueError(f"values reach from {values.min()} to {values.max()}; four bits hold -8 to 7")
    even, odd = values[..., ::2], values[..., 1::2]
    return ((even & 15) | (odd << 4)).view(torch.uint8)


def unpack_int4(packed: Tensor) -> Tensor:
    """uint8 [..., K / 2] -> int8 [..., K] in [-8, 7]."""
    signed = packed.view(torch.int8)
    # Shifting int8 to the right copies the sign bit.
    return torch.stack([(signed << 4) >> 4, signed >> 4], dim=-1).flatten(-2)


@dataclass(frozen=True)
class IntegerWeight:
    """A weight matrix [N, K] of integers. data: as the module says. bits: 4 or 8."""

    data: Tensor
    bits: int

    def __post_init__(self) -> None:
        expected = {4: torch.uint8, 8: torch.int8}.get(self.bits)
        if self.data.dtype != expected or self.data.dim() != 2:
            raise ValueError(
                f"{self.bits} bits in {self.data.dtype} {list(self.data.shape)}; a weight has 4 bits in uint8 or 8 in "
                "int8, and two axes"
            )
        if self.inputs > MAX_INPUTS:
            raise ValueError(f"{self.inputs} inputs; sums over more than {MAX_INPUTS} overflow int32: split the layer")

    @classmethod
    def from_values(cls, values: Tensor, bits: int) -> IntegerWeight:
        """Of int8 [N, K]."""
        return cls(pack_int4(values) if bits == 4 else values.contiguous(), bits)

    @property
    def outputs(self) -> int:
        return self.data.shape[0]

    @property
    def inputs(self) -> int:
        return self.data.shape[1] * (2 if self.bits == 4 else 1)

    def values(self) -> Tensor:
        """int8 [N, K]."""
        return unpack_int4(self.data) if self.bits == 4 else self.data

    def columns(self, start: int, stop: int) -> IntegerWeight:
        """A view of inputs [start, stop), both even where there are 4 bits."""
        if self.bits == 8:
            return IntegerWeight(self.data[:, start:stop], self.bits)
        if start % 2 or stop % 2:
            raise ValueError(f"columns {start} to {stop} of nibbles; a byte holds two, so both must be even")
        return IntegerWeight(self.data[:, start // 2 : stop // 2], self.bits)
