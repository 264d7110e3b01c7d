# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""What is published of an inference: the chunk always, everything else only while somebody listens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

from sqap_vla.nodes import chunk_output
from sqap_vla.nodes.chunk_output import ChunkOutput, chunk_message
from sqap_vla.pruning.ring import empty_ring
from sqap_vla.pruning.selection import keep_all
from sqap_vla.runtime.types import ActionChunk, Observation, StageTimes

CHUNK = ActionChunk(
    actions=np.arange(112.0).reshape(16, 7),
    step_s=0.2,
    stamp_ns=3_000_000_004,
    selection=keep_all(256, "cpu"),
    ring=empty_ring(""),
    times=StageTimes(1.0, 2.0, 3.0, 4.0, 10.5),
)
OBSERVATION = Observation(rgb=np.zeros((48, 64, 3), np.uint8), stamp_ns=CHUNK.stamp_ns, instruction="pick")


class Publisher:
    def __init__(self, listeners: int) -> None:
        self.listeners, self.sent = listeners, []

    def get_subscription_count(self) -> int:
        return self.listeners

    def publish(self, msg: Any) -> None:
        self.sent.append(msg)


class Node:
    """What ChunkOutput asks of a lifecycle node."""

    def __init__(self, listened: set[str]) -> None:
        self.listened, self.publishers = listened, {}

    def create_lifecycle_publisher(self, kind: type, topic: str, qos: Any) -> Publisher:
        return self.publishers.setdefault(topic, Publisher(int(topic in self.listened)))

    def destroy_lifecycle_publisher(self, publisher: Publisher) -> None:
        self.publishers = {topic: known for topic, known in self.publishers.items() if known is not publisher}


@pytest.fixture
def costly(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the costly things that were made."""
    made: list[str] = []

    def watch(name: str) -> Callable:
        original = getattr(chunk_output, name)
        return lambda *arguments, **options: (made.append(name), original(*arguments, **options))[1]

    for name in ("draw_overlay", "step_to_json"):
        monkeypatch.setattr(chunk_output, name, watch(name))
    return made


def test_without_listeners_there_is_a_chunk_and_nothing_is_drawn_or_written(costly: list[str]):
    node = Node(listened=set())
    ChunkOutput(node).send(CHUNK, OBSERVATION, "camera", pipeline_ms=12.0, node_ms=2.0)
    assert {topic for topic, publisher in node.publishers.items() if publisher.sent} == {"~/chunk"}
    assert costly == []


@pytest.mark.parametrize(
    "topic, made",
    [("~/debug/overlay", ["draw_overlay"]), ("~/debug/step", ["step_to_json"]), ("~/debug/token_keep_ratio", [])],
)
def test_each_debug_topic_is_made_for_its_own_listeners(costly: list[str], topic: str, made: list[str]):
    node = Node(listened={topic})
    ChunkOutput(node).send(CHUNK, OBSERVATION, "camera", pipeline_ms=12.0, node_ms=2.0)
    assert {name for name, publisher in node.publishers.items() if publisher.sent} == {"~/chunk", topic}
    assert costly == made


def test_scalars_and_stamps():
    topics = [f"~/debug/{name}" for name in (*chunk_output.SCALARS, "overlay")]
    node = Node(listened=set(topics))
    ChunkOutput(node).send(CHUNK, OBSERVATION, "camera", pipeline_ms=12.0, node_ms=2.0)
    *scalars, overlay = (node.publishers[topic].sent[0] for topic in topics)
    assert [msg.data for msg in scalars] == [10.5, 12.0, 2.0, 1.0]
    assert (overlay.header.stamp.sec, overlay.header.stamp.nanosec, overlay.header.frame_id) == (3, 4, "camera")


def test_the_chunk_message_is_row_by_row():
    msg = chunk_message(CHUNK)
    assert list(msg.data) == list(map(float, range(112)))
    assert [(dim.label, dim.size, dim.stride) for dim in msg.layout.dim] == [("step", 16, 112), ("action", 7, 7)]


def test_destroying_leaves_no_publisher():
    node = Node(listened=set())
    ChunkOutput(node).destroy()
    assert node.publishers == {}
