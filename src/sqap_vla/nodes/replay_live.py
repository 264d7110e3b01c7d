# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Plays a bag to a running policy over DDS, in lockstep: image out, chunk back, then the next image.

/clock stands at the image's stamp while the policy thinks, so the policy must run with use_sim_time. Its ~/debug/step
report tells which tokens it kept; it is matched to the image by stamp.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import TransformStamped
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from std_msgs.msg import String
from tf2_msgs.msg import TFMessage

from sqap_vla.evaluation.step import StepRecord
from sqap_vla.evaluation.step_json import step_from_json
from sqap_vla.nodes import qos
from sqap_vla.nodes.conversions import InputError, rgb_from_image, stamp_msg, stamp_ns
from sqap_vla.nodes.replay_feed import TYPES, Fed, ReplayFeed
from sqap_vla.nodes.replay_offline import ReplayedFrame
from sqap_vla.nodes.spinning import spin_until

POLICY_TIMEOUT_S = 600.0  # a launched policy may be loading 15 GB
MATCH_TIMEOUT_S = 30.0
RESEND_S = 1.0  # a best-effort image may be lost; the policy refuses a second copy by its stamp
TRANSIENT = ("image_out_of_order", "stamp_in_future")  # what a second copy, or an image ahead of /clock, is refused for
KIND_TYPES = {
    "tf": "tf2_msgs/msg/TFMessage",
    "tf_static": "tf2_msgs/msg/TFMessage",
    "camera_info": "sensor_msgs/msg/CameraInfo",
    "instruction": "std_msgs/msg/String",
}
LATCHED = ("tf_static", "instruction")
# A listener keeps a hundred messages and loses the rest of a burst; a robot may log more than that between two images.
TRANSFORMS_IN_A_MESSAGE = 1000
ACK_TIMEOUT = Duration(seconds=1.0)  # of a consumer that is stuck: the policy itself answers in milliseconds


class ReplayTimeout(RuntimeError):
    """The policy did not answer."""


