# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Hadamard rotations of the decoder that leave what it computes unchanged, and flatten what is quantized.

    none       nothing is rotated
    qk_input   paper, eq. 6: (W H^t)(H x) = W x at q_proj and k_proj, whose shared input is transformed while running
    full       the whole residual stream is multiplied by Q = T diag(signs): rows of the embedding table, outputs of
               projector, o_proj and down_proj get Q, inputs of q, k, v, gate and up get Q^t. v_proj's output is
               transformed within each head, and o_proj's input across heads while running: together, T_heads (x) T_d
               at o_proj's input. down_proj's input is transformed while running. The final norm rotates back, so the
               cognition feature stays what it was.

Before, gains of the RMSNorms are multiplied into the linears that read them, and become 1 (`fold_norms`; a gain does
not commute with a rotation, so `full` needs it). The final norm keeps its gain. Attention scores, RoPE, token
similarities and everything a selector sees are unchanged. Recorded hidden states are rotated ones: `residual_rotation`
gives what undoes it.

Weights are changed one tensor at a time by `rotate_tensor`, a pure function of a tensor and the gain folded into it, so
that a converter never holds two. `rotate_modules` puts in the modules that run the online part, without touching
weights. `rotate_model` does both.

Source: the paper, eq. 6; QuaRot (arXiv 2404.00456), section 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor, nn

from sqap_vla.cogact.config import DecoderConfig
from sqap_vla.cogact.model import CogAct
from sqap_vla.quantization.hadamard import transform
from sqap_vla.quantization.online import InputRotation, ResidualRotation, RotatedLinear, SharedInput, UnrotatingNorm

DECODER = "llm_backbone.llm.model."
PROJECTOR_OUTPUT = "projector.projector.4."


class RotationKind(str, Enum):
    NONE = "none"
    QK_INPUT = "qk_input"
    FULL = "full"


@dataclass(frozen=True)
class Rotation:
    """kind: as the module says. fold_norms: multiply norm gains into linears; `full` cannot do without. seed: of the
    signs of `full`.
    """

    kind: RotationKind = RotationKind.FULL
    fold_norms: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", RotationKind(self.kind))
        if self.kind is RotationKind.FULL and not self.fold_norms:
            raise ValueError("rotation full without fold_norms: a norm's gain does not commute with it; fold the norms")
        if type(self.seed) is not int or self.seed < 0:
            raise ValueError(f"seed of the rotation is {self.seed!r}; it must be a whole number >= 0")


def residual_rotation(rotation: Rotation, config: DecoderConfig) -> ResidualRotation | None:
    """What the residual stream is multiplied by; None if it is not."""
    return ResidualRotation(config.hidden_size, rotation.seed) if rotation.kind is RotationKind.FULL else None


def input_rotation(layer: str, rotation: Rotation, config: DecoderConfig) -> InputRotation | None:
    """What a linear, by its full name, does to its input while running; None if nothing."""
    leaf = _leaf(layer) if layer.startswith(DECODER) else ""
    if rotation.kind is RotationKind.QK_INPUT and leaf in ("q_proj", "k_proj"):
        return InputRotation(config.hidden_size)
    if rotation.kind is RotationKind.FULL and leaf == "o_proj":
        return InputRotation(config.num_heads, config.head_dim)
    if rotation.kind is RotationKind.FULL and leaf == "down_proj":
        return InputRotation(config.intermediate_size)
    return None


def folded_gain(name: str, rotation: Rotation) -> str | None:
    """Name of the norm gain that `rotate_tensor` multiplies into the tensor `name`; None if there is none."""
    if not rotation.fold_norms or not name.startswith(f"{DECODER}layers."):
        return None
    layer, _, rest = name.removeprefix(f"{DECODER}layers.").partition(".")
    if rest in ("self_attn.q_proj.weight", "self_attn.k_proj.weight", "self_attn.v_proj.weight"):
        return f"{DECODER}layers.{layer}.input_layernorm.weight"
    if rest in ("mlp.gate_proj.weight", "mlp.up_proj.weight"):
        return f"{DECODER}layers.{layer}.post_attention_layernorm.weight"
    return None


