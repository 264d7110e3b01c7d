# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Runs a bag through the policy without DDS: the live node's own message checks, transforms and engine, frame by frame.

Deterministic: the outcome depends on the bag, the checkpoint, the parameters and the seed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from sqap_vla.evaluation.step import StepRecord
from sqap_vla.nodes.bag_observations import BagFrame, BagObservations
from sqap_vla.nodes.conversions import InputError
from sqap_vla.nodes.policy_parameters import PolicyParameters
from sqap_vla.nodes.replay_feed import ReplayFeed
from sqap_vla.runtime.engine import Engine


@dataclass(frozen=True)
class ReplayedFrame:
    """What became of one image: a record, or the reason why there is none. warnings: what it had to do without."""

    stamp_ns: int
    record: StepRecord | None
    rgb: np.ndarray | None
    problem: InputError | None = None
    warnings: tuple[InputError, ...] = ()


class OfflinePolicy:
    """The policy node's way from messages to chunks, driven by a feed instead of DDS."""

    def __init__(self, engine: Engine, params: PolicyParameters) -> None:
        self._engine = engine
        self._observations = BagObservations(params)

    def run(self, feed: ReplayFeed) -> Iterator[ReplayedFrame]:
        return map(self._infer, self._observations.run(feed))

    def _infer(self, frame: BagFrame) -> ReplayedFrame:
        if frame.restarted:
            self._engine.reset()
        observation = frame.observation
        if observation is None:
            return ReplayedFrame(frame.stamp_ns, None, None, frame.problem)
        chunk = self._engine.infer(observation)
        record = StepRecord.from_chunk(chunk, observation, frame.recorded_action, wall_ms=chunk.times.total_ms)
        return ReplayedFrame(frame.stamp_ns, record, observation.rgb, None, frame.warnings)
