# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Observation in, action chunk out: the one place where the network runs.

A chunk depends on the observation, the weights, the method and the seed, and on nothing else: the head's noise and the
random method's draw come from (seed, stamp). So a bag gives the same chunks offline and over DDS. A method that reuses
tokens looks at the frames before as well, as far back as the last reset (frame_memory.py).
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import Tensor

from sqap_vla.cogact.llama import Pruning
from sqap_vla.cogact.model import CogAct
from sqap_vla.cogact.normalization import ActionStatistics
from sqap_vla.cogact.preprocess import normalize, resize
from sqap_vla.cogact.prompt import Tokenizer
from sqap_vla.pruning.ring import Ring, ring_from_geometry
from sqap_vla.pruning.selection import TokenSelection, keep_all
from sqap_vla.runtime.frame_memory import FrameMemory
from sqap_vla.runtime.methods.base import Method
from sqap_vla.runtime.timing import StageTimer
from sqap_vla.runtime.types import ACTION_DIM, CHUNK_STEPS, ActionChunk, Observation, StageTimes

STAGES = ("preprocess", "vision", "llm", "head")


class Engine:
    """One model, one method, one robot. Not thread-safe: one inference at a time.

    step_s: time of one row of the chunk. Raises ValueError where method and network do not fit.
    """

    def __init__(
        self,
        model: CogAct,
        tokenizer: Tokenizer,
        statistics: ActionStatistics,
        method: Method,
        *,
        step_s: float,
        seed: int = 0,
        ddim_steps: int = 10,
        cfg_scale: float = 1.5,
    ) -> None:
        method.check_fits(model.config.decoder.num_layers)
        if method.reduction is not None:
            model = method.reduction.apply(model, tokenizer)
        self.model, self.tokenizer, self.statistics, self.method = model, tokenizer, statistics, method
        self.step_s, self.seed, self.ddim_steps, self.cfg_scale = step_s, seed, ddim_steps, cfg_scale
        self._synchronize = torch.cuda.synchronize if model.device.type == "cuda" else None
        self._prompt: tuple[str, list[int]] = ("", [])
        self._memory: FrameMemory | None = None
        if method.reuse is not None:
            self._memory = FrameMemory(method.reuse, model.config.decoder.num_layers, method.max_frame_gap_s)

    def reset(self) -> None:
        """A new episode: nothing is taken from the frames before. May be called while an inference runs."""
        if self._memory is not None:
            self._memory.reset()

    @torch.inference_mode()
    def infer(self, observation: Observation) -> ActionChunk:
        """Raises ValueError for an instruction that gives no prompt."""
        timer = StageTimer(self._synchronize)
        with timer.stage("preprocess"):
            ring = self._ring(observation)
            input_ids = self._input_ids(observation.instruction)
            picture = resize(observation.rgb)  # [224, 224, 3]
            dino, siglip = (tower[None] for tower in normalize(picture))  # [1, 3, 224, 224]
        with timer.stage("vision"):
            visual = self.model.encode_images(dino, siglip)  # [1, N, D]
        frame_seed = self._frame_seed(observation.stamp_ns)
        with timer.stage("llm"):
            reuse = None
            if self._memory is not None:
                reuse = self._memory.begin(observation.instruction, observation.stamp_ns, picture)
            output = self.model.cognition(visual, [input_ids], self._pruning(ring, frame_seed), reuse=reuse)
            if self._memory is not None:
                self._memory.end(reuse)
        with timer.stage("head"):
            noise = torch.randn(1, CHUNK_STEPS, ACTION_DIM, generator=torch.Generator().manual_seed(frame_seed))
            samples = self.model.sample_actions(
                output.cognition, noise, self.ddim_steps, self.cfg_scale, self.method.head_cache_interval
            )  # [1, 16, 7]
            actions = self.statistics.unnormalize(samples[0].cpu().numpy())
        selection = output.selections[0].cpu() if output.selections else keep_all(visual.shape[1], "cpu")
        times = StageTimes(**{f"{stage}_ms": timer.stage_ms(stage) for stage in STAGES}, total_ms=timer.total_ms)
        return ActionChunk(
            actions=actions,
            step_s=self.step_s,
            stamp_ns=observation.stamp_ns,
            selection=selection,
            ring=ring,
            times=times,
            base_T_ee=observation.base_T_ee,
            fallback=self.method.fallback(ring),
            computed_tokens=output.computed,
        )

    def warm_up(self, width: int = 640, height: int = 480, runs: int = 2) -> None:
        """Runs on a grey frame, so that the first real one meets allocated memory and chosen kernels."""
        frame = Observation(rgb=np.full((height, width, 3), 128, np.uint8), stamp_ns=0, instruction="warm up")
        for _ in range(runs):
            self.infer(frame)
        self.reset()

    def _ring(self, observation: Observation) -> Ring:
        method = self.method
        return ring_from_geometry(
            observation.camera,
            observation.camera_T_ee,
            np.array(method.ee_points_m),
            method.ring_radius_tokens,
            method.budget(),
        )

    def _pruning(self, ring: Ring, frame_seed: int) -> Pruning | None:
        """What the decoder drops in a frame with this ring."""
        method = self.method
        if not method.prunes(ring):
            return None
        mask = torch.from_numpy(ring.mask).to(self.model.device, non_blocking=True)

        def select(scores: Tensor | None, features: Tensor | None) -> TokenSelection:
            return method.selector.select(scores, mask, method.budget(), frame_seed, features)

        return Pruning(
            prune_layer=method.prune_layer,
            score_layer=method.score_layer,
            select=select,
            needs_scores=method.selector.needs_scores,
            needs_features=method.selector.needs_features,
            queries=method.queries,
        )

    def _input_ids(self, instruction: str) -> list[int]:
        if self._prompt[0] != instruction:  # the instruction changes rarely
            self._prompt = (instruction, self.tokenizer.encode(instruction))
        return self._prompt[1]

    def _frame_seed(self, stamp_ns: int) -> int:
        digest = hashlib.blake2b(f"{self.seed}:{stamp_ns}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "little") >> 1  # torch takes 63 bits
