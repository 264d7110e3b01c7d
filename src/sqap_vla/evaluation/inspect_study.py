# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The paper's two observations, measured: what quantization does to attention (Figure 2), and what a rotation does to
the activations that are quantized (Figure 3).

One float network, and the same network under every rotation and granularity, see the same frames. Pictures are encoded
once; only the decoder is rotated and quantized. In memory together: the float network, and one more decoder.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from sqap_vla.cogact.attention_record import recorded_attention
from sqap_vla.cogact.model import CogAct
from sqap_vla.cogact.preprocess import preprocess
from sqap_vla.cogact.prompt import Tokenizer
from sqap_vla.evaluation.inspect_inputs import InputTails, input_tails
from sqap_vla.quantization.linear import QuantizedLinear
from sqap_vla.quantization.metrics import cosine, rank_correlation, sqnr_db, top_k_overlap
from sqap_vla.quantization.policy import DEFAULT_ACTIVATION_CLIP, PrecisionPolicy, QuantizationConfig
from sqap_vla.quantization.quantize import quantize_model
from sqap_vla.quantization.quantizer import Granularity, Precision
from sqap_vla.quantization.rotation import Rotation, RotationKind, residual_rotation, rotate_model
from sqap_vla.runtime.types import ACTION_DIM, CHUNK_STEPS, Observation

FLOAT = "float"
# The second is the control: what rotating gains over folding the norms, which it needs.
ROTATIONS = {
    "none": Rotation(RotationKind.NONE, fold_norms=False),
    "none, norms folded": Rotation(RotationKind.NONE),
    "qk_input": Rotation(RotationKind.QK_INPUT, fold_norms=False),
    "full": Rotation(RotationKind.FULL),
}
OVERLAP_SIZES = (1, 2, 4, 8, 16, 24, 38, 54, 77, 108, 154, 205)


@dataclass(frozen=True)
class StudyFrame:
    """A frame up to the projector. rgb: uint8 [H, W, 3]. features: [1, 256, D_dino + D_siglip]. noise: [1, 16, 7]."""

    rgb: np.ndarray
    input_ids: list[int]
    features: Tensor
    noise: Tensor


@dataclass(frozen=True)
class Variant:
    """A way to quantize. rotation: a key of ROTATIONS. calibrated: with bias correction from calibration frames."""

    rotation: str
    granularity: Granularity
    precision: Precision = Precision.W4A4
    calibrated: bool = False

    def __str__(self) -> str:
        return f"{self.precision.value} {self.rotation}, {self.granularity.value}" + ", calibrated" * self.calibrated

    @property
    def config(self) -> QuantizationConfig:
        """Four-bit activations are clipped where all of them are rotated, and so nearly normal; elsewhere clipping
        would cut off the outliers, which weigh most."""
        full = ROTATIONS[self.rotation].kind is RotationKind.FULL
        return QuantizationConfig(
            policy=PrecisionPolicy((("llm_backbone.*", self.precision),)),
            rotation=ROTATIONS[self.rotation],
            granularity=self.granularity,
            activation_clip=DEFAULT_ACTIVATION_CLIP if full else 1.0,
            bias_correction=self.calibrated,
        )


def all_variants() -> list[Variant]:
    """Every rotation with every granularity in W4A4, then what more bits and calibration bring."""
    grid = [Variant(rotation, granularity) for rotation in ROTATIONS for granularity in Granularity]
    wider = [
        Variant(rotation, Granularity.TOKEN, precision)
        for precision in (Precision.W4A8, Precision.W8A8)
        for rotation in ("none", "full")
    ]
    return [*grid, Variant("full", Granularity.TOKEN, calibrated=True), *wider]


@dataclass(frozen=True)
class Outcome:
    """What a network makes of F frames. cognition: [F, D]. actions: normalised [F, 16, 7]. attention: of the last token
    to the visual ones, by layer [L, F, 256]. stream: residual stream after each layer but the last, in the basis of
    the network as it was given, all frames' tokens below each other [L - 1][sum of T, D].
    """

    cognition: Tensor
    actions: Tensor
    attention: Tensor
    stream: list[Tensor]


