# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The definition: int32 matrix product of torch on the CPU. Slow, and what every other backend must equal."""

from __future__ import annotations

import torch
from torch import Tensor

from sqap_vla.quantization.backends import Backend
from sqap_vla.quantization.packing import IntegerWeight


class ReferenceBackend(Backend):
    name = "reference"

    def unavailable(self, device: torch.device) -> str | None:
        return None if device.type == "cpu" else f"torch multiplies no int32 matrices on {device.type}"

    def accumulate(self, x: Tensor, weight: IntegerWeight, input_bits: int = 8) -> Tensor:
        return x.to(torch.int32) @ weight.values().to(torch.int32).t()  # [M, N]
