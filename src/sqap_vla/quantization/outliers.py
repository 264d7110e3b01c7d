# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Give a checkpoint the outliers that trained Llamas have, without changing what it computes.

Random weights have normal activations, on which a rotation shows nothing. Each of these changes is undone exactly
somewhere else in the weights, and none but the last by folding the norms:

    residual stream   a new orthogonal basis: the strongest principal directions of its normalised tokens lie along a
                      few fixed channels, the rest is mixed evenly. Everything that writes into the stream or reads
                      from it is multiplied by the basis, the final norm's gain and the basis leave through the action
                      head's z_embedder (so the cognition feature is in the new basis, and the actions stay).
    MLP               a few channels: rows of up_proj times a factor, columns of down_proj divided by it.
    values            a few channels of v_proj: rows times a factor, columns of o_proj divided.
    norm gains        log-normal, with the linears that read them divided. This one folding does undo.

What it follows: large values stay in fixed channels for all tokens and are tens of times the others at the inputs of
q, k, v, gate and up (LLM.int8(), arXiv 2208.07339; the paper's Figure 3a), and up to hundreds of times at down_proj's
input (SmoothRot, arXiv 2506.05413). Measured on SmolLM2-135M, a trained decoder of Llama's design, 290 tokens of
text without the first, beside what comes out here at 256 channels; norms folded, range over the layers:

                     largest / median magnitude         kurtosis
    input of         trained        here                trained         here
    q, k, v          22 to 49       18 to 27            34 to 170       34 to 69
    o                11 to 52       10 to 25            7 to 101        7 to 67
    gate, up         29 to 51       15 to 27            68 to 191       24 to 71
    down             25 to 216      76 to 132           27 to 451       89 to 233

In wider networks both grow, as the energy stays: residual_share is the trained one's 0.36, the root of a kurtosis of
75 over its 576 channels.

What it does not: massive activations of the first token alone (Sun et al., arXiv 2402.17762), which trained weights
make in one layer and undo in another.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sqap_vla.cogact.model import CogAct
from sqap_vla.quantization.rotation import DECODER, PROJECTOR_OUTPUT, Rotation, RotationKind, rotate_model

_SMALLEST_GAIN = 1e-3  # of the final norm; one near 0 cannot be divided out of `uncondition`


@dataclass(frozen=True)
class OutlierSpec:
    """residual_channels: of the stream, each along a principal direction, so far that it has at most residual_share of
    the energy. mlp_channels, value_channels: in each layer's MLP and values. mlp_energy, value_energy: what these
    channels come to have together, over what the whole layer had, if they were of average size; each has half the
    amplitude of the one before. gain_spread: standard deviation of the logarithm of norm gains. Raises ValueError for
    a negative one.
    """

    residual_channels: int = 4
    residual_share: float = 0.36
    mlp_channels: int = 4
    mlp_energy: float = 1.0
    value_channels: int = 1
    value_energy: float = 0.5
    gain_spread: float = 0.3
    seed: int = 0

    def __post_init__(self) -> None:
        counts = (self.residual_channels, self.mlp_channels, self.value_channels)
        if min(counts) < 0 or min(self.residual_share, self.mlp_energy, self.value_energy, self.gain_spread) < 0:
            raise ValueError(f"numbers of channels, energies, residual_share and gain_spread must be >= 0: {self}")


@dataclass(frozen=True)
class Outliers:
    """What was done. basis: float64 [D, D], orthogonal; the new stream is basis times the old. channels: those of the
    stream that carry a principal direction each, strongest first. final_gain: the final norm's former gain [D].
    """

    basis: Tensor
    channels: Tensor
    final_gain: Tensor

    def former_cognition(self, cognition: Tensor) -> Tensor:
        """The cognition feature [B, D] that the model had before, from the one it has now."""
        return (self.final_gain * (cognition.double() @ self.basis)).to(cognition.dtype)


@torch.no_grad()
def add_outliers(
    model: CogAct, visual: Tensor, input_ids: list[list[int]], spec: OutlierSpec | None = None
) -> Outliers:
    """Change a float32 model in place.

    visual [B, 256, D] and input_ids: frames as for CogAct.cognition, to find principal directions on; any that look
    like real ones. Raises ValueError for a model of another dtype, which would round what must cancel, for more
    outlier channels than there are channels, and for a gain of the final norm that is too small to be moved.
    """
    spec = OutlierSpec() if spec is None else spec
    if model.dtype != torch.float32:
        raise ValueError(f"the model is {model.dtype}; outliers cancel in float32 alone: load it in that")
    config = model.config.decoder
    widths = (config.hidden_size, config.intermediate_size, config.num_kv_heads * config.head_dim)
    for count, width in zip((spec.residual_channels, spec.mlp_channels, spec.value_channels), widths, strict=True):
        if count > width:
            raise ValueError(f"{count} outlier channels of {width}; there must not be more than there are")
    generator = torch.Generator().manual_seed(spec.seed)
    rotate_model(model, Rotation(RotationKind.NONE))  # folds the norms
    read = _record_inputs(model, ("o_proj", "down_proj"))
    hidden = model.cognition(visual, input_ids, record_hidden=True).hidden[:-1]
    steadiness = {name: _steadiness(x) for name, x in read().items()}
    basis, channels = _concentrating_basis(torch.cat([h.flatten(0, 1) for h in hidden]), spec, generator)
    final_gain = _change_basis(model, basis)
    for index, layer in enumerate(model.decoder.layers):
        _scale_mlp(layer.mlp, steadiness[f"layers.{index}.mlp.down_proj"], spec)
        _scale_values(layer.self_attn, steadiness[f"layers.{index}.self_attn.o_proj"], config.num_kv_heads, spec)
        attention, mlp = layer.self_attn, layer.mlp
        _spread_gain(layer.input_layernorm, (attention.q_proj, attention.k_proj, attention.v_proj), spec, generator)
        _spread_gain(layer.post_attention_layernorm, (mlp.gate_proj, mlp.up_proj), spec, generator)
    return Outliers(basis, channels, final_gain)


def _concentrating_basis(tokens: Tensor, spec: OutlierSpec, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """tokens [T, D] -> basis [D, D], and the channels [k] that its strongest directions lie along."""
    normalised = torch.nn.functional.normalize(tokens.double(), dim=-1)  # as an RMSNorm sees them
    energies, directions = torch.linalg.eigh(normalised.t() @ normalised / len(normalised))
    energies, directions = energies.flip(0), directions.flip(1).t().contiguous()  # [D], [D, D], strongest first
    width, strong = len(energies), spec.residual_channels
    for index in range(min(strong, width // 2)):
        # Turned towards one of the weakest directions, which takes over what is too much.
        kept = min(1.0, spec.residual_share / energies[index].item()) ** 0.5
        turn = directions.new_tensor([[kept, (1 - kept**2) ** 0.5], [-((1 - kept**2) ** 0.5), kept]])
        pair = [index, width - 1 - index]
        directions[pair] = turn @ directions[pair]
    mixing = torch.linalg.qr(
        torch.randn(width - strong, width - strong, generator=generator, dtype=torch.float64)
    ).Q.to(tokens.device)
    order = torch.randperm(width, generator=generator).to(tokens.device)
    basis = torch.empty_like(directions)
    basis[order[:strong]] = directions[:strong]
    basis[order[strong:]] = mixing @ directions[strong:]
    return basis, order[:strong]


def _change_basis(model: CogAct, basis: Tensor) -> Tensor:
    """Multiply the stream by the basis [D, D]; the final norm's gain [D] is moved into the head and returned."""
    gain = model.decoder.norm.weight.double()
    if gain.abs().min() < _SMALLEST_GAIN:
        raise ValueError(f"the final norm has a gain of {gain.abs().min():.1e}; below {_SMALLEST_GAIN} it cannot move")
    for name, parameter in model.named_parameters():
        leaf = name.removesuffix(".weight").removesuffix(".bias").rpartition(".")[2]
        wide = parameter.double()
        if name.startswith(PROJECTOR_OUTPUT) or (name.startswith(DECODER) and leaf in ("o_proj", "down_proj")):
            parameter.copy_(basis @ wide)
        elif name.startswith(DECODER) and wide.dim() == 2:
            parameter.copy_(wide @ basis.t())
    embedder = model.action_model.net.z_embedder
    embedder.linear.weight.copy_(embedder.linear.weight.double() * gain @ basis.t())
    embedder.uncondition.copy_(embedder.uncondition.double() / gain @ basis.t())
    model.decoder.norm.weight.fill_(1.0)
    return gain


def _record_inputs(model: CogAct, leaves: tuple[str, ...]) -> Callable[[], dict[str, Tensor]]:
    """Note what the decoder's linears read from now on, until the returned function is called for it."""
    inputs: dict[str, Tensor] = {}
    handles = [
        module.register_forward_pre_hook(lambda _, args, name=name: inputs.__setitem__(name, args[0].flatten(0, -2)))
        for name, module in model.decoder.named_modules()
        if name.endswith(leaves)
    ]

    def finish() -> dict[str, Tensor]:
        for handle in handles:
            handle.remove()
        return inputs

    return finish


def _steadiness(x: Tensor) -> Tensor:
    """How evenly large each channel [K] of x [T, K] is over the tokens: the median over the root mean square."""
    x = x.double()
    return x.abs().median(0).values / x.square().mean(0).sqrt().clamp_min(1e-12)


def _scale_mlp(mlp: torch.nn.Module, steadiness: Tensor, spec: OutlierSpec) -> None:
    up, down = mlp.up_proj.weight, mlp.down_proj.weight
    channels = steadiness.topk(spec.mlp_channels).indices
    factors = _factors(spec.mlp_channels, spec.mlp_energy * up.shape[0]).to(up)
    up[channels] *= factors[:, None]
    down[:, channels] /= factors


def _scale_values(attention: torch.nn.Module, steadiness: Tensor, kv_heads: int, spec: OutlierSpec) -> None:
    values = attention.v_proj.weight.unflatten(0, (kv_heads, -1))  # [KV, d, D]
    outputs = attention.o_proj.weight.unflatten(1, (kv_heads, -1, values.shape[1]))  # [D, KV, H / KV, d]
    shared = steadiness.unflatten(0, outputs.shape[1:]).mean(1)  # [KV, d], over the heads that share a value head
    factors = _factors(spec.value_channels, spec.value_energy * shared.numel()).to(values)
    for channel, factor in zip(shared.flatten().topk(spec.value_channels).indices.tolist(), factors, strict=True):
        head, place = divmod(channel, shared.shape[1])
        values[head, place] *= factor
        outputs[:, head, :, place] /= factor


def _spread_gain(
    norm: torch.nn.Module, readers: tuple[torch.nn.Linear, ...], spec: OutlierSpec, generator: torch.Generator
) -> None:
    """The norm's gain is 1 by now."""
    gain = (torch.randn(norm.weight.shape, generator=generator) * spec.gain_spread).exp().to(norm.weight)
    norm.weight.copy_(gain)
    for linear in readers:
        linear.weight.div_(gain)


def _factors(count: int, energy: float) -> Tensor:
    """[count], each half as large as the one before, squares adding up to `energy` where that makes them larger."""
    factors = 0.5 ** torch.arange(count, dtype=torch.float64)
    return (factors * (energy / factors.square().sum()).sqrt()).clamp_min(1.0)
