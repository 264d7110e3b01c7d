# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The arm's node for Gazebo as a process, with a Gazebo made of messages: joints go at once where they are sent."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")
pytest.importorskip("mujoco", reason="needs MuJoCo")

from rclpy.time import Time
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64, Float64MultiArray
from tabletop_client import TIMEOUT_S, Client, node_environment

from sqap_vla.nodes.conversions import matrix_from_transform, stamp_msg
from sqap_vla.sim.scene import ARM_JOINTS, FINGER_JOINTS, FINGER_TRAVEL_M, HOME_RAD, JOINTS


class Gazebo(Client):
    """Joint states out, positions in, on the wall clock."""

    def __init__(self, namespace: str) -> None:
        super().__init__(namespace, "gazebo_arm")
        self.positions = dict(zip(JOINTS, [*HOME_RAD, FINGER_TRAVEL_M, FINGER_TRAVEL_M], strict=True))
        self.sent: set[str] = set()
        self.states = self.node.create_publisher(JointState, "joint_states", 10)
        for name in JOINTS:
            callback = lambda msg, name=name: self.move(name, msg.data)  # noqa: E731
            self.node.create_subscription(Float64, f"arm/{name}/position", callback, 1)

    def move(self, name: str, position: float) -> None:
        self.positions[name] = position
        self.sent.add(name)

    def now_ns(self) -> int:
        return time.time_ns()

    def step(self, without: str = "") -> int:
        """One joint state; returns its stamp."""
        at_ns = self.now_ns()
        names = [name for name in JOINTS if name != without]
        msg = JointState(name=names, position=[float(self.positions[name]) for name in names])
        msg.header.stamp = stamp_msg(at_ns)
        self.states.publish(msg)
        self.executor.spin_once(timeout_sec=0.02)
        return at_ns

    def tool(self, seconds: float, twist: tuple[float, float, float] | None = None) -> np.ndarray:
        """base_T_ee [4, 4] after a time under a twist."""
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            if twist is not None:
                self.send(twist)
            at_ns = self.step()
        at = Time(nanoseconds=at_ns)
        self.wait(lambda: self.buffer.can_transform("base_link", "gripper_tcp", at), "the tool's transform")
        return matrix_from_transform(self.buffer.lookup_transform("base_link", "gripper_tcp", at).transform)


@pytest.fixture(scope="module")
def gazebo() -> Iterator[Gazebo]:
    command = [sys.executable, "-m", "sqap_vla.nodes.gazebo_arm", "--ros-args", "-r", "__ns:=/gz"]
    process = subprocess.Popen(command, env=node_environment())
    gazebo = Gazebo("/gz")
    try:
        gazebo.wait(lambda: gazebo.step() and set(JOINTS) <= gazebo.sent, "targets of all joints", process)
        gazebo.wait(
            lambda: gazebo.step() and gazebo.twist.get_subscription_count(), "the command subscription", process
        )
        yield gazebo
    finally:
        gazebo.close()
        process.terminate()
        assert process.wait(TIMEOUT_S) == 0


def test_a_twist_moves_the_tool_and_silence_holds_it(gazebo: Gazebo) -> None:
    start = gazebo.tool(0.2)
    deadline = time.monotonic() + TIMEOUT_S
    while (gazebo.tool(0.2, (0.0, 0.05, 0.05)) - start)[1, 3] < 0.03:
        assert time.monotonic() < deadline, "the tool does not follow the twist"
    gazebo.tool(0.6)  # the last twist holds until it is too old
    held, later = gazebo.tool(0.2), gazebo.tool(0.3)
    moved_m = (held - start)[:3, 3]
    assert moved_m[1] > 0.03 and abs(moved_m[1] - moved_m[2]) < 5e-3 and abs(moved_m[0]) < 5e-3
    assert np.allclose(held, later, atol=1e-4)


def test_the_gripper_follows_its_opening(gazebo: Gazebo) -> None:
    gazebo.gripper.publish(Float64MultiArray(data=[0.25]))
    for finger in FINGER_JOINTS:
        there = pytest.approx(0.25 * FINGER_TRAVEL_M)
        gazebo.wait(lambda finger=finger, there=there: gazebo.step() and gazebo.positions[finger] == there, finger)


def test_without_a_joint_nothing_is_sent(gazebo: Gazebo) -> None:
    gazebo.tool(0.2)
    for _ in range(20):  # what was sent before
        gazebo.executor.spin_once(timeout_sec=0.05)
    gazebo.sent.clear()
    for _ in range(10):
        gazebo.step(without=ARM_JOINTS[0])
    assert not gazebo.sent


def test_the_camera_has_its_place(gazebo: Gazebo) -> None:
    gazebo.wait(
        lambda: gazebo.step() and gazebo.buffer.can_transform("base_link", "camera_optical_frame", Time()), "the camera"
    )
