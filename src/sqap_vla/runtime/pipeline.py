# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The network's stages on fixed buffers: pictures and prompts in, samples out, nothing asked of the device in between.

    upload()   pictures, ids, ring masks, drawn tokens, noise: host -> device
    vision()   pictures -> visual tokens
    llm()      visual tokens, ids -> cognition, kept tokens
    head()     cognition, noise -> samples
    download() samples, kept tokens: device -> host; the first and only wait

On CUDA each stage is a graph (captured.py), so a frame is three launches. Prompts are padded on the right to a multiple
of `length_step` tokens, which changes nothing for the tokens before: attention is causal, and only the last real token
is read. There is one graph for each padded length and for pruning or not, made when it is first met.

Sizes do not depend on the frame: a selector keeps a fixed number of tokens, by index. One that draws on the host
(TokenSelector.on_host) does so in upload(). Reuse of tokens from the frame before has shapes that only the device
knows, so that stage then runs uncaptured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sqap_vla.cogact.llama import DecoderOutput, Pruning, TokenReuse
from sqap_vla.cogact.model import CogAct
from sqap_vla.cogact.preprocess import IMAGE_SIZE_PX, normalize_pictures
from sqap_vla.cogact.prompt import MAX_PROMPT_TOKENS
from sqap_vla.cogact.resize import resize_pictures
from sqap_vla.pruning.selection import TokenSelection, keep_all
from sqap_vla.runtime.captured import CapturedStep
from sqap_vla.runtime.methods.base import Method

LENGTH_STEP_CUDA = 32


@dataclass(frozen=True, eq=False)
class Frame:
    """What one row of a batch is made of, on the host. picture: uint8 [224, 224, 3], or what is `resizable` to it.
    ids: the prompt's. ring: bool [N]. seed: of the selector's draw. noise: float32 [T, C].
    """

    picture: np.ndarray
    ids: Sequence[int]
    ring: np.ndarray
    seed: int
    noise: Tensor


@dataclass(frozen=True, eq=False)
class Result:
    """On the host. samples: float32 [B, T, C], normalised. selections: one for each row. computed: tokens of each
    decoder layer, padding included.
    """

    samples: np.ndarray
    selections: tuple[TokenSelection, ...]
    computed: tuple[int, ...]