@dataclass(frozen=True)
class VariantResult:
    """A variant against the float network. overlap: mean over frames, by layer and number k [L, K]. rank_correlation:
    mean over frames, by layer [L]. stream_sqnr_db: [L - 1]. action_cosine: mean and worst of the frames.
    """

    variant: Variant
    cognition_sqnr_db: float
    cognition_cosine: float
    action_cosine: float
    worst_action_cosine: float
    action_sqnr_db: float
    stream_sqnr_db: list[float]
    overlap: np.ndarray
    rank_correlation: np.ndarray
    attention: Tensor


@dataclass(frozen=True)
class Study:
    """tails: by rotation, of what the float network's linears read. sizes: the numbers k of the overlaps. distinct:
    cosine of the actions of different frames in float, mean: what an action cosine is worth that knows nothing of the
    frame. layer, k: where the method takes its scores and how many it takes.
    """

    frames: list[StudyFrame]
    layer: int
    k: int
    sizes: tuple[int, ...]
    float_outcome: Outcome
    distinct: float | None
    tails: dict[str, InputTails]
    results: list[VariantResult]

    def result(self, variant: Variant) -> VariantResult | None:
        return next((result for result in self.results if result.variant == variant), None)


@torch.inference_mode()
def study_frames(
    model: CogAct, tokenizer: Tokenizer, observations: Iterable[Observation], seed: int = 0
) -> list[StudyFrame]:
    """Frames as far as they are the same for every rotation. The same noise for all, of `seed`."""
    noise = torch.randn(1, CHUNK_STEPS, ACTION_DIM, generator=torch.Generator().manual_seed(seed))
    frames = []
    for observation in observations:
        towers = (tower[None].to(model.device, model.dtype) for tower in preprocess(observation.rgb))
        features = model.vision_backbone(*towers)
        frames.append(StudyFrame(observation.rgb, tokenizer.encode(observation.instruction), features, noise))
    return frames


@torch.inference_mode()
def run_study(
    model: CogAct,
    frames: Sequence[StudyFrame],
    calibration: Sequence[StudyFrame],
    layer: int,
    k: int,
    variants: Sequence[Variant] | None = None,
    progress: Callable[[str], None] = lambda what: None,
) -> Study:
    """Everything, against `model` in float, which stays as it is.

    calibration: frames for variants that need them, best others than `frames`. layer, k: see Study. progress hears of
    each network before it is made. Raises ValueError for no frames, a layer that there is not, or a k beyond the
    visual tokens.
    """
    layers, visual = len(model.decoder.layers), model.config.dino.num_patches
    if not frames or not calibration:
        raise ValueError(f"{len(frames)} frames and {len(calibration)} to calibrate on; there must be one of each")
    if not 0 <= layer < layers or not 1 <= k <= visual:
        raise ValueError(f"layer {layer} of {layers}, k {k} of {visual} tokens; layers are counted from 0")
    variants = all_variants() if variants is None else variants
    progress(FLOAT)
    reference = _outcome(model, frames, None)
    tails = {}
    for name in dict.fromkeys(variant.rotation for variant in variants):
        progress(f"inputs, {name}")
        rotated = _copy(model)
        rotate_model(rotated, ROTATIONS[name])
        tails[name] = input_tails(
            rotated, lambda rotated=rotated: [_forward(rotated, frame) for frame in frames], layer
        )
        del rotated
    sizes = tuple(sorted({k, *(size for size in OVERLAP_SIZES if size < visual)}))
    results = []
    for variant, quantized in _quantized(model, variants, calibration, progress):
        outcome = _outcome(quantized, frames, residual_rotation(ROTATIONS[variant.rotation], model.config.decoder))
        results.append(_compare(variant, reference, outcome, sizes))
    results.sort(key=lambda result: list(variants).index(result.variant))
    return Study(list(frames), layer, k, sizes, reference, _distinct(reference.actions), tails, results)


