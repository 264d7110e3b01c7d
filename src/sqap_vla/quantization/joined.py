# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Quantized decoder layers that run as few operations as they can.

What reads one input is one product: q, k and v; gate and up. What comes before a product (norm, gate, rotation) goes
with the quantization of its input, and the residual with what comes after it, so a layer is

    norm_quantize, qkv, heads, attention, rotate_quantize, o + residual,
    norm_quantize, gate and up, gate_rotate_quantize, down + residual

ten steps, on a backend that has a kernel for each. The weights are laid side by side once, and the layer's own modules
become views of them, so nothing is held twice.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from sqap_vla.cogact.llama import DecoderLayer, rotary_heads, take_rope
from sqap_vla.cogact.model import CogAct, sharing_copy
from sqap_vla.cogact.token_reuse import RotaryTables, TokenReuse
from sqap_vla.quantization.backends import Backend
from sqap_vla.quantization.backends.registry import select_backend
from sqap_vla.quantization.linear import QuantizedLinear
from sqap_vla.quantization.packing import IntegerWeight
from sqap_vla.quantization.quantizer import Granularity, QuantizedInput


def join_layers(model: CogAct) -> CogAct:
    """A model of the same tensors whose quantized decoder layers are joined; `model` itself if there are none.

    The model must be where it stays: a joined layer is not moved to another device.
    """
    if not any(_joins(layer) for layer in model.decoder.layers):
        return model
    decoder = sharing_copy(model.decoder)
    decoder.layers = nn.ModuleList(
        JoinedDecoderLayer(layer) if _joins(layer) else layer for layer in model.decoder.layers
    )
    return model.with_decoder(decoder).eval()


class JoinedLinear:
    """Linears that read one input, as one. Their buffers become views of the joined ones."""

    def __init__(self, linears: Sequence[QuantizedLinear]) -> None:
        first = linears[0]
        self.spec, self.rotation, self.outputs = first.spec, first.rotation, [linear.out_features for linear in linears]
        weight, self._scale = (_side_by_side(linears, name) for name in ("weight", "weight_scale"))
        self._weight = IntegerWeight(weight, first.spec.precision.weight_bits)
        self._bias = _side_by_side(linears, "bias") if first.bias is not None else None

    def __call__(
        self, backend: Backend, x: QuantizedInput, dtype: torch.dtype, residual: Tensor | None = None, first: int = 0
    ) -> Tensor:
        """x [M, K] -> [M, N]. first: output to begin with."""
        weight = IntegerWeight(self._weight.data[first:], self._weight.bits)
        bias = None if self._bias is None else self._bias[first:]
        return backend.linear(x, weight, self._scale[first:], bias, dtype, residual)


