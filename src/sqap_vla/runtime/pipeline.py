# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The network's stages on fixed buffers: pictures and prompts in, samples out, nothing asked of the device in between.

    upload_pictures() camera frames: host -> device, resized there
    vision()          pictures -> visual tokens
    upload()          ids, ring masks, drawn tokens, noise: host -> device; meanwhile the device sees
    llm()             visual tokens, ids -> cognition, kept tokens
    head()            cognition, noise -> samples
    download()        samples, kept tokens: device -> host; the first wait, and the only one without reuse of tokens

On CUDA each stage is a graph (captured.py), so a frame is a few launches. Prompts are padded on the right to a multiple
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

from sqap_vla.cogact.llama import DecoderOutput, Pruning, TokenReuse
from sqap_vla.cogact.model import CogAct
from sqap_vla.cogact.preprocess import normalize_pictures
from sqap_vla.cogact.prompt import MAX_PROMPT_TOKENS
from sqap_vla.pruning.selection import TokenSelection, keep_all
from sqap_vla.runtime.captured import CapturedStep
from sqap_vla.runtime.methods.base import Method
from sqap_vla.runtime.pictures import Pictures
from sqap_vla.runtime.transfers import Transfer

LENGTH_STEP_CUDA = 32


@dataclass(frozen=True, eq=False)
class Frame:
    """What one row of a batch is made of besides its picture, on the host. ids: the prompt's. ring: bool [N]. seed: of
    the selector's draw. noise: float32 [T, C].
    """

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
    length_step: None is 32 with graphs and no padding without. Not thread-safe; made and called in inference mode.
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
        hidden_size = model.config.decoder.hidden_size
        text = {"ids": ((batch, MAX_PROMPT_TOKENS), torch.int64), "last": ((batch,), torch.int64)}
        ring = {"ring": ((batch, self._visual_tokens), torch.bool)}
        chunk = (batch, head.chunk_steps, head.action_dim)
        kept = {"kept": ((batch, self._budget), torch.int64), "reason": ((batch, self._budget), torch.uint8)}
        self._pictures = Pictures(batch, device, device if self._captured else None, read=method.reuse is not None)
        self._text = Transfer(text, device)
        self._prompts: list[list[int]] = []  # those that `_text` holds
        self._inputs = Transfer(ring | {"noise": (chunk, torch.float32)} | kept, device)
        self._outputs = Transfer({"samples": (chunk, torch.float32)} | kept, device)
        self._every_token = keep_all(self._visual_tokens, "cpu")
        self._seeds = [0] * batch
        self._drawn: list[TokenSelection] = []  # on the host
        self._visual = torch.zeros(batch, self._visual_tokens, hidden_size, dtype=model.dtype, device=device)
        self._cognition = torch.zeros(batch, hidden_size, dtype=model.dtype, device=device)

        self._pool = torch.cuda.graph_pool_handle() if self._captured else None
        self._vision = self._step(self._run_vision)
        self._head = self._step(self._run_head)
        self._llm: dict[tuple[int, bool], CapturedStep] = {}
        self._computed: dict[tuple[int, bool], tuple[int, ...]] = {}
        self._length, self._pruned = 0, False

    def upload_pictures(self, frames: Sequence[np.ndarray]) -> None:
        """One for each row: uint8 [H, W, 3], 224x224 or `resizable` to it. Raises ValueError for another number."""
        self._check_rows(len(frames))
        self._pictures.upload(frames)

    def resized(self) -> np.ndarray:
        """The pictures that the network sees, uint8 [B, 224, 224, 3], for a method that compares them with the next
        frame's. Waits for the resize alone."""
        return self._pictures.host().copy()

    def vision(self) -> None:
        self._vision()

    def upload(self, frames: Sequence[Frame], pruned: bool) -> None:
        """One frame for each row. pruned: whether tokens are dropped, in all rows or in none. Raises ValueError for
        another number of frames or a prompt that is too long."""
        self._check_rows(len(frames))
        prompts = [list(frame.ids) for frame in frames]
        if prompts != self._prompts:  # which changes rarely
            self._upload_prompts(prompts)
        self._pruned = pruned and self._method.selector is not None
        self._seeds = [frame.seed for frame in frames]
        host = self._inputs.host()
        for row, frame in enumerate(frames):
            host["ring"][row], host["noise"][row] = frame.ring, frame.noise
        if self._draws_on_host():
            select, budget = self._method.selector.select, self._budget
            self._drawn = [select(None, torch.from_numpy(frame.ring), budget, frame.seed) for frame in frames]
            for row, selection in enumerate(self._drawn):
                host["kept"][row], host["reason"][row] = selection.kept, selection.reason
        self._inputs.upload()

    def llm(self, reuse: TokenReuse | None = None) -> None:
        """reuse: see LlamaDecoder; for a batch of one without pruning."""
        key = (self._length, self._pruned)
        if reuse is not None:
            self._run_llm(*key, reuse)
            return
        if key not in self._llm:
            self._llm[key] = self._step(lambda: self._run_llm(*key))
        self._llm[key]()

    def head(self) -> None:
        self._head()

    def download(self) -> Result:
        self._outputs.fetch()
        host = self._outputs.host()
        if not self._pruned:
            every = self._every_token
            selections = [TokenSelection(every.kept.clone(), every.reason.clone()) for _ in range(self._batch)]
        elif self._draws_on_host():
            selections = self._drawn
        else:
            rows = zip(host["kept"].copy(), host["reason"].copy(), strict=True)
            selections = [TokenSelection(*map(torch.from_numpy, row)) for row in rows]
        return Result(host["samples"].copy(), tuple(selections), self._computed[self._length, self._pruned])

    def _check_rows(self, rows: int) -> None:
        if rows != self._batch:
            raise ValueError(f"{rows} frames for a batch of {self._batch}; give one for each row")

    def _upload_prompts(self, prompts: list[list[int]]) -> None:
        longest = max(map(len, prompts))
        length = min(-(-longest // self._length_step) * self._length_step, MAX_PROMPT_TOKENS)
        ids, last = self._model.pad_ids(prompts, self._visual.shape[:2], length)
        host = self._text.host()
        host["ids"][:, :length], host["last"][:] = ids, last  # what lies beyond this length is not read
        self._text.upload()
        self._prompts, self._length = prompts, length

    def _draws_on_host(self) -> bool:
        return self._pruned and self._method.selector.on_host

    def _step(self, run: Callable[[], None]) -> CapturedStep:
        return CapturedStep(run, self._model.device if self._captured else None, self._pool)

    def _run_vision(self) -> None:
        self._visual.copy_(self._model.encode_images(*normalize_pictures(self._pictures.device)))

    def _run_llm(self, length: int, pruned: bool, reuse: TokenReuse | None = None) -> None:
        embeds = self._model.embed_ids(self._visual, self._text.device["ids"][:, :length])  # [B, N + L, D]
        visual = slice(1, 1 + self._visual_tokens)
        output: DecoderOutput = self._model.decoder(
            embeds, self._text.device["last"], visual, self._prunings() if pruned else None, reuse=reuse
        )
        self._cognition.copy_(output.cognition)
        if pruned and not self._method.selector.on_host:
            for row, selection in enumerate(output.selections):
                self._outputs.device["kept"][row].copy_(selection.kept)
                self._outputs.device["reason"][row].copy_(selection.reason)
        self._computed[length, pruned] = output.computed

    def _run_head(self) -> None:
        samples = self._sampler.sample(self._cognition.float(), self._inputs.device["noise"])
        self._outputs.device["samples"].copy_(samples)

    def _prunings(self) -> list[Pruning]:
        return [self._pruning(row) for row in range(self._batch)]

    def _pruning(self, row: int) -> Pruning:
        method, selector, inputs = self._method, self._method.selector, self._inputs.device

        def select(scores: Tensor | None, features: Tensor | None) -> TokenSelection:
            if selector.on_host:
                return TokenSelection(inputs["kept"][row], inputs["reason"][row])
            return selector.select(scores, inputs["ring"][row], self._budget, self._seeds[row], features)

        return Pruning(
            prune_layer=method.prune_layer,
            score_layer=method.score_layer,
            select=select,
            needs_scores=selector.needs_scores,
            needs_features=selector.needs_features,
            queries=method.queries,
        )