class Pipeline:
    """One model and method at one batch size. captured: whether the stages become CUDA graphs, where there is CUDA.
    length_step: None is 32 with graphs and no padding without. Not thread-safe.
    """

    def __init__(
        self,
        model: CogAct,
        method: Method,
        batch: int = 1,
        ddim_steps: int = 10,
        cfg_scale: float = 1.5,
        length_step: int | None = None,
        captured: bool = True,
    ) -> None:
        self._captured = captured and model.device.type == "cuda"
        self._model, self._method, self._batch = model, method, batch
        device, head = model.device, model.config.head
        if method.selector is not None and method.selector.on_host and method.selector.needs_scores:
            raise ValueError("a selector that draws on the host cannot see the scores, which only the device has")
        if length_step is None:
            length_step = LENGTH_STEP_CUDA if self._captured else 1
        self._length_step = length_step
        self._visual_tokens = model.config.dino.num_patches
        self._budget = method.budget(self._visual_tokens)
        self._sampler = model.action_model.sampler(ddim_steps, cfg_scale, method.head_cache_interval)
        shape = (batch, self._visual_tokens)

        def buffer(*size: int, dtype: torch.dtype) -> Tensor:
            return torch.zeros(*size, dtype=dtype, device=device)

        self._pictures = _Upload(buffer(batch, IMAGE_SIZE_PX, IMAGE_SIZE_PX, 3, dtype=torch.uint8))
        self._ids = _Upload(buffer(batch, MAX_PROMPT_TOKENS, dtype=torch.int64))
        self._last = _Upload(buffer(batch, dtype=torch.int64))
        self._ring = _Upload(buffer(*shape, dtype=torch.bool))
        self._noise = _Upload(buffer(batch, head.chunk_steps, head.action_dim, dtype=torch.float32))
        self._camera: _Upload | None = None  # pictures of the size that the camera now has
        self._seeds = [0] * batch
        self._visual = buffer(*shape, model.config.decoder.hidden_size, dtype=model.dtype)
        self._cognition = buffer(batch, model.config.decoder.hidden_size, dtype=model.dtype)
        self._kept = buffer(batch, self._budget, dtype=torch.int64)
        self._reason = buffer(batch, self._budget, dtype=torch.uint8)
        self._samples = buffer(batch, head.chunk_steps, head.action_dim, dtype=torch.float32)

        self._pool = torch.cuda.graph_pool_handle() if self._captured else None
        self._vision = self._step(self._run_vision)
        self._head = self._step(self._run_head)
        self._llm: dict[tuple[int, bool], CapturedStep] = {}
        self._computed: dict[tuple[int, bool], tuple[int, ...]] = {}
        self._length, self._pruned = 0, False

    @torch.inference_mode()
    def upload(self, frames: Sequence[Frame], pruned: bool) -> None:
        """One frame for each row. pruned: whether tokens are dropped, in all rows or in none. Raises ValueError for
        another number of frames or a prompt that is too long."""
        if len(frames) != self._batch:
            raise ValueError(f"{len(frames)} frames for a batch of {self._batch}; give one for each row")
        prompts = [frame.ids for frame in frames]
        longest = max(map(len, prompts))
        self._length = min(-(-longest // self._length_step) * self._length_step, MAX_PROMPT_TOKENS)
        self._pruned = pruned and self._method.selector is not None
        ids, last = self._model.pad_ids(prompts, self._visual.shape[:2], self._length)
        rings = torch.from_numpy(np.stack([frame.ring for frame in frames]))  # [B, N]
        self._write_pictures([frame.picture for frame in frames])
        self._ids.write(F.pad(ids, (0, MAX_PROMPT_TOKENS - self._length)))
        self._last.write(last)
        self._ring.write(rings)
        self._noise.write(torch.stack([frame.noise for frame in frames]))
        self._seeds = [frame.seed for frame in frames]
        if self._pruned and self._method.selector.on_host:
            selector = self._method.selector
            drawn = zip(rings, self._seeds, strict=True)
            self._store([selector.select(None, ring, self._budget, seed) for ring, seed in drawn])

    @torch.inference_mode()
    def vision(self) -> None:
        self._vision()

    @torch.inference_mode()
    def llm(self, reuse: TokenReuse | None = None) -> None:
        """reuse: see LlamaDecoder; for a batch of one without pruning."""
        key = (self._length, self._pruned)
        if reuse is not None:
            self._run_llm(*key, reuse)
            return
        if key not in self._llm:
            self._llm[key] = self._step(lambda: self._run_llm(*key))
        self._llm[key]()

    @torch.inference_mode()
    def head(self) -> None:
        self._head()

    @torch.inference_mode()
    def download(self) -> Result:
        samples = self._samples.cpu().numpy().copy()
        if self._pruned:
            rows = zip(self._kept.cpu().clone(), self._reason.cpu().clone(), strict=True)
            selections = tuple(TokenSelection(kept, reason) for kept, reason in rows)
        else:
            selections = tuple(keep_all(self._visual_tokens, "cpu") for _ in range(self._batch))
        return Result(samples, selections, self._computed[self._length, self._pruned])

    def _write_pictures(self, pictures: Sequence[np.ndarray]) -> None:
        """Those of a camera's own size are uploaded as they are, and resized there."""
        for row, picture in enumerate(pictures):
            values, resized = torch.from_numpy(picture), self._pictures.device
            if values.shape == resized.shape[1:]:
                self._pictures.write(values, row)
                continue
            if self._camera is None or values.shape != self._camera.device.shape[1:]:
                self._camera = _Upload(resized.new_zeros(self._batch, *values.shape))
            self._camera.write(values, row)
            resized[row].copy_(resize_pictures(self._camera.device[row][None], IMAGE_SIZE_PX)[0])

    def _step(self, run: Callable[[], None]) -> CapturedStep:
        return CapturedStep(run, self._model.device if self._captured else None, self._pool)

    def _run_vision(self) -> None:
        self._visual.copy_(self._model.encode_images(*normalize_pictures(self._pictures.device)))

    def _run_llm(self, length: int, pruned: bool, reuse: TokenReuse | None = None) -> None:
        embeds = self._model.embed_ids(self._visual, self._ids.device[:, :length])  # [B, N + L, D]
        visual = slice(1, 1 + self._visual_tokens)
        output: DecoderOutput = self._model.decoder(
            embeds, self._last.device, visual, self._prunings() if pruned else None, reuse=reuse
        )
        self._cognition.copy_(output.cognition)
        if pruned and not self._method.selector.on_host:
            self._store(output.selections)
        self._computed[length, pruned] = output.computed

    def _run_head(self) -> None:
        self._samples.copy_(self._sampler.trajectory(self._cognition.float(), self._noise.device)[-1].sample)

    def _store(self, selections: Sequence[TokenSelection]) -> None:
        for row, selection in enumerate(selections):
            self._kept[row].copy_(selection.kept, non_blocking=True)
            self._reason[row].copy_(selection.reason, non_blocking=True)

    def _prunings(self) -> list[Pruning]:
        return [self._pruning(row) for row in range(self._batch)]

    def _pruning(self, row: int) -> Pruning:
        method, selector = self._method, self._method.selector

        def select(scores: Tensor | None, features: Tensor | None) -> TokenSelection:
            if selector.on_host:
                return TokenSelection(self._kept[row], self._reason[row])
            return selector.select(scores, self._ring.device[row], self._budget, self._seeds[row], features)

        return Pruning(
            prune_layer=method.prune_layer,
            score_layer=method.score_layer,
            select=select,
            needs_scores=selector.needs_scores,
            needs_features=selector.needs_features,
            queries=method.queries,
        )


class _Upload:
    """A fixed tensor that the host writes: through page-locked memory, so that the copy does not wait.

    Its next write must come after something that waited for the device, as download() does.
    """

    def __init__(self, device: Tensor) -> None:
        self.device = device
        on_cuda = device.device.type == "cuda"
        self._host = torch.empty_like(device, device="cpu", pin_memory=True) if on_cuda else None

    def write(self, values: Tensor, row: int | None = None) -> None:
        """row: only that one is written."""
        device = self.device if row is None else self.device[row]
        if self._host is None:
            device.copy_(values)
        else:
            host = self._host if row is None else self._host[row]
            host.copy_(values)
            device.copy_(host, non_blocking=True)
