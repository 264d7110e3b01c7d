# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""tf2_ros on real DDS: broadcasters in one process, listener in another; waiting lookups; a clock that
jumps.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
import rclpy
import yaml
from rclpy.clock import ClockChange, TimeJump
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.time import Time
from tf2_ros import Buffer, ExtrapolationException, StaticTransformBroadcaster, TransformListener
from transforms import matrix, message, stamp_ns

SECOND = 1_000_000_000
BROADCASTER = """
import sys
sys.path.insert(0, sys.argv[1])
import rclpy
from tf2_ros import StaticTransformBroadcaster, TransformBroadcaster
from transforms import message

rclpy.init()
node = rclpy.create_node("broadcaster")
static, moving = StaticTransformBroadcaster(node), TransformBroadcaster(node)
static.sendTransform(message("world", "base", translation=(1, 0, 0)))
static.sendTransform([message("base", "camera", translation=(0, 1, 0))])
stamp = 0
node.create_timer(0.02, lambda: None)  # the pace of spin_once
while rclpy.ok():
    stamp += 1
    moving.sendTransform([message("base", "ee", stamp * 10**8, translation=(stamp, 0, 0))])
    rclpy.spin_once(node, timeout_sec=0.1)
"""


@pytest.fixture
def node() -> Iterator[Node]:
    rclpy.init()  # upstream's listener spins in the default context only
    yield rclpy.create_node("listener")
    rclpy.try_shutdown()


@pytest.fixture
def broadcaster() -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-c", BROADCASTER, __file__.rsplit("/", 1)[0]])
    yield
    process.kill()
    process.wait()


def test_transforms_cross_processes_and_static_ones_reach_late_joiners(node: Node, broadcaster: None) -> None:
    buffer = Buffer(node=node)
    TransformListener(buffer, node, spin_thread=True)
    wait = Duration(seconds=60)
    found = buffer.lookup_transform("camera", "ee", Time(), wait)
    assert matrix(found)[0, 3] == pytest.approx(stamp_ns(found) / 1e8)
    assert matrix(found)[1, 3] == -1.0
    # Both static transforms are in the one message that is kept for late joiners.
    late = Buffer(node=node)
    TransformListener(late, node)
    assert late.can_transform("world", "camera", Time(), wait)
    frames = yaml.safe_load(buffer.all_frames_as_yaml())
    assert frames["ee"]["parent"] == "base" and frames["ee"]["rate"] > 0
    assert frames["camera"]["parent"] == "base"


def test_a_waiting_lookup_returns_when_the_transform_arrives_and_gives_up_after_the_timeout() -> None:
    buffer = Buffer()
    buffer.set_transform(message("a", "b", SECOND), "test")
    with pytest.raises(ExtrapolationException):
        buffer.lookup_transform("a", "b", Time(seconds=2), Duration(nanoseconds=50_000_000))
    sender = threading.Timer(0.1, buffer.set_transform, [message("a", "b", 2 * SECOND), "test"])
    sender.start()
    assert buffer.can_transform("a", "b", Time(seconds=2), Duration(seconds=10))
    sender.join()


def test_a_future_is_done_when_the_transform_arrives() -> None:
    buffer = Buffer()
    future = buffer.wait_for_transform_async("a", "b", Time(seconds=1))
    assert not future.done()
    buffer.set_transform(message("a", "b", SECOND, translation=(3, 0, 0)), "test")
    assert future.done() and future.result().transform.translation.x == 3.0


def test_a_jump_of_the_clock_clears_the_history() -> None:
    buffer = Buffer()
    buffer.set_transform(message("a", "b", SECOND), "test")
    buffer.time_jump_callback(TimeJump(ClockChange.ROS_TIME_NO_CHANGE, Duration(seconds=-5)))
    assert not buffer.can_transform("a", "b", Time(seconds=1))


def test_lookups_and_insertions_from_many_threads_do_not_disturb_each_other() -> None:
    buffer = Buffer()
    buffer.set_transform(message("a", "b", SECOND, translation=(1, 0, 0)), "test")
    errors: list[BaseException] = []

    def run(job) -> None:
        try:
            for step in range(1, 300):
                job(step)
        except BaseException as error:  # noqa: BLE001 handed to the main thread, which raises it
            errors.append(error)

    def insert(step: int) -> None:
        buffer.set_transform(message("a", "b", SECOND + step * 1_000_000, translation=(1, 0, 0)), "test")

    def look(step: int) -> None:
        assert buffer.lookup_transform("a", "b", Time()).transform.translation.x == 1.0

    threads = [threading.Thread(target=run, args=(job,)) for job in (insert, look, look)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors


def test_quality_of_service_is_the_one_tf_uses(node: Node) -> None:
    StaticTransformBroadcaster(node)
    TransformListener(Buffer(node=node), node)
    durability = {
        info.topic_type: info.qos_profile.durability.name for info in node.get_publishers_info_by_topic("/tf_static")
    }
    assert durability == {"tf2_msgs/msg/TFMessage": "TRANSIENT_LOCAL"}
    assert {info.qos_profile.durability.name for info in node.get_subscriptions_info_by_topic("/tf_static")} == {
        "TRANSIENT_LOCAL"
    }
    assert {info.qos_profile.durability.name for info in node.get_subscriptions_info_by_topic("/tf")} == {"VOLATILE"}
