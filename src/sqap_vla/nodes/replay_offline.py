# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Runs a bag through the policy without DDS: the live node's own message checks, transforms and engine, one frame at a time.

Deterministic: the outcome depends on the bag, the checkpoint, the parameters and the seed.
"""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import tf2_ros

from sqap_vla.evaluation.step import StepRecord
from sqap_vla.nodes.conversions import InputError, stamp_ns
from sqap_vla.nodes.input_monitor import StampGate
from sqap_vla.nodes.observation import ObservationBuilder
from sqap_vla.nodes.policy_parameters import PolicyParameters
from sqap_vla.nodes.replay_feed import Fed, ReplayFeed
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
        self._buffer = tf2_ros.Buffer()
        self._builder = ObservationBuilder(params.make_frames(), self._buffer, params.instruction)
        self._gate = StampGate(params.max_image_age_s, params.future_tolerance_s)
        self._last_ns = 0

    def run(self, feed: ReplayFeed) -> Iterator[ReplayedFrame]:
        for fed in feed:
            if fed.kind == "image":
                yield self._infer(fed)
            elif fed.kind == "camera_info":
                self._builder.set_camera_info(fed.message)
            elif fed.kind == "instruction":
                self._builder.instruction = fed.message.data
            else:
                add = self._buffer.set_transform_static if fed.kind == "tf_static" else self._buffer.set_transform
                for transform in fed.message.transforms:
                    add(transform, "replay")

    def _infer(self, fed: Fed) -> ReplayedFrame:
        at_ns = stamp_ns(fed.message.header.stamp)
        if at_ns < self._last_ns:  # the recording's clock went back, as live: start over
            self._gate.reset()
            self._engine.reset()
            self._buffer.clear()  # it would drop what is older than what it has
        self._last_ns = at_ns
        try:
            self._gate.check(at_ns, at_ns)
            built = self._builder.build(fed.message)
        except InputError as error:
            return ReplayedFrame(at_ns, None, None, error)
        observation = built.observation
        chunk = self._engine.infer(observation)
        record = StepRecord.from_chunk(chunk, observation, fed.recorded_action, wall_ms=chunk.times.total_ms)
        return ReplayedFrame(at_ns, record, observation.rgb, None, built.warnings)