class JoinedDecoderLayer(DecoderLayer):
    """See DecoderLayer. layer: a quantized one that `_joins`; its modules are taken over."""

    def __init__(self, layer: DecoderLayer) -> None:
        nn.Module.__init__(self)
        self.input_layernorm, self.post_attention_layernorm = layer.input_layernorm, layer.post_attention_layernorm
        self.self_attn, self.mlp = layer.self_attn, layer.mlp
        attention, mlp = layer.self_attn, layer.mlp
        self._qkv = JoinedLinear((attention.q_proj, attention.k_proj, attention.v_proj))
        self._gate_up = JoinedLinear((mlp.gate_proj, mlp.up_proj))
        self._out, self._down = JoinedLinear((attention.o_proj,)), JoinedLinear((mlp.down_proj,))
        self._backend = attention.q_proj.backend

    def qkv(self, x: Tensor, rope: RotaryTables) -> tuple[Tensor, Tensor, Tensor]:
        y, heads, kv_heads = self._projected(x)
        return rotary_heads(y, rope, heads, kv_heads)

    def qkv_last(self, x: Tensor, rope: RotaryTables, last: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        backend = select_backend(x.device, self._backend)
        normed, width = self._normed(backend, x), self.self_attn.head_dim
        q, kv = self._qkv.outputs[0], self._qkv.outputs[1]
        y = self._qkv(backend, normed, x.dtype, first=q).unflatten(0, x.shape[:2])
        _, k, v = rotary_heads(y, rope, 0, kv // width)
        rows = last + x.shape[1] * torch.arange(x.shape[0], device=x.device)[:, None]  # [B, 1]
        asked = self._qkv(backend, normed.rows(rows[:, 0]), x.dtype)[:, None]  # [B, 1, N]
        return rotary_heads(asked, take_rope(rope, last), q // width, kv // width)[0], k, v

    def _attention(self, x: Tensor, rope: RotaryTables, index: int, reuse: TokenReuse | None) -> Tensor:
        width, attend = self.self_attn.head_dim, _attention_kernel() if x.is_cuda and reuse is None else None
        if attend is None or width < 32 or width & (width - 1):
            return super()._attention(x, rope, index, reuse)
        y, heads, kv_heads = self._projected(x)
        return attend(y, *rope, heads, kv_heads)

    def finish(self, x: Tensor, attention: Tensor) -> Tensor:
        backend = select_backend(x.device, self._backend)
        rows, norm = x.flatten(0, 1), self.post_attention_layernorm
        out, down = self._out, self._down
        mixed = backend.rotate_quantize(attention, out.rotation, out.spec.activation)
        rows = out(backend, mixed, x.dtype, rows)  # [M, D]
        normed = backend.norm_quantize(rows, norm.weight, norm.eps, self._gate_up.spec.activation)
        both = self._gate_up(backend, normed, x.dtype)  # [M, 2 hidden]
        gated = backend.gate_rotate_quantize(both, down.rotation, down.spec.activation)
        return down(backend, gated, x.dtype, rows).unflatten(0, x.shape[:2])

    def _projected(self, x: Tensor) -> tuple[Tensor, int, int]:
        """x [B, T, D] -> q, k and v side by side [B, T, N], and how many heads q and k have."""
        backend, width = select_backend(x.device, self._backend), self.self_attn.head_dim
        y = self._qkv(backend, self._normed(backend, x), x.dtype).unflatten(0, x.shape[:2])
        return y, self._qkv.outputs[0] // width, self._qkv.outputs[1] // width

    def _normed(self, backend: Backend, x: Tensor) -> QuantizedInput:
        norm = self.input_layernorm
        return backend.norm_quantize(x, norm.weight, norm.eps, self._qkv.spec.activation)


@functools.lru_cache(maxsize=1)
def _attention_kernel() -> Callable[..., Tensor] | None:
    try:
        from sqap_vla.cogact.attention_kernel import attend
    except ImportError:  # Triton comes with CUDA builds of torch for Linux, and with no other
        return None
    return attend


def _joins(layer: nn.Module) -> bool:
    """Whether all that read one input make the same integers of it, token by token and by themselves: no rotation of
    their own, no scales that tokens share or that come from calibration."""
    if type(layer) is not DecoderLayer:
        return False
    attention, mlp = layer.self_attn, layer.mlp
    groups = ((attention.q_proj, attention.k_proj, attention.v_proj), (mlp.gate_proj, mlp.up_proj))
    alone = (attention.o_proj, mlp.down_proj)
    linears = [linear for group in (*groups, alone) for linear in group]
    if not all(isinstance(linear, QuantizedLinear) for linear in linears):
        return False
    if any(linear.spec.granularity is not Granularity.TOKEN for linear in linears):
        return False
    return all(
        linear.rotation is None and linear.spec == group[0].spec and (linear.bias is None) == (group[0].bias is None)
        for group in groups
        for linear in group
    )


def _side_by_side(linears: Sequence[QuantizedLinear], name: str) -> Tensor:
    """A buffer of all of them, [N, ...]; each one's own becomes a view of it."""
    tensors = [getattr(linear, name) for linear in linears]
    joined = _whole(tensors)
    if joined is None:
        joined = torch.cat(tensors)
    start = 0
    for linear, tensor in zip(linears, tensors, strict=True):
        setattr(linear, name, joined[start : start + len(tensor)])
        start += len(tensor)
    return joined


def _whole(tensors: Sequence[Tensor]) -> Tensor | None:
    """What they are views of, one after the other, as another join of the same layers left them; None if they are
    not."""
    first = tensors[0]
    place = first.storage_offset()
    for tensor in tensors:
        if tensor.untyped_storage().data_ptr() != first.untyped_storage().data_ptr() or not tensor.is_contiguous():
            return None
        if tensor.storage_offset() != place:
            return None
        place += tensor.numel()
    return first.as_strided((sum(map(len, tensors)), *first.shape[1:]), first.stride(), first.storage_offset())