def rotate_tensor(
    name: str, tensor: Tensor, rotation: Rotation, config: DecoderConfig, gain: Tensor | None = None
) -> Tensor:
    """A parameter of the network as the rotated network has it.

    name: in CogAct's state_dict; tensors outside of the decoder and projector come back as they are. gain: the tensor
    that `folded_gain` names. Returns float32 (float64 for float64), and never changes its arguments. Raises ValueError
    if the gain is missing, or given where none belongs.
    """
    expected = folded_gain(name, rotation)
    if (gain is None) != (expected is None):
        raise ValueError(f"{name}: the gain {expected or 'of a norm'} is {'missing' if gain is None else 'not folded'}")
    if not name.startswith((DECODER, PROJECTOR_OUTPUT)):
        return tensor
    wide = tensor if tensor.dtype == torch.float64 else tensor.float()
    leaf = _leaf(name.removesuffix(".weight").removesuffix(".bias"))
    if rotation.fold_norms and leaf in ("input_layernorm", "post_attention_layernorm"):
        return torch.ones_like(wide)
    if gain is not None:
        wide = wide * gain.to(wide.dtype)  # [out, in] times [in]
    if rotation.kind is RotationKind.QK_INPUT and leaf in ("q_proj", "k_proj"):
        return transform(wide)
    residual = residual_rotation(rotation, config)
    if residual is None:
        return wide
    if name.startswith(PROJECTOR_OUTPUT):
        return _on_outputs(residual, wide)
    if leaf in ("embed_tokens", "q_proj", "k_proj", "gate_proj", "up_proj"):
        return residual(wide)  # W Q^t: each row is multiplied by Q
    if leaf == "v_proj":
        heads = residual(wide).unflatten(0, (-1, config.head_dim))  # [KV, d, in]
        return transform(heads.transpose(1, 2)).transpose(1, 2).flatten(0, 1)
    if leaf == "o_proj":
        within = transform(wide.unflatten(1, (-1, config.head_dim))).flatten(1)  # [out, heads * d]
        return _on_outputs(residual, InputRotation(config.num_heads, config.head_dim)(within))
    if leaf == "down_proj":
        return _on_outputs(residual, transform(wide))
    return wide


def rotate_modules(model: CogAct, rotation: Rotation) -> None:
    """Put in the modules of the online part, with the parameters that are there (on any device, meta too).

    Raises ValueError if the model has such modules already.
    """
    if any(isinstance(module, RotatedLinear | UnrotatingNorm) for module in model.modules()):
        raise ValueError("this model is rotated already; load it afresh to rotate it in another way")
    config = model.config.decoder
    shared: dict[str, SharedInput[Tensor]] = {}
    for name, module in list(model.named_modules()):
        online = input_rotation(name, rotation, config) if isinstance(module, nn.Linear) else None
        if online is None:
            continue
        # q_proj and k_proj of a layer read the same tensor; the others are alone.
        parent, _, leaf = name.rpartition(".")
        together = shared.setdefault(parent if leaf in ("q_proj", "k_proj") else name, SharedInput())
        linear = RotatedLinear(
            module.in_features, module.out_features, online, together, module.bias is not None, torch.device("meta")
        )
        linear.weight, linear.bias = module.weight, module.bias
        setattr(model.get_submodule(parent), leaf, linear.train(module.training))
    residual = residual_rotation(rotation, config)
    if residual is not None:
        norm = model.decoder.norm
        model.decoder.norm = UnrotatingNorm(norm.weight, norm.eps, residual).train(norm.training)


@torch.no_grad()
def rotate_model(model: CogAct, rotation: Rotation) -> None:
    """Rotate weights and modules in place; weights keep their dtype. Raises ValueError if it is rotated already."""
    rotate_modules(model, rotation)
    parameters = dict(model.named_parameters())
    # Gains last: until then they are what is folded.
    for name in sorted(parameters, key=lambda name: "layernorm" in name):
        gain_name = folded_gain(name, rotation)
        gain = parameters[gain_name] if gain_name else None
        rotated = rotate_tensor(name, parameters[name], rotation, model.config.decoder, gain)
        if rotated is not parameters[name]:
            parameters[name].copy_(rotated)


def _leaf(name: str) -> str:
    return name.rpartition(".")[2]


def _on_outputs(rotation: ResidualRotation, tensor: Tensor) -> Tensor:
    """Q times a weight [out, in] or bias [out]."""
    return rotation(tensor.t()).t() if tensor.dim() == 2 else rotation(tensor)
