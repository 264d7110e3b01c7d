# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Observation in, action chunk out: the one place where the network runs.

A chunk depends on the observation, the weights, the method and the seed, and on nothing else: the head's noise and the
random method's draw come from (seed, stamp). So a bag gives the same chunks offline and over DDS. A method that reuses
tokens looks at the frames before as well, as far back as the last reset (frame_memory.py).
"""

from __future__ import annotations

import functools
import hashlib
import time
from collections.abc import Sequence

import numpy as np
import torch

from sqap_vla.cogact.fast_head import with_fast_head
from sqap_vla.cogact.model import CogAct
from sqap_vla.cogact.normalization import ActionStatistics
from sqap_vla.cogact.preprocess import IMAGE_SIZE_PX, check_rgb, resize
from sqap_vla.cogact.prompt import Tokenizer
from sqap_vla.cogact.resize import resizable
from sqap_vla.pruning.ring import Ring, ring_from_geometry
from sqap_vla.quantization.joined import join_layers
from sqap_vla.quantization.linear import QuantizedLinear
from sqap_vla.quantization.quantizer import Granularity
from sqap_vla.runtime.captured import CudaMarks
from sqap_vla.runtime.frame_memory import FrameMemory
from sqap_vla.runtime.methods.base import Method
from sqap_vla.runtime.pipeline import Frame, Pipeline
from sqap_vla.runtime.timing import StageTimer
from sqap_vla.runtime.types import ACTION_DIM, CHUNK_STEPS, ActionChunk, Observation, StageTimes

PROMPTS_KEPT = 64


class Engine:
    """One model, one method, one robot. Not thread-safe: one inference at a time.

    step_s: time of one row of the chunk. captured: run as CUDA graphs where there is CUDA. Raises ValueError where
    method and network do not fit.
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
        captured: bool = True,
    ) -> None:
        method.check_fits(model.config.decoder.num_layers)
        if method.reduction is not None:
            model = method.reduction.apply(model, tokenizer)
        model = join_layers(model)
        if captured:  # launch by launch the head stays as the original runs it, in float32
            model = with_fast_head(model)
        self.model, self.tokenizer, self.statistics, self.method = model, tokenizer, statistics, method
        self.step_s, self.seed, self.ddim_steps, self.cfg_scale = step_s, seed, ddim_steps, cfg_scale
        self._captured = captured
        self._padding: int | None = 1 if _shares_scales_between_tokens(model) else None
        self._pipelines: dict[int, Pipeline] = {}
        self._encode = functools.lru_cache(maxsize=PROMPTS_KEPT)(tokenizer.encode)  # instructions change rarely
        self._noise = torch.Generator()
        self._ee_points_m = np.array(method.ee_points_m)
        self._memory: FrameMemory | None = None
        if method.reuse is not None:
            self._memory = FrameMemory(method.reuse, model.config.decoder.num_layers, method.max_frame_gap_s)
        on_cuda = model.device.type == "cuda"
        self._marks = CudaMarks() if on_cuda else None
        self._resizes_on_device = on_cuda  # Pillow is faster on a CPU

    def reset(self) -> None:
        """A new episode: nothing is taken from the frames before. May be called while an inference runs."""
        if self._memory is not None:
            self._memory.reset()

    def infer(self, observation: Observation) -> ActionChunk:
        """Raises ValueError for an instruction that gives no prompt."""
        return self._run([observation])[0]

    def predict_batch(self, observations: Sequence[Observation]) -> list[ActionChunk]:
        """One chunk for each observation: several robots, or parallel simulation. Each is the one that `infer` gives,
        up to rounding. `times` are those of the batch that a frame was in.

        Raises ValueError for an instruction that gives no prompt, no observations at all, or a method that reuses
        tokens: it follows one camera.
        """
        if self._memory is not None:
            raise ValueError(f"method {self.method.name!r} follows one camera from frame to frame; call infer")
        if not observations:
            raise ValueError("there are no observations; give at least one")
        # Rows of a batch keep equally many tokens, so frames that are not pruned for want of a ring go apart.
        rings = [self._ring(observation) for observation in observations]
        groups: dict[bool, list[int]] = {}
        for index, ring in enumerate(rings):
            groups.setdefault(self.method.prunes(ring), []).append(index)
        chunks: dict[int, ActionChunk] = {}
        for indices in groups.values():
            together = self._run([observations[index] for index in indices], [rings[index] for index in indices])
            chunks |= zip(indices, together, strict=True)
        return [chunks[index] for index in range(len(observations))]

    @torch.inference_mode()
    def _run(self, observations: Sequence[Observation], rings: Sequence[Ring] | None = None) -> list[ActionChunk]:
        """One batch, all of it pruned or none. rings: where they are known already."""
        timer, started_s = self._timer(), time.perf_counter()
        pipeline = self._pipeline(len(observations))
        prompts = [self._encode(observation.instruction) for observation in observations]
        pipeline.upload_pictures([self._picture(observation.rgb) for observation in observations])
        timer.mark("preprocess")
        pipeline.vision()
        timer.mark("vision")
        if rings is None:  # on CUDA the device sees meanwhile
            rings = [self._ring(observation) for observation in observations]
        rows = zip(observations, prompts, rings, strict=True)
        pipeline.upload([self._frame(*row) for row in rows], self.method.prunes(rings[0]))
        timer.mark("preprocess")
        if self._memory is None:
            pipeline.llm()
        else:
            (observation,), (picture,) = observations, pipeline.resized()
            reuse = self._memory.begin(observation.instruction, observation.stamp_ns, picture)
            pipeline.llm(reuse)
            self._memory.end(reuse)
        timer.mark("llm")
        pipeline.head()
        timer.mark("head")
        result = pipeline.download()
        total_ms = 1e3 * (time.perf_counter() - started_s)
        times = StageTimes(**{f"{stage}_ms": ms for stage, ms in timer.stages_ms().items()}, total_ms=total_ms)
        rows = zip(observations, rings, result.samples, result.selections, strict=True)
        return [
            ActionChunk(
                actions=self.statistics.unnormalize(samples),
                step_s=self.step_s,
                stamp_ns=observation.stamp_ns,
                selection=selection,
                ring=ring,
                times=times,
                base_T_ee=observation.base_T_ee,
                fallback=self.method.fallback(ring),
                computed_tokens=result.computed,
            )
            for observation, ring, samples, selection in rows
        ]

    def warm_up(self, width: int = 640, height: int = 480, runs: int = 2) -> None:
        """Runs on a grey frame, so that the first real one meets allocated memory, chosen kernels and, on CUDA,
        captured graphs: with pruning and, for a method that may do without in some frames, without."""
        frame = Observation(rgb=np.full((height, width, 3), 128, np.uint8), stamp_ns=0, instruction="warm up")
        for _ in range(runs):
            self.infer(frame)
        if self.method.uses_ring and self.method.no_geometry == "dense":  # the grey frame has no geometry
            self._warm_up_pruned(frame)
        self.reset()

    @torch.inference_mode()
    def _warm_up_pruned(self, observation: Observation) -> None:
        pipeline, ids = self._pipeline(1), self._encode(observation.instruction)
        pipeline.upload([self._frame(observation, ids, self._ring(observation))], pruned=True)
        pipeline.llm()

    def _pipeline(self, batch: int) -> Pipeline:
        if batch not in self._pipelines:
            self._pipelines[batch] = Pipeline(
                self.model, self.method, batch, self.ddim_steps, self.cfg_scale, self._padding, self._captured
            )
        return self._pipelines[batch]

    def _timer(self) -> StageTimer:
        if self._marks is None:
            return StageTimer()
        self._marks.restart()
        return StageTimer(self._marks.record, self._marks.elapsed_ms)

    def _picture(self, rgb: np.ndarray) -> np.ndarray:
        check_rgb(rgb)  # a frame that is resized on the device as well
        return rgb if self._resizes_on_device and resizable(*rgb.shape[:2], IMAGE_SIZE_PX) else resize(rgb)

    def _frame(self, observation: Observation, ids: Sequence[int], ring: Ring) -> Frame:
        seed = self._frame_seed(observation.stamp_ns)
        noise = torch.randn(CHUNK_STEPS, ACTION_DIM, generator=self._noise.manual_seed(seed))
        return Frame(ids, ring.mask, seed, noise)

    def _ring(self, observation: Observation) -> Ring:
        method = self.method
        return ring_from_geometry(
            observation.camera,
            observation.camera_T_ee,
            self._ee_points_m,
            method.ring_radius_tokens,
            method.budget(),
        )

    def _frame_seed(self, stamp_ns: int) -> int:
        digest = hashlib.blake2b(f"{self.seed}:{stamp_ns}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "little") >> 1  # torch takes 63 bits


def _shares_scales_between_tokens(model: CogAct) -> bool:
    """Whether padding would change the real tokens, since their activation scales are the whole tensor's."""
    layers = (module for module in model.modules() if isinstance(module, QuantizedLinear))
    return any(layer.spec.granularity is Granularity.TENSOR for layer in layers)
