# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The end-effector's pose now, on the real tf2 buffer: fresh, or none; a wrong stamp does not blind it for good."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

import tf2_ros
from geometry_msgs.msg import TransformStamped

from sqap_vla.nodes import transforms
from sqap_vla.nodes.conversions import InputError, stamp_msg
from sqap_vla.nodes.transforms import NewestPose, lookup, newest_age_s

SECOND = 1_000_000_000
NOW = 1_000 * SECOND


@pytest.fixture
def buffer() -> tf2_ros.Buffer:
    return tf2_ros.Buffer()


@pytest.fixture
def pose(buffer: tf2_ros.Buffer) -> NewestPose:
    return NewestPose(buffer, "base_link", "tcp", max_age_s=0.5)


def hear(buffer: tf2_ros.Buffer, at_ns: int, x: float = 0.3, parent: str = "base_link", child: str = "tcp") -> None:
    msg = TransformStamped(child_frame_id=child)
    msg.header.frame_id, msg.header.stamp = parent, stamp_msg(at_ns)
    msg.transform.translation.x, msg.transform.rotation.w = x, 1.0
    buffer.set_transform(msg, "test")


@pytest.mark.parametrize(("age_s", "known"), [(0.0, True), (0.4, True), (0.6, False), (-0.4, True), (-0.6, False)])
def test_a_pose_is_known_while_its_stamp_is_near(buffer, pose, age_s, known):
    hear(buffer, NOW - round(age_s * SECOND))
    found = pose.at(NOW)
    assert (found is not None) == known
    assert found is None or found[0, 3] == 0.3


def test_a_frame_that_nobody_publishes_has_no_pose(buffer, pose):
    assert pose.at(NOW) is None
    assert newest_age_s(buffer, "base_link", "tcp", NOW) is None


def test_a_name_that_tf2_does_not_take_is_a_frame_that_nobody_publishes(buffer):
    assert newest_age_s(buffer, "base\0link", "tcp", NOW) is None
    assert NewestPose(buffer, "base\0link", "tcp", max_age_s=0.5).at(NOW) is None
    with pytest.raises(InputError, match="no transform"):
        lookup(buffer, "base\0link", "tcp", NOW, tolerance_s=0.1)


def test_the_age_of_a_stale_pose_is_told(buffer):
    hear(buffer, NOW - 3 * SECOND)
    assert newest_age_s(buffer, "base_link", "tcp", NOW) == 3.0


@pytest.mark.parametrize("ahead_s", [5, 3_000, 1_000_000])
def test_one_stamp_from_the_future_does_not_hide_what_comes_after(buffer, pose, ahead_s):
    hear(buffer, NOW + ahead_s * SECOND)
    assert pose.at(NOW) is None
    hear(buffer, NOW, x=0.7)
    assert pose.at(NOW)[0, 3] == 0.7


def test_one_link_of_a_chain_from_the_future_does_not_hide_the_pose(buffer, pose):
    hear(buffer, NOW, parent="base_link", child="wrist")
    hear(buffer, NOW + 3_000 * SECOND, parent="wrist", child="tcp")
    assert pose.at(NOW) is None
    for child, parent in (("wrist", "base_link"), ("tcp", "wrist")):
        hear(buffer, NOW, parent=parent, child=child)
    assert pose.at(NOW)[0, 3] == pytest.approx(0.6)


def test_a_publisher_that_lives_in_the_future_costs_one_clearing_per_second(buffer, pose, monkeypatch):
    cleared = []
    monkeypatch.setattr(buffer, "clear", lambda: cleared.append(True))
    monkeypatch.setattr(transforms, "time", SimpleNamespace(monotonic=lambda: 100.0))
    hear(buffer, NOW + 5 * SECOND)
    for _ in range(20):
        assert pose.at(NOW) is None
    assert len(cleared) == 1
