# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""A short recorded episode, made of messages: a hand that moves through the view of a camera that stands still.

Transforms are logged at other times than the images, so that each image's lies between two of them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path

import numpy as np

from sqap_vla.evaluation import messages
from sqap_vla.evaluation.bag import BagMessage
from sqap_vla.evaluation.bag_writer import Storage, write_bag
from sqap_vla.pruning.projection import CameraModel

START_NS, STEP_NS = 1_700_000_000_000_000_000, 200_000_000
FRAMES = 6
WIDTH, HEIGHT = 64, 48
CAMERA = CameraModel(
    np.array([[60.0, 0, 32], [0, 60, 24], [0, 0, 1]]), "plumb_bob", (0.05, -0.02, 0.0, 0.0, 0.0), WIDTH, HEIGHT
)
TOPICS = ("/camera/image_raw", "/camera/camera_info", "/tf", "/tf_static", "/instruction", "/recorded_action")


def hand(at_ns: int) -> np.ndarray:
    """base_T_ee: along a curve, turning."""
    t = (at_ns - START_NS) / 1e9
    angle = 0.3 * t
    pose = np.eye(4)
    pose[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    pose[:3, 3] = (0.1 + 0.2 * t, 0.1 * np.sin(t), 0.3 + 0.1 * t)
    return pose


def pixel(at_ns: int) -> tuple[float, float]:
    """Of the hand, by linear interpolation between the transforms around `at_ns`; camera axes are the base's."""
    before_ns, after_ns = transforms_around(at_ns)
    ratio = (at_ns - before_ns) / (after_ns - before_ns)
    x, y, z = (1 - ratio) * hand(before_ns)[:3, 3] + ratio * hand(after_ns)[:3, 3] + (0.0, 0.0, 0.8)
    a, b = x / z, y / z
    r2 = a * a + b * b
    factor = 1 + 0.05 * r2 - 0.02 * r2 * r2
    return 60 * a * factor + 32, 60 * b * factor + 24


def transforms_around(at_ns: int) -> tuple[int, int]:
    before_ns = (at_ns - START_NS - 33_000_000) // 70_000_000 * 70_000_000 + START_NS + 33_000_000
    return before_ns, before_ns + 70_000_000


def image(number: int, transport: str = "raw", shift_ns: int = 0) -> BagMessage:
    rgb = np.random.default_rng(number).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    at_ns = START_NS + number * STEP_NS + shift_ns
    if transport == "compressed":
        return messages.compressed_image("/camera/image_raw/compressed", rgb, at_ns, "camera")
    return messages.image("/camera/image_raw", rgb, at_ns, "camera")


def episode(
    without: Collection[str] = (),
    transport: str = "raw",
    edit: Callable[[int, BagMessage], BagMessage | None] = lambda number, message: message,
    shift_ns: int = 0,
) -> list[BagMessage]:
    """Messages in order of time.

    without: topics left out. edit: what becomes of each image. shift_ns: added to all stamps.
    """
    camera = np.eye(4)
    camera[2, 3] = -0.8
    made = [
        messages.transforms("/tf_static", "base_link", {"camera": camera}, START_NS + shift_ns - 150_000_000),
        messages.string("/instruction", "pick up the red cube", START_NS + shift_ns - 140_000_000),
    ]
    for tick in range(-2, FRAMES * 3 + 2):
        at_ns = START_NS + 33_000_000 + tick * 70_000_000
        made.append(messages.transforms("/tf", "base_link", {"gripper_tcp": hand(at_ns)}, at_ns + shift_ns))
    for number in range(FRAMES):
        frame = image(number, transport, shift_ns)
        made.append(messages.camera_info("/camera/camera_info", CAMERA, frame.stamp_ns, "camera"))
        made.append(messages.float64_array("/recorded_action", np.full(7, 0.01 * number), frame.stamp_ns + 10_000_000))
        edited = edit(number, frame)
        if edited is not None:
            made.append(edited)
    return sorted((message for message in made if message.topic not in without), key=lambda message: message.stamp_ns)


def bag(path: Path, storage: Storage = "mcap", **options) -> Path:
    """Writes `episode(**options)`."""
    return write_bag(path, episode(**options), storage=storage)


def garbage_at(*numbers: int) -> Callable[[int, BagMessage], BagMessage]:
    """Images of these numbers have an encoding that nobody knows."""

    def edit(number: int, message: BagMessage) -> BagMessage:
        if number not in numbers:
            return message
        data = message.data.replace(b"rgb8\0", b"rgb9\0")  # of the same length, so that the rest of the message stays
        assert data != message.data
        return replace(message, data=data)

    return edit
