# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Float tensors -> signed integers and the scales that give them back: x is about scale * values.

Symmetric, without zero point: 4 bits are [-7, 7], 8 bits [-127, 127]. Rounding is to nearest, halves to even, after a
division by the scale in float32.

Weights [N, K] have one scale for each output channel, or for each group of consecutive inputs in it. A scale is
range / largest integer; the range is the channel's largest magnitude times the one of a grid of ratios that leaves
the smallest squared error, since in four bits a few clipped weights cost less than a coarse step for all.

Activations [..., K] are quantized as they come, with one scale for the whole tensor (of one call: rows of a batch share
it) or one for each token; or by one fixed scale for each input channel, found on calibration frames. In four bits the
range of the former is `clip_ratio` of the largest magnitude, as a search in every token would cost too much. Fixed
scales must leave the product before it is summed over K, so they are multiplied into the weights before these are
quantized (`fold_input_scale`), and what remains of an activation's scale is 1.

Zeros: a channel, group or token of zeros has scale 1 and values 0. NaN, infinity: in weights, ValueError; an
activation makes its whole token NaN (its whole tensor, where that has one scale), and never a plausible number.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor

CLIP_RATIOS = {4: tuple(1.0 - 0.03 * i for i in range(24)), 8: tuple(1.0 - 0.03 * i for i in range(6))}  # to 0.31, 0.85
_CHUNK_ELEMENTS = 2**20  # rows are searched in pieces that stay in the cache and cost no memory
_SMALLEST_CHANNEL_SCALE = 2.0**-12  # of the largest; a channel that calibration saw at rest may move later


class Granularity(str, Enum):
    """What shares one activation scale: the tensor, a token, or an input channel (fixed, from calibration)."""

    TENSOR = "tensor"
    TOKEN = "token"
    CHANNEL = "channel"


class Precision(str, Enum):
    """Bits of a linear layer's weights and activations. BF16: not quantized, stays in the model's own dtype."""

    W4A4 = "w4a4"
    W4A8 = "w4a8"
    W8A8 = "w8a8"
    BF16 = "bf16"

    @property
    def is_quantized(self) -> bool:
        return self is not Precision.BF16

    @property
    def weight_bits(self) -> int:
        return 16 if self is Precision.BF16 else int(self.value[1])

    @property
    def activation_bits(self) -> int:
        return 16 if self is Precision.BF16 else int(self.value[3])


@dataclass(frozen=True)
class WeightSpec:
    """bits: 4 or 8. group_size: inputs that share a scale, None for the whole output channel. clip_search: whether the
    range is searched for, or is the largest magnitude.
    """

    bits: int
    group_size: int | None = None
    clip_search: bool = True

    def __post_init__(self) -> None:
        _check_bits(self.bits)
        if self.group_size is not None and (type(self.group_size) is not int or self.group_size < 2):
            raise ValueError(f"group_size is {self.group_size!r}; it must be a whole number of at least 2, or None")

    @property
    def scale_dtype(self) -> torch.dtype:
        """float32 for channels. Groups have 32 times as many scales, so 16 bits, with the range of float32."""
        return torch.float32 if self.group_size is None else torch.bfloat16


@dataclass(frozen=True)
class ActivationSpec:
    """bits: 4 or 8. granularity: what shares a scale. clip_ratio: range over largest magnitude, for tensor and token in
    four bits; 8 bits and fixed scales are not clipped.
    """

    bits: int
    granularity: Granularity = Granularity.TOKEN
    clip_ratio: float = 1.0

    def __post_init__(self) -> None:
        _check_bits(self.bits)
        if not 0 < self.clip_ratio <= 1:
            raise ValueError(f"clip_ratio of activations is {self.clip_ratio}; it must be in (0, 1], 1 clips nothing")
        object.__setattr__(self, "granularity", Granularity(self.granularity))


@dataclass(frozen=True)
class QuantizedWeight:
    """values: int8 [N, K]. scale: [N, G], of spec.scale_dtype; G = 1 without groups."""

    values: Tensor
    scale: Tensor

    def dequantize(self) -> Tensor:
        """float32 [N, K]."""
        grouped = self.values.unflatten(1, (self.scale.shape[1], -1)).float()  # [N, G, K / G]
        return (grouped * self.scale.float()[..., None]).flatten(1)


@dataclass(frozen=True)
class QuantizedInput:
    """values: int8 [M, K], M tokens, of as many bits. scale: float32 [M, 1], whatever the granularity. planar: the even
    columns of `values` come first, then the odd ones, as a product with packed nibbles likes to read them.
    """

    values: Tensor
    scale: Tensor
    bits: int = 8
    planar: bool = False

    def in_order(self) -> QuantizedInput:
        """The same with its columns as they were."""
        if not self.planar:
            return self
        even, odd = self.values.chunk(2, dim=1)
        return QuantizedInput(torch.stack([even, odd], dim=-1).flatten(1), self.scale, self.bits)

    def rows(self, index: Tensor) -> QuantizedInput:
        """Some of its tokens, int64 [n]."""
        return QuantizedInput(self.values[index], self.scale[index], self.bits, self.planar)

    def dequantize(self) -> Tensor:
        """float32 [M, K]."""
        return self.in_order().values.float() * self.scale


def largest(bits: int) -> int:
    """7 or 127."""
    return 2 ** (bits - 1) - 1


