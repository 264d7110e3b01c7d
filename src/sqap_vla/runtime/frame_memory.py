# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""What a method carries from one frame to the next, and when it must forget.

It forgets when the instruction changes, when a frame is not newer than the last or comes too long after it, and when
it is told to (a new episode). So chunks depend on the frames since then, and on nothing before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from torch import Tensor

from sqap_vla.cogact.token_reuse import AttentionTrace, KeyValues, TokenReuse


class ReusePolicy(Protocol):
    """Which tokens of a frame may be taken from the one before (VlaCachePolicy is one).

    reuse_layers: zero-based, ascending, from which on tokens may stand aside.
    """

    @property
    def reuse_layers(self) -> tuple[int, ...]: ...

    def relevance_layer_of(self, num_layers: int) -> int: ...

    def plan(
        self, previous: np.ndarray, picture: np.ndarray, entropy: Tensor, relevance: Tensor, first_visual: int = 1
    ) -> dict[int, Tensor]: ...


@dataclass(frozen=True, eq=False)
class _Frame:
    instruction: str
    stamp_ns: int
    picture: np.ndarray
    key_values: KeyValues
    trace: AttentionTrace


class FrameMemory:
    """The last frame of one camera. One frame at a time; `reset` may come from another thread.

    policy: chooses the tokens. num_layers: of the decoder. max_gap_s: longest time between two frames that follow
    each other. Raises ValueError for a policy that does not fit the decoder.
    """

    def __init__(self, policy: ReusePolicy, num_layers: int, max_gap_s: float) -> None:
        self._policy = policy
        self._relevance_layer = policy.relevance_layer_of(num_layers)
        self._max_gap_ns = round(1e9 * max_gap_s)
        self._last: _Frame | None = None
        self._epoch = 0  # counts resets, so that a frame that was under way during one is not kept

    def reset(self) -> None:
        """A new episode: the next frame is computed whole."""
        self._epoch += 1
        self._last = None

    @property
    def num_bytes(self) -> int:
        """Memory held for the next frame."""
        last = self._last
        return last.key_values.num_bytes if last is not None else 0

    def begin(self, instruction: str, stamp_ns: int, picture: np.ndarray) -> TokenReuse:
        """What the decoder takes from the last frame. picture: uint8 [S, S, 3] as the network sees it."""
        self._begun = self._epoch, instruction, stamp_ns, picture
        last = self._last
        if last is None or not self._follows(last, instruction, stamp_ns):
            return TokenReuse(self._relevance_layer)
        trace = last.trace
        reused = self._policy.plan(last.picture, picture, trace.entropy, trace.relevance)
        return TokenReuse(self._relevance_layer, last.key_values, reused)

    def end(self, reuse: TokenReuse) -> None:
        """Keeps the frame that was begun, after the decoder ran with `reuse`."""
        epoch, instruction, stamp_ns, picture = self._begun
        frame = _Frame(instruction, stamp_ns, picture, reuse.key_values, reuse.trace)
        if epoch == self._epoch:
            self._last = frame

    def _follows(self, last: _Frame, instruction: str, stamp_ns: int) -> bool:
        return instruction == last.instruction and 0 < stamp_ns - last.stamp_ns <= self._max_gap_ns
