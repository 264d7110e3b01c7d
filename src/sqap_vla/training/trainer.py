# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Training, step by step, from a state that can be put away and taken up again.

In phases, for the sake of the CPU: the towers alone are taught what each patch shows; then they stand still, and the
decoder and the head learn on some of their tokens, of which those that show nothing of interest are dropped at random;
then everything together on all tokens. A run can be made longer by another phase. What is evaluated and exported is
an exponential moving average of the weights.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sqap_vla.cogact.preprocess import normalize_pictures, normalize_pixels, pixels_of
from sqap_vla.cogact.prompt import Tokenizer
from sqap_vla.sim import INSTRUCTIONS
from sqap_vla.training.augmentation import Augmentation
from sqap_vla.training.dataset import FrameStore, Pick, TokenCache
from sqap_vla.training.mini import mini_config, mini_tokenizer, untrained
from sqap_vla.training.objectives import (
    LossWeights,
    Teachers,
    Truth,
    attention_loss,
    choose_tokens,
    chunk_loss,
    cognition_loss,
    diffusion_loss,
    patch_loss,
)
from sqap_vla.training.packed import packed_cognition

REFRESH_STEPS = 100  # between looks for new shards


@dataclass(frozen=True)
class Phase:
    """A part of the run.

    steps: how many. batch: frames in a step. towers: whether towers and projector learn; where they do not, each
    picture goes through them once. decoder: whether decoder and head take part. tokens: how many visual tokens the
    decoder is given; those that show a keypoint always. rate: learning rate. warmup, cooldown: over how many of the
    first steps it rises and of the last ones it falls.
    Raises ValueError for a bad count or a phase in which nothing learns.
    """

    name: str
    steps: int
    batch: int
    towers: bool
    decoder: bool
    tokens: int = 256
    rate: float = 1e-3
    warmup: int = 100
    cooldown: int = 0

    def __post_init__(self) -> None:
        for name, low, high in (
            ("steps", 1, 10**9),
            ("batch", 1, 10**6),
            ("tokens", 64, 256),
            ("cooldown", 0, self.steps),
        ):
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} of phase {self.name} is {getattr(self, name)}; it must be {low} to {high}")
        if not (self.towers or self.decoder):
            raise ValueError(f"nothing learns in phase {self.name}; set towers or decoder")

    def rate_at(self, step: int, final_share: float = 0.02) -> float:
        """The learning rate of the phase's step: rises along a line, stays, falls along a cosine."""
        rate = self.rate * min(1.0, (step + 1) / max(self.warmup, 1))
        left = self.steps - step
        if left < self.cooldown:
            share = 0.5 * (1.0 + math.cos(math.pi * (1.0 - left / self.cooldown)))
            rate *= final_share + (1.0 - final_share) * share
        return rate


DEFAULT_PHASES = (
    Phase("towers", steps=700, batch=8, towers=True, decoder=False),
    Phase("decoder", steps=6000, batch=16, towers=False, decoder=True, tokens=96),
    Phase("together", steps=3000, batch=8, towers=True, decoder=True, rate=4e-4, cooldown=2000),
)
# On a GPU everything learns together after a short while, in large batches.
GPU_PHASES = (
    Phase("towers", steps=1000, batch=256, towers=True, decoder=False, rate=2e-3, warmup=100),
    Phase("together", steps=9000, batch=256, towers=True, decoder=True, rate=1.2e-3, warmup=300, cooldown=6000),
)


