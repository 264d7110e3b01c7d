# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The order in which a bag is fed to the policy, the same offline and live.

Before an image comes everything else that was logged up to `lookahead_s` after it. A live robot's transforms arrive a
little after the image they belong to; the policy waits for them there, and in lockstep it would wait for ever. Bounded
in memory: images are streamed, only the small messages are held.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Float64MultiArray, String
from tf2_msgs.msg import TFMessage

from sqap_vla.evaluation.bag import BagError, BagMessage, BagReader
from sqap_vla.nodes.parameters import parameter

TYPES = {
    "sensor_msgs/msg/Image": Image,
    "sensor_msgs/msg/CompressedImage": CompressedImage,
    "sensor_msgs/msg/CameraInfo": CameraInfo,
    "std_msgs/msg/String": String,
    "tf2_msgs/msg/TFMessage": TFMessage,
    "std_msgs/msg/Float64MultiArray": Float64MultiArray,
}
TF_TOPICS = ("/tf", "/tf_static")


@dataclass(frozen=True)
class ReplayParameters:
    recorded_action_topic: str = parameter("recorded_action", "Actions that were commanded when the bag was recorded.")
    lookahead_s: float = parameter(
        0.2, "How far after an image transforms are still fed before it [s].", minimum=0.0, maximum=10.0
    )
    chunk_timeout_s: float = parameter(
        60.0, "Live: how long to wait for the chunk of a frame [s].", minimum=0.1, maximum=3600.0
    )


@dataclass(frozen=True)
class Fed:
    """A message in feeding order. kind: tf, tf_static, camera_info, instruction, image. recorded_action: an image's."""

    kind: str
    message: object
    topic: str
    stamp_ns: int  # log time
    recorded_action: np.ndarray | None = None


class ReplayFeed:
    """Feeds one bag. Topics as the parameters name them, relative ones below '/'. Raises BagError if they lack."""

    def __init__(
        self, bag: BagReader, image_topic: str, camera_info_topic: str, instruction_topic: str, replay: ReplayParameters
    ) -> None:
        self._bag = bag
        self._lookahead_ns = round(replay.lookahead_s * 1e9)
        self.image_topic = bag.require_image(absolute(image_topic)).name
        self.kinds = {
            "/tf": "tf",
            "/tf_static": "tf_static",
            absolute(camera_info_topic): "camera_info",
            absolute(instruction_topic): "instruction",
        }
        self._small = [message for message in bag.messages(*(t for t in self.kinds if t in bag.topics))]
        self._actions = self._read_actions(absolute(replay.recorded_action_topic))

    def __len__(self) -> int:
        """Number of images."""
        return self._bag.topics[self.image_topic].count

    @property
    def compressed(self) -> bool:
        return self._bag.topics[self.image_topic].msgtype.endswith("CompressedImage")

    def __iter__(self) -> Iterator[Fed]:
        position = 0
        for image, following_ns in _with_next(self._bag.messages(self.image_topic)):
            while position < len(self._small) and self._small[position].stamp_ns <= image.stamp_ns + self._lookahead_ns:
                small = self._small[position]
                yield Fed(self.kinds[small.topic], decode(small), small.topic, small.stamp_ns)
                position += 1
            yield Fed(
                "image", decode(image), image.topic, image.stamp_ns, self._action_between(image.stamp_ns, following_ns)
            )

    def _read_actions(self, topic: str) -> list[tuple[int, np.ndarray]]:
        if topic not in self._bag.topics:
            return []
        return [(m.stamp_ns, np.array(decode(m).data, np.float64)) for m in self._bag.messages(topic)]

    def _action_between(self, start_ns: int, end_ns: int | None) -> np.ndarray | None:
        """The first action recorded from an image on, before the next image."""
        index = bisect_left(self._actions, start_ns, key=lambda entry: entry[0])
        if index == len(self._actions) or (end_ns is not None and self._actions[index][0] >= end_ns):
            return None
        return self._actions[index][1]


def absolute(topic: str) -> str:
    return topic if topic.startswith("/") else "/" + topic


def decode(message: BagMessage) -> object:
    """The ROS message of recorded bytes. Raises BagError for a type that is not fed."""
    if message.msgtype not in TYPES:
        raise BagError(f"topic '{message.topic}' is {message.msgtype}; it must be one of {', '.join(TYPES)}")
    return deserialize_message(message.data, TYPES[message.msgtype])


def _with_next(messages: Iterator[BagMessage]) -> Iterator[tuple[BagMessage, int | None]]:
    before = None
    for message in messages:
        if before is not None:
            yield before, message.stamp_ns
        before = message
    if before is not None:
        yield before, None
