# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Integer matrix products, each backend for one kind of device; registry.py chooses.

A backend multiplies integers exactly: `accumulate` gives the int32 sums, and they are the same to the last bit in all
of them. Everything else is shared, in `Backend.linear`: the sums become float32 and are multiplied by the scales, in
one order, then bias and residual are added. A backend whose kernel does that on the fly overrides `linear` too, and one
that normalises or rotates in the kernel that quantizes overrides those.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor
from torch.nn import functional as F

from sqap_vla.quantization.online import InputRotation
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

    def norm_quantize(self, x: Tensor, gain: Tensor, eps: float, spec: ActivationSpec) -> QuantizedInput:
        """RMSNorm of [..., K], then `quantize`. gain: [K]."""
        wide = x.float()
        wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
        return self.quantize(wide.to(x.dtype) * gain, spec)

    def rotate_quantize(self, x: Tensor, rotation: InputRotation | None, spec: ActivationSpec) -> QuantizedInput:
        """The transform of [..., K], if there is one, then `quantize`."""
        return self.quantize(x if rotation is None else rotation(x), spec)

    def gate_rotate_quantize(self, x: Tensor, rotation: InputRotation | None, spec: ActivationSpec) -> QuantizedInput:
        """silu(gate) * up of [..., 2 K], where they lie side by side, then `rotate_quantize`."""
        gate, up = x.chunk(2, dim=-1)
        return self.rotate_quantize(F.silu(gate) * up, rotation, spec)

    def linear(
        self,
        x: QuantizedInput,
        weight: IntegerWeight,
        weight_scale: Tensor,
        bias: Tensor | None = None,
        dtype: torch.dtype = torch.float32,
        residual: Tensor | None = None,
    ) -> Tensor:
        """x [M, K], weight [N, K], its scales [N, G], bias [N], residual [M, N] -> [M, N] of `dtype`, computed in
        float32.

        With groups, each has its accumulators, and their scaled sums are added in order.
        """
        x = x.in_order()
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
        if residual is not None:
            total += residual
        return total.to(dtype)