def _quantized(
    model: CogAct, variants: Sequence[Variant], calibration: Sequence[StudyFrame], progress: Callable[[str], None]
) -> Iterator[tuple[Variant, CogAct]]:
    """Granularities tensor and token differ in nothing that is stored, so they take one conversion."""
    shared: dict[tuple[str, Precision], list[Variant]] = {}
    for variant in variants:
        if variant.config.needs_calibration:
            progress(str(variant))
            quantized = _copy(model)
            quantize_model(
                quantized,
                variant.config,
                lambda quantized=quantized: [_forward(quantized, frame) for frame in calibration],
            )
            yield variant, quantized
        else:
            shared.setdefault((variant.rotation, variant.precision), []).append(variant)
    for group in shared.values():
        quantized = _copy(model)
        progress(str(group[0]))
        quantize_model(quantized, group[0].config)
        for variant in group:
            if variant is not group[0]:
                progress(str(variant))
            for module in quantized.decoder.modules():
                if isinstance(module, QuantizedLinear):
                    module.spec = dataclasses.replace(module.spec, granularity=variant.granularity)
            yield variant, quantized


def _copy(model: CogAct) -> CogAct:
    """With a decoder and projector of its own; vision and head are never changed."""
    shared: tuple[nn.Module, ...] = (model.vision_backbone, model.action_model)
    return copy.deepcopy(model, {id(module): module for module in shared})


def _forward(model: CogAct, frame: StudyFrame) -> None:
    model.cognition(model.projector(frame.features), [frame.input_ids])


def _outcome(model: CogAct, frames: Sequence[StudyFrame], rotation: Callable | None) -> Outcome:
    cognition, actions, attention, streams = [], [], [], []
    layers = range(len(model.decoder.layers))
    for frame in frames:
        visual = model.projector(frame.features)  # [1, N, D]
        embeds, last = model.embed(visual, [frame.input_ids])
        span = slice(1, 1 + visual.shape[1])
        with recorded_attention(model.decoder, last) as rows:
            output = model.decoder(embeds, last, span, record_hidden=True)
        cognition.append(output.cognition[0].float())
        actions.append(model.sample_actions(output.cognition, frame.noise)[0])
        attention.append(torch.stack([rows[index][0, span] for index in layers]))  # [L, N]
        hidden = [x[0].float() for x in output.hidden[1:-1]]
        streams.append(hidden if rotation is None else [rotation.undo(x) for x in hidden])
    return Outcome(
        torch.stack(cognition),
        torch.stack(actions),
        torch.stack(attention, dim=1),
        [torch.cat(parts) for parts in zip(*streams, strict=True)],
    )


def _compare(variant: Variant, reference: Outcome, outcome: Outcome, sizes: tuple[int, ...]) -> VariantResult:
    layers, frames = reference.attention.shape[:2]
    pairs = [
        [(reference.attention[index, frame], outcome.attention[index, frame]) for frame in range(frames)]
        for index in range(layers)
    ]
    overlap = [[np.mean([top_k_overlap(*pair, size) for pair in layer]) for size in sizes] for layer in pairs]
    cosines = [cosine(*pair) for pair in zip(reference.actions, outcome.actions, strict=True)]
    return VariantResult(
        variant=variant,
        cognition_sqnr_db=sqnr_db(reference.cognition, outcome.cognition),
        cognition_cosine=float(np.mean([cosine(*p) for p in zip(reference.cognition, outcome.cognition, strict=True)])),
        action_cosine=float(np.mean(cosines)),
        worst_action_cosine=min(cosines),
        action_sqnr_db=sqnr_db(reference.actions, outcome.actions),
        stream_sqnr_db=[sqnr_db(*pair) for pair in zip(reference.stream, outcome.stream, strict=True)],
        overlap=np.array(overlap),
        rank_correlation=np.array([np.mean([rank_correlation(*pair) for pair in layer]) for layer in pairs]),
        attention=outcome.attention,
    )


def _distinct(actions: Tensor) -> float | None:
    """None for a single frame."""
    cosines = [cosine(actions[i], actions[j]) for i in range(len(actions)) for j in range(i)]
    return float(np.mean(cosines)) if cosines else None