def further_phase(phases: Sequence[Phase]) -> Phase:
    """Of a run that starts from trained weights: the last one, at half its rate. It rises over a tenth of the run, in
    which the heads that exist in training only are learnt anew."""
    last = phases[-1]
    return replace(last, name="further", rate=0.5 * last.rate, warmup=last.steps // 10)


@dataclass(frozen=True)
class TrainingConfig:
    """phases: one after the other. repeats: noise levels for each feature. supervised_layers: whose attention is
    taught."""

    phases: tuple[Phase, ...] = DEFAULT_PHASES
    weight_decay: float = 0.02
    ema: float = 0.998
    repeats: int = 2
    supervised_layers: tuple[int, ...] = (1, 2, 3)
    seed: int = 0
    weights: LossWeights = field(default_factory=LossWeights)
    augmentation: Augmentation = field(default_factory=Augmentation)

    @property
    def steps(self) -> int:
        return sum(phase.steps for phase in self.phases)

    def phase_at(self, step: int) -> tuple[Phase, int]:
        """The phase of a step, and the step within it."""
        for phase in self.phases:
            if step < phase.steps:
                return phase, step
            step -= phase.steps
        raise ValueError(f"the run has {self.steps} steps; give it another phase to go on")


class Trainer:
    """One run. On CUDA towers and decoder compute in bfloat16, where the hardware has it; weights, head and losses stay
    float32."""

    def __init__(self, config: TrainingConfig, store: FrameStore, device: torch.device | str = "cpu") -> None:
        self.config, self.store, self.device = config, store, torch.device(device)
        self.network = mini_config()
        self.model = untrained(self.network, config.seed).to(self.device)
        torch.manual_seed(config.seed)
        self.teachers = Teachers(self.network.decoder.hidden_size).to(self.device)
        self.step = 0
        self._phase: Phase | None = None
        self._cache: TokenCache | None = None
        self.rng = np.random.default_rng([config.seed, 3])
        self.noise = torch.Generator(self.device).manual_seed(config.seed)
        self._parameters = [*self.model.parameters(), *self.teachers.parameters()]
        matrices = [p for p in self._parameters if p.dim() > 1]
        vectors = [p for p in self._parameters if p.dim() <= 1]
        self.optimizer = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": config.weight_decay}, {"params": vectors, "weight_decay": 0.0}],
            lr=1e-3,
            betas=(0.9, 0.98),
            fused=True,
        )
        self.average = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}
        tokenizer = Tokenizer(mini_tokenizer(), "<s>", "</s>", Path("tokenizer.json"))
        ids = [tokenizer.encode(text)[1:] for text in INSTRUCTIONS]
        longest = max(map(len, ids))
        self._lengths = torch.tensor([len(row) for row in ids], device=self.device)
        self._texts = torch.tensor([row + [0] * (longest - len(row)) for row in ids], device=self.device)

    def train_step(self, position: int | None = None) -> dict[str, Tensor]:
        """One step. position: where in the phases it is; None: as many steps as were made. Returns its losses by name,
        on the device: reading one waits for it."""
        config = self.config
        phase, within = config.phase_at(self.step if position is None else position)
        if phase is not self._phase:
            if within == 0 or self._phase is not None:  # not where a run is taken up again
                self.model.load_state_dict(self.average)  # towers that stand still should not stand at a noisy place
            self._phase, self._cache = phase, None
        if self.step % REFRESH_STEPS == 0:
            self.store.refresh()
        for group in self.optimizer.param_groups:
            group["lr"] = phase.rate_at(within)
        losses = self.losses(self.store.draw(phase.batch, self.rng), phase)
        total = sum(getattr(config.weights, name) * loss for name, loss in losses.items())
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        torch.nn.utils.clip_grad_norm_(self._parameters, 1.0)
        self.optimizer.step()
        self.step += 1
        self._average()
        return {name: loss.detach() for name, loss in losses.items()}

    def losses(self, picks: Sequence[Pick], phase: Phase) -> dict[str, Tensor]:
        """The losses of a batch, by name."""
        images, truth = self.store.batch(picks, self.device, phase.towers)
        losses: dict[str, Tensor] = {}
        if phase.towers:
            pixels, keypoints = self.config.augmentation(pixels_of(images), truth.keypoints, self.rng)
            truth = replace(truth, keypoints=keypoints)
            with self._fast():
                visual = self.model.encode_images(*normalize_pixels(pixels))
            losses["patch"] = patch_loss(self.teachers, visual.float(), truth)
        else:
            visual = self._cached_tokens(picks)
        return losses | (self._decoder_losses(visual, truth, phase) if phase.decoder else {})

    def _fast(self) -> torch.autocast:
        """bfloat16 where the GPU multiplies in it."""
        enabled = self.device.type == "cuda" and torch.cuda.is_bf16_supported()
        return torch.autocast(self.device.type, torch.bfloat16, enabled=enabled)

    def _decoder_losses(self, visual: Tensor, truth: Truth, phase: Phase) -> dict[str, Tensor]:
        kept = None
        if phase.tokens < visual.shape[1]:
            kept = choose_tokens(truth, phase.tokens, self.noise)
            visual = visual.gather(1, kept[..., None].expand(-1, -1, visual.shape[2]))
        tasks = truth.tasks.clamp(min=0)
        layers = self.config.supervised_layers
        with self._fast():
            output = packed_cognition(self.model, visual, self._texts[tasks], self._lengths[tasks], layers, kept)
        cognition = output.cognition.float()
        return {
            "attention": attention_loss(output, truth, kept),
            "cognition": cognition_loss(self.teachers, cognition, truth),
            "chunk": chunk_loss(self.teachers, cognition, truth),
            "diffusion": diffusion_loss(self.model, cognition, truth, self.config.repeats, self.noise),
        }

    def _cached_tokens(self, picks: Sequence[Pick]) -> Tensor:
        if self._cache is None:
            self._cache = TokenCache(self.store, self._encode)
        return self._cache.tokens(picks)

    @torch.no_grad()
    def _encode(self, images: np.ndarray) -> Tensor:
        return self.model.encode_images(*normalize_pictures(torch.from_numpy(images).to(self.device)))

    @torch.no_grad()
    def _average(self) -> None:
        keep = min(self.config.ema, (1 + self.step) / (10 + self.step))
        tensors = self.model.state_dict()
        torch._foreach_lerp_(list(self.average.values()), [tensors[name] for name in self.average], 1.0 - keep)

    def save(self, file: Path) -> None:
        """Puts the state away; a crash while it does leaves the one before."""
        partial = file.with_suffix(".partial")
        torch.save(
            {
                "step": self.step,
                "model": self.model.state_dict(),
                "teachers": self.teachers.state_dict(),
                "average": self.average,
                "optimizer": self.optimizer.state_dict(),
                "noise": self.noise.get_state(),
                "rng": json.dumps(self.rng.bit_generator.state),
                "config": json.dumps(asdict(self.config)),
            },
            partial,
        )
        os.replace(partial, file)

    def start_from(self, weights: dict[str, Tensor]) -> None:
        """Takes over the weights of a trained network. Raises ValueError where they are of another one."""
        try:
            self.model.load_state_dict(weights)
        except RuntimeError as error:
            raise ValueError(f"the weights to start from are of another network: {error}") from error
        self.average = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}

    def restore(self, file: Path) -> None:
        """Takes a state up again. Raises ValueError where it is of a network of other sizes."""
        state = torch.load(file, weights_only=True, map_location=self.device)
        try:
            self.model.load_state_dict(state["model"])
            self.teachers.load_state_dict(state["teachers"])
        except RuntimeError as error:
            raise ValueError(f"{file} is of another network: {error}; start a new run in another directory") from error
        self.average = state["average"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.noise.set_state(state["noise"].cpu())
        self.rng.bit_generator.state = json.loads(state["rng"])
        self.step = state["step"]
