# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Frames of a recording to calibrate a quantization on, with the checks and conversions that the policy node has."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sqap_vla.cogact.prompt import Tokenizer
from sqap_vla.evaluation.bag import BagError, BagReader
from sqap_vla.nodes.conversions import rgb_from_image
from sqap_vla.nodes.replay_feed import absolute, decode
from sqap_vla.quantization.frames import CalibrationFrames

IMAGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")


def frames_of_bag(
    path: Path, tokenizer: Tokenizer, count: int, image_topic: str | None = None, instruction: str | None = None
) -> CalibrationFrames:
    """`count` frames spread evenly over a bag, or all where it has fewer, each with the instruction in force.

    image_topic: None is the bag's only one. instruction: None is what the bag's topic `instruction` says. Raises
    ValueError (BagError, InputError among them) where frames or instruction cannot be had.
    """
    if count < 1:
        raise ValueError(f"{count} calibration frames were asked for; it must be at least 1")
    with BagReader(path) as bag:
        topic = bag.require_image(absolute(image_topic)).name if image_topic else _only_image_topic(bag)
        spoken = "/instruction" if instruction is None and "/instruction" in bag.topics else None
        if instruction is None and spoken is None:
            raise BagError(f"{path} has no topic /instruction; say the task in words with --instruction")
        total = bag.topics[topic].count
        wanted = set(np.linspace(0, total - 1, min(count, total)).round().astype(int).tolist())
        pictures, prompts, seen = [], [], 0
        for message in bag.messages(topic, *filter(None, [spoken])):
            if message.topic == spoken:
                instruction = decode(message).data
                continue
            if seen in wanted and instruction is not None:
                pictures.append(rgb_from_image(decode(message)))
                prompts.append(tokenizer.encode(instruction))
            seen += 1
    return CalibrationFrames.of(pictures, prompts)


def _only_image_topic(bag: BagReader) -> str:
    topics = [name for name, topic in bag.topics.items() if topic.msgtype in IMAGE_TYPES]
    if len(topics) != 1:
        names = ", ".join(topics) or "none"
        raise BagError(f"the bag has {len(topics)} image topics ({names}); name one with --image-topic")
    return topics[0]
