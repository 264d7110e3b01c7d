# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""A linear layer of integers: rotate the input, quantize it, multiply integers, scale.

Buffers, and so the state dict (no float copy of the weight is kept):

    weight          4 bits: uint8 [N, K / 2], see packing.py; 8 bits: int8 [N, K]
    weight_scale    float32 [N, 1]; with groups bfloat16 [N, G]
    channel_scale   float32 [K], only for granularity channel: what the input is divided by, folded into the weight
    bias            float [N], if the layer has one, or corrects what rounding the weight does to the mean of its output

`quantized_tensors` makes them of one float weight, for a converter that never builds the model; a layer made by the
constructor has them empty, to be loaded.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sqap_vla.quantization.backends.registry import AUTO, select_backend
from sqap_vla.quantization.online import InputRotation, RotatedLinear, SharedInput
from sqap_vla.quantization.packing import IntegerWeight
from sqap_vla.quantization.quantizer import (
    ActivationSpec,
    Granularity,
    Precision,
    QuantizedInput,
    WeightSpec,
    fold_input_scale,
    quantize_weight,
)


@dataclass(frozen=True)
class LinearSpec:
    """precision: w4a4, w4a8 or w8a8. granularity: of the activations. group_size, clip_search: of the weights.
    activation_clip: see ActivationSpec. bias_correction: whether there is a bias for it, see `quantized_tensors`.
    """

    precision: Precision
    granularity: Granularity = Granularity.TOKEN
    group_size: int | None = None
    clip_search: bool = True
    activation_clip: float = 1.0
    bias_correction: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "precision", Precision(self.precision))
        if not self.precision.is_quantized:
            raise ValueError(f"precision {self.precision.value} is no integer format; leave such a layer as it is")
        object.__setattr__(self, "granularity", self.activation.granularity)
        assert self.weight  # validated by being built

    @property
    def weight(self) -> WeightSpec:
        return WeightSpec(self.precision.weight_bits, self.group_size, self.clip_search)

    @property
    def activation(self) -> ActivationSpec:
        return ActivationSpec(self.precision.activation_bits, self.granularity, self.activation_clip)


def quantized_tensors(
    weight: Tensor,
    spec: LinearSpec,
    bias: Tensor | None = None,
    channel_scale: Tensor | None = None,
    input_mean: Tensor | None = None,
) -> dict[str, Tensor]:
    """The buffers of a QuantizedLinear from its float weight [N, K], rotated if the input will be.

    channel_scale: float32 [K], for granularity channel (quantizer.channel_scale). input_mean: float32 [K], the mean
    input on calibration frames, for bias_correction: what rounding the weight takes from the mean output,
    (W - W_q) mean, is added to the bias (Nagel et al., Data-free quantization, arXiv 1906.04721, section 4.2). Raises
    ValueError if one is missing or not wanted, or if the weight cannot be quantized.
    """
    _check_calibration("channel scales", channel_scale, spec.granularity is Granularity.CHANNEL, spec)
    _check_calibration("input means", input_mean, spec.bias_correction, spec)
    wide = weight if channel_scale is None else fold_input_scale(weight, channel_scale)
    quantized = quantize_weight(wide, spec.weight)
    integers = IntegerWeight.from_values(quantized.values, spec.precision.weight_bits)
    tensors = {"weight": integers.data, "weight_scale": quantized.scale}
    if channel_scale is not None:
        tensors["channel_scale"] = channel_scale.float()
    if input_mean is not None:
        mean = input_mean if channel_scale is None else input_mean / channel_scale
        correction = (wide.float() - quantized.dequantize()) @ mean.float()  # [N]
        bias = correction if bias is None else (bias.float() + correction).to(bias.dtype)
    if bias is not None:
        tensors["bias"] = bias
    return tensors


