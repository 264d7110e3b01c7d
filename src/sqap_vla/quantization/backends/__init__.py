# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Integer matrix products, each backend for one kind of device; registry.py chooses.

A backend multiplies integers exactly: `accumulate` gives the int32 sums, and they are the same to the last bit in all
of them. Everything else is shared, in `Backend.linear`: the sums become float32 and are multiplied by the scales, in
one order, then the bias is added. A backend whose kernel does that on the fly overrides `linear` too.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from sqap_vla.quantization.packing import IntegerWeight
from sqap_vla.quantization.quantizer import ActivationSpec, QuantizedInput, quantize_input


class Backend(ABC):
    """name: as parameters and logs have it."""

    name: str

    @abstractmethod
    def unavailable(self, device: torch.device) -> str | None:
        """Why it cannot run there; None if it can."""

    @abstractmethod
    def accumulate(self, x: Tensor, weight: IntegerWeight, input_bits: int = 8) -> Tensor:
        """x int8 [M, K], weight [N, K] -> int32 [M, N], exactly x times the weight transposed.

        x is in [-127, 127], with input_bits 4 in [-7, 7], which a backend may make use of. With IntegerWeight's limit
        on K no sum overflows.
        """

    def quantize(self, x: Tensor, spec: ActivationSpec, channel_scale: Tensor | None = None) -> QuantizedInput:
        """Activations [..., K] as integers: quantizer.quantize_input, or a kernel that does the same."""
        return quantize_input(x, spec, channel_scale)

    def linear(
        self,
        x: QuantizedInput,
        weight: IntegerWeight,
        weight_scale: Tensor,
        bias: Tensor | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        """x [M, K], weight [N, K], its scales [N, G], bias [N] -> [M, N] of `dtype`, computed in float32.

        With groups, each has its accumulators, and their scaled sums are added in order.
        """
        groups = weight_scale.shape[1]
        scales = weight_scale.float().t()  # [G, N]
        if groups == 1:
            total = self.accumulate(x.values, weight, x.bits).float().mul_(scales)  # [M, N]
        else:
            size = weight.inputs // groups
            total = torch.zeros(x.values.shape[0], weight.outputs, device=x.values.device)
            for group in range(groups):
                start, stop = group * size, (group + 1) * size
                sums = self.accumulate(x.values[:, start:stop], weight.columns(start, stop), x.bits)
                total += sums.float().mul_(scales[group])
        total.mul_(x.scale)
        if bias is not None:
            total += bias
        return total.to(dtype)