def quantize_weight(weight: Tensor, spec: WeightSpec) -> QuantizedWeight:
    """Quantize weight [N, K]. Raises ValueError for another shape, a group that does not divide K, NaN or infinity."""
    if weight.dim() != 2 or not weight.numel():
        raise ValueError(f"weight has shape {list(weight.shape)}; it must be [outputs, inputs], none of them 0")
    rows, inputs = weight.shape
    group = inputs if spec.group_size is None else spec.group_size
    if inputs % group:
        raise ValueError(
            f"{inputs} inputs do not divide into groups of {group}; give a group_size that divides them, or None"
        )
    values = torch.empty(rows, inputs // group, group, dtype=torch.int8, device=weight.device)
    scale = torch.empty(rows, inputs // group, dtype=spec.scale_dtype, device=weight.device)
    step = max(1, _CHUNK_ELEMENTS // inputs)
    for start in range(0, rows, step):
        piece = weight[start : start + step].float().unflatten(1, (-1, group))  # [n, G, K / G]
        scale[start : start + step] = _weight_scale(piece, spec)
        values[start : start + step] = _round(piece, scale[start : start + step].float()[..., None], spec.bits)
    return QuantizedWeight(values.flatten(1), scale)


def quantize_input(x: Tensor, spec: ActivationSpec, channel_scale: Tensor | None = None) -> QuantizedInput:
    """Quantize activations [..., K].

    channel_scale: float32 [K], the fixed scales that granularity CHANNEL needs and the others do not take. Raises
    ValueError if they do not go together.
    """
    by_channel = spec.granularity is Granularity.CHANNEL
    if by_channel != (channel_scale is not None):
        raise ValueError(
            f"granularity is {spec.granularity.value} and channel scales are {'' if by_channel else 'not '}missing; "
            "calibrate for channel, and for no other"
        )
    wide = x.reshape(-1, x.shape[-1]).float()  # [M, K]
    if by_channel:
        wide = wide / channel_scale
    magnitude = wide.abs().amax(-1, keepdim=True)  # [M, 1]; NaN where the token has one
    if spec.granularity is Granularity.TENSOR:
        magnitude = magnitude.amax(0, keepdim=True).expand_as(magnitude)
    clip = spec.clip_ratio if spec.bits == 4 else 1.0
    scale = torch.ones_like(magnitude) if by_channel else _scale(magnitude * clip, spec.bits)
    values = _round(wide, scale, spec.bits)
    return QuantizedInput(values, torch.where(magnitude.isfinite(), scale, torch.nan), spec.bits)


def channel_scale(magnitude: Tensor, bits: int) -> Tensor:
    """Fixed input scales float32 [K] from each channel's largest magnitude [K] on calibration frames.

    No scale is below 1/4096 of the largest. Raises ValueError for a magnitude that is negative or not finite.
    """
    magnitude = magnitude.float()
    if not (magnitude.isfinite() & (magnitude >= 0)).all():
        raise ValueError("calibration found magnitudes that are negative or not finite; the model's input is broken")
    scale = magnitude / largest(bits)
    scale = scale.clamp_min(scale.amax() * _SMALLEST_CHANNEL_SCALE)
    return torch.where(scale > 0, scale, 1.0)


def fold_input_scale(weight: Tensor, input_scale: Tensor) -> Tensor:
    """Weight [N, K] for inputs that are divided by input_scale [K]; float32."""
    return weight.float() * input_scale.float()


def _weight_scale(piece: Tensor, spec: WeightSpec) -> Tensor:
    """Scales [n, G] of weights [n, G, K / G]."""
    magnitude = piece.abs().amax(-1)  # [n, G]
    if not magnitude.isfinite().all():
        raise ValueError("the weight has NaN or infinite elements and cannot be quantized; the checkpoint is damaged")
    best = _scale(magnitude, spec.bits, spec.scale_dtype)
    if not spec.clip_search:
        return best
    smallest = torch.full_like(magnitude, torch.inf)
    error = torch.empty_like(piece)
    for ratio in CLIP_RATIOS[spec.bits]:
        # Rounded as it will be stored, so that what is compared is what will be used.
        scale = _scale(magnitude * ratio, spec.bits, spec.scale_dtype)
        wide = scale.float()[..., None]
        torch.div(piece, wide, out=error)
        error.round_().clamp_(-largest(spec.bits), largest(spec.bits)).mul_(wide).sub_(piece)
        squared = error.square_().sum(-1)  # [n, G]
        better = squared < smallest
        smallest = torch.where(better, squared, smallest)
        best = torch.where(better, scale, best)
    return best


def _scale(magnitude: Tensor, bits: int, dtype: torch.dtype = torch.float32) -> Tensor:
    scale = (magnitude / largest(bits)).to(dtype)
    return torch.where(scale == 0, torch.ones_like(scale), scale)


def _round(x: Tensor, scale: Tensor, bits: int) -> Tensor:
    """int8. torch.round rounds halves to even. NaN has no integer: 0, and the scale says NaN."""
    return (x / scale).round_().clamp_(-largest(bits), largest(bits)).nan_to_num_(nan=0.0).to(torch.int8)


def _check_bits(bits: int) -> None:
    if bits not in (4, 8):
        raise ValueError(f"bits is {bits!r}; integers have 4 or 8 bits here")