class QuantizedLinear(nn.Module):
    """y = W x + b in integers. Input and output [..., K] -> [..., N] keep the caller's dtype."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        spec: LinearSpec,
        rotation: InputRotation | None = None,
        bias: bool = False,
        shared: SharedInput[QuantizedInput] | None = None,
        backend: str = AUTO,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        """shared: one for all layers that read the same tensor with the same rotation, bits and scales. backend: name
        in backends/registry.py. bias, dtype: of the float layer; a bias that only corrects is float32. Raises
        ValueError for sizes that `spec` does not allow.
        """
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.spec, self.rotation, self.backend = spec, rotation, backend
        self.shared = SharedInput() if shared is None else shared
        bits, groups = spec.precision.weight_bits, _groups(in_features, spec)
        columns = in_features // 2 if bits == 4 else in_features
        integer = torch.uint8 if bits == 4 else torch.int8
        scale_shape = (out_features, groups)
        self.register_buffer("weight", torch.empty(out_features, columns, dtype=integer, device=device))
        self.register_buffer("weight_scale", torch.empty(scale_shape, dtype=spec.weight.scale_dtype, device=device))
        by_channel = spec.granularity is Granularity.CHANNEL
        self.register_buffer("channel_scale", torch.empty(in_features, device=device) if by_channel else None)
        dtype = dtype if bias else torch.float32
        has_bias = bias or spec.bias_correction
        self.register_buffer("bias", torch.empty(out_features, device=device, dtype=dtype) if has_bias else None)

    @classmethod
    def from_float(
        cls,
        linear: nn.Linear,
        spec: LinearSpec,
        channel_scale: Tensor | None = None,
        input_mean: Tensor | None = None,
        shared: SharedInput[QuantizedInput] | None = None,
        backend: str = AUTO,
    ) -> QuantizedLinear:
        """Of a float layer; the rotation of a RotatedLinear stays. Raises ValueError as `quantized_tensors`."""
        rotation = linear.rotation if isinstance(linear, RotatedLinear) else None
        layer = cls(
            linear.in_features, linear.out_features, spec, rotation, linear.bias is not None, shared, backend, "meta"
        )
        bias = None if linear.bias is None else linear.bias.detach()
        tensors = quantized_tensors(linear.weight.detach(), spec, bias, channel_scale, input_mean)
        layer.load_state_dict(tensors, assign=True)
        return layer.train(linear.training)

    @property
    def integer_weight(self) -> IntegerWeight:
        return IntegerWeight(self.weight, self.spec.precision.weight_bits)

    def quantize(self, x: Tensor) -> QuantizedInput:
        """The input [..., K] as integers, rotated first; shared with the layers that read the same tensor."""
        return self.shared.prepare(x, self._quantize)

    def forward(self, x: Tensor) -> Tensor:
        backend = select_backend(x.device, self.backend)
        y = backend.linear(self.quantize(x), self.integer_weight, self.weight_scale, self.bias, x.dtype)  # [M, N]
        return y.unflatten(0, x.shape[:-1])

    def extra_repr(self) -> str:
        rotation = "" if self.rotation is None else f", {self.rotation}"
        return f"{self.in_features} -> {self.out_features}, {self.spec.precision.value}{rotation}"

    def _quantize(self, x: Tensor) -> QuantizedInput:
        rotated = x if self.rotation is None else self.rotation(x)
        backend = select_backend(x.device, self.backend)
        return backend.quantize(rotated, self.spec.activation, self.channel_scale)


def _check_calibration(what: str, value: Tensor | None, wanted: bool, spec: LinearSpec) -> None:
    if wanted != (value is not None):
        raise ValueError(
            f"{what} are {'missing' if wanted else 'given'} for granularity {spec.granularity.value}, bias_correction "
            f"{spec.bias_correction}; calibrate where one of the two needs it, and only there"
        )


def _groups(in_features: int, spec: LinearSpec) -> int:
    if spec.precision.weight_bits == 4 and in_features % 2:
        raise ValueError(f"{in_features} inputs; four-bit weights lie in pairs: use w8a8 or bf16 for this layer")
    if spec.group_size is None:
        return 1
    if in_features % spec.group_size:
        raise ValueError(
            f"{in_features} inputs do not divide into groups of {spec.group_size}; give a group_size that divides "
            "them, or none"
        )
    return in_features // spec.group_size
