# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The images of a bag as the policy would see them: the live node's own message checks and transforms, without DDS."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import tf2_ros

from sqap_vla.nodes.conversions import InputError, stamp_ns
from sqap_vla.nodes.input_monitor import StampGate
from sqap_vla.nodes.observation import ObservationBuilder
from sqap_vla.nodes.policy_parameters import PolicyParameters
from sqap_vla.nodes.replay_feed import Fed, ReplayFeed
from sqap_vla.runtime.types import Observation


@dataclass(frozen=True)
class BagFrame:
    """observation: None where the image cannot be used; `problem` says why. warnings: what it has to do without.
    restarted: the recording's clock went back before it, so nothing remembered from earlier frames holds any more.
    """

    stamp_ns: int
    observation: Observation | None
    recorded_action: np.ndarray | None
    restarted: bool = False
    problem: InputError | None = None
    warnings: tuple[InputError, ...] = ()


class BagObservations:
    """Frames of a feed, in its order."""

    def __init__(self, params: PolicyParameters) -> None:
        self._buffer = tf2_ros.Buffer()
        self._builder = ObservationBuilder(params.make_frames(), self._buffer, params.instruction)
        self._gate = StampGate(params.max_image_age_s, params.future_tolerance_s)
        self._last_ns = 0

    def run(self, feed: ReplayFeed) -> Iterator[BagFrame]:
        for fed in feed:
            if fed.kind == "image":
                yield self._frame(fed)
            elif fed.kind == "camera_info":
                self._builder.set_camera_info(fed.message)
            elif fed.kind == "instruction":
                self._builder.instruction = fed.message.data
            else:
                add = self._buffer.set_transform_static if fed.kind == "tf_static" else self._buffer.set_transform
                for transform in fed.message.transforms:
                    add(transform, "replay")

    def _frame(self, fed: Fed) -> BagFrame:
        at_ns = stamp_ns(fed.message.header.stamp)
        restarted = at_ns < self._last_ns
        if restarted:  # as live: start over
            self._gate.reset()
            self._buffer.clear()  # it would drop what is older than what it has
        self._last_ns = at_ns
        try:
            self._gate.check(at_ns, at_ns)
            built = self._builder.build(fed.message)
        except InputError as error:
            return BagFrame(at_ns, None, fed.recorded_action, restarted, error)
        return BagFrame(at_ns, built.observation, fed.recorded_action, restarted, None, built.warnings)
