# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Adaptive ensemble of overlapping action chunks (CogACT section 3.3; its AdaptiveEnsembler).

Chunk t predicts steps t .. t+15, so a step is predicted by several chunks. Its action is their mean with
weights exp(alpha * cos(older prediction, newest prediction)): predictions that disagree in direction with the
newest count less.

CogACT ensembles only the row it executes next. Here every row of the newest chunk is ensembled the same way,
because a robot executes later rows while the next inference runs; row 0 equals CogACT's. Chunks carry the
step they start at: where steps are skipped because inference is slower than the robot, predictions still meet
at the step they were made for.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from sqap_vla.runtime.types import ACTION_DIM, CHUNK_STEPS


class AdaptiveEnsemble:
    """Ensemble over the last `horizon` chunks (CogACT: 2 on the Google robot, 7 on WidowX; 1 passes chunks
    through).

    Raises ValueError for a horizon below 1 or an alpha that is not finite.
    """

    def __init__(self, horizon: int, alpha: float = 0.1) -> None:
        if horizon < 1:
            raise ValueError(f"ensemble horizon is {horizon} chunks; it must be >= 1 (1 is no ensemble)")
        if not np.isfinite(alpha):
            raise ValueError(f"ensemble alpha is {alpha}; it must be finite, 0.1 in CogACT")
        self.horizon = horizon
        self.alpha = alpha
        # (first step, actions) of each chunk, oldest first
        self._history: deque[tuple[int, np.ndarray]] = deque(maxlen=horizon)

    def reset(self) -> None:
        """Forget all chunks, at the start of an episode."""
        self._history.clear()

    def update(self, actions: np.ndarray, step: int | None = None) -> np.ndarray:
        """Add a chunk and return it ensembled: row j is the action of step `step` + j.

        actions: floating [16, 7]; the result has its dtype. step: absolute step of row 0, by default one
        after the last chunk's. A second chunk for the same step replaces the first.
        Raises ValueError for a wrong shape, values that are not finite, a step before the last one; then
        nothing is added.
        """
        if actions.shape != (CHUNK_STEPS, ACTION_DIM) or not np.issubdtype(actions.dtype, np.floating):
            raise ValueError(f"actions is {actions.dtype} {actions.shape}; it must be floating point [16, 7]")
        if not np.isfinite(actions).all():
            raise ValueError("actions holds a value that is not finite; drop the chunk")
        last_step = self._history[-1][0] if self._history else None
        if step is None:
            step = 0 if last_step is None else last_step + 1
        elif last_step is not None and step < last_step:
            raise ValueError(
                f"step {step} lies before the last chunk's, {last_step}; call reset() at the start of an episode"
            )
        if step == last_step:
            self._history.pop()
        self._history.append((step, actions.copy()))

        predictions = np.zeros((len(self._history), CHUNK_STEPS, ACTION_DIM), actions.dtype)  # [H, 16, 7]
        covered = np.zeros((len(self._history), CHUNK_STEPS), dtype=bool)  # older chunks end earlier
        for row, (first, chunk) in enumerate(self._history):
            overlap = max(CHUNK_STEPS - (step - first), 0)
            predictions[row, :overlap] = chunk[CHUNK_STEPS - overlap :]
            covered[row, :overlap] = True
        dot = (predictions * actions).sum(axis=-1)  # [H, 16]
        norms = np.linalg.norm(predictions, axis=-1) * np.linalg.norm(actions, axis=-1)
        cosine = dot / (norms + 1e-7)
        weights = np.exp(self.alpha * cosine) * covered
        weights /= weights.sum(axis=0)
        return (weights[..., None] * predictions).sum(axis=0)