class LivePlayer(Node):
    """Publishes the feed's topics and /clock; collects the policy's step reports."""

    def __init__(self, feed: ReplayFeed, chunk_timeout_s: float, policy: str = "policy", **kwargs) -> None:
        super().__init__("replay", **kwargs)
        self._feed, self._timeout_s = feed, chunk_timeout_s
        # Fast DDS asks at once whether a history that is full has arrived, and for another only every three seconds.
        reliable = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
        self._clock_out = self.create_publisher(Clock, "/clock", reliable)
        self._out = {
            topic: self.create_publisher(TYPES[KIND_TYPES[kind]], topic, qos.latched() if kind in LATCHED else reliable)
            for topic, kind in feed.kinds.items()
        }
        image_type = "sensor_msgs/msg/CompressedImage" if feed.compressed else "sensor_msgs/msg/Image"
        self._out[feed.image_topic] = self.create_publisher(TYPES[image_type], feed.image_topic, reliable)
        self._transforms: dict[str, list[TransformStamped]] = {}  # by topic, not yet sent
        self._step: StepRecord | None = None
        self._last_ns: int | None = None
        self._status: DiagnosticStatus | None = None
        self.create_subscription(String, f"{policy}/debug/step", self._on_step, qos.command())
        self.create_subscription(DiagnosticStatus, f"{policy}/status", self._on_status, qos.latched())

    def wait_for_policy(self) -> None:
        """Until the policy is active and listens to everything. Raises ReplayTimeout that says what is missing."""

        def deaf() -> list[str]:
            return [topic for topic, publisher in self._out.items() if not publisher.get_subscription_count()]

        def failed() -> bool:
            return self._status is not None and self._status.level == DiagnosticStatus.ERROR

        def active() -> bool:
            return self._status is not None and self._status.message == "active"

        if not spin_until(self, lambda: active() or failed(), POLICY_TIMEOUT_S) or failed():
            raise ReplayTimeout(
                f"the policy is not ready: {'silent' if self._status is None else self._status.message}"
            )
        if not spin_until(self, lambda: not deaf(), MATCH_TIMEOUT_S):
            raise ReplayTimeout(
                f"the policy does not listen on {', '.join(deaf())}; its image_topic, image_transport, "
                "camera_info_topic and instruction_topic must be the bag's"
            )

    def run(self) -> Iterator[ReplayedFrame]:
        """One frame for each image. Raises ReplayTimeout where the policy stays silent."""
        for fed in self._feed:
            if fed.kind == "image":
                self._send_what_belongs_to(fed)
                yield self._play(fed)
            elif isinstance(fed.message, TFMessage):
                collected = self._transforms.setdefault(fed.topic, [])
                collected += fed.message.transforms
                if len(collected) >= TRANSFORMS_IN_A_MESSAGE:
                    self._send_transforms(fed.topic)
            else:
                self._out[fed.topic].publish(fed.message)

    def _send_what_belongs_to(self, image: Fed) -> None:
        """The policy has it when this returns. The clock comes first: transforms far ahead of it would be forgotten."""
        at_ns = stamp_ns(image.message.header.stamp)
        if self._last_ns is None or at_ns > self._last_ns:
            self._clock_out.publish(Clock(clock=stamp_msg(at_ns)))
        for topic in self._transforms:
            self._send_transforms(topic)
        for publisher in self._out.values():
            publisher.wait_for_all_acked(ACK_TIMEOUT)

    def _send_transforms(self, topic: str) -> None:
        if self._transforms[topic]:
            self._out[topic].publish(TFMessage(transforms=self._transforms[topic]))
            self._out[topic].wait_for_all_acked(ACK_TIMEOUT)
            self._transforms[topic] = []

    def _play(self, fed: Fed) -> ReplayedFrame:
        at_ns = stamp_ns(fed.message.header.stamp)
        if at_ns == self._last_ns:  # to the policy this is a second copy, of which it says nothing
            problem = InputError("image_out_of_order", f"a second image is stamped {at_ns}")
            return ReplayedFrame(at_ns, None, None, problem)
        self._last_ns = at_ns
        self._step = None
        refused_before = self._refusals()
        sent_s = 0.0

        def answered() -> bool:
            nonlocal sent_s
            if time.monotonic() - sent_s > RESEND_S:
                sent_s = time.monotonic()
                self._clock_out.publish(Clock(clock=stamp_msg(at_ns)))
                self._out[fed.topic].publish(fed.message)
            return (self._step is not None and self._step.stamp_ns == at_ns) or self._refusals() != refused_before

        start_s = time.perf_counter()
        if not spin_until(self, answered, self._timeout_s, step_s=0.01):
            raise ReplayTimeout(
                f"no chunk for the image at {at_ns} ns within {self._timeout_s:.0f} s; is the policy still active?"
            )
        wall_ms = 1e3 * (time.perf_counter() - start_s)
        if self._step is None or self._step.stamp_ns != at_ns:
            reasons = [reason for reason, count in self._refusals().items() if count != refused_before.get(reason)]
            return ReplayedFrame(at_ns, None, None, InputError(reasons[0], "refused by the policy, see its log"))
        return ReplayedFrame(
            at_ns,
            replace(self._step, recorded_action=fed.recorded_action, wall_ms=wall_ms),
            rgb_from_image(fed.message),
        )

    def _refusals(self) -> dict[str, str]:
        """Counts of refused frames by reason, as the policy's last status has them."""
        if self._status is None:
            return {}
        prefix = "input/rejected/"
        counts = {
            pair.key.removeprefix(prefix): pair.value for pair in self._status.values if pair.key.startswith(prefix)
        }
        return {reason: count for reason, count in counts.items() if reason not in TRANSIENT}

    def _on_step(self, msg: String) -> None:
        self._step = step_from_json(msg.data)

    def _on_status(self, msg: DiagnosticStatus) -> None:
        self._status = msg
