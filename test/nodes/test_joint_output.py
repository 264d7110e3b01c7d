# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Joint trajectories as a controller sees them: stamps, continuity, rest at the end, and what stops them.

The arm is one of messages: it follows the newest trajectory exactly, and tells its joints and its hand's pose.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")
pytest.importorskip("pinocchio", reason="needs pinocchio (pip install pin)")

import rclpy
from arms import BENT, JOINTS, arm_urdf
from policy_rig import SECOND, Rig, policy_rig
from rclpy.context import Context
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from trajectory_msgs.msg import JointTrajectory

from sqap_vla.nodes import input_monitor, joint_output, joint_state_input, qos
from sqap_vla.nodes.conversions import stamp_msg, stamp_ns
from sqap_vla.nodes.joint_output import arm_from_description
from sqap_vla.nodes.latched_text import latched_text
from sqap_vla.nodes.policy_parameters import PolicyParameters
from sqap_vla.runtime.kinematics import ArmKinematics, KinematicsError

ARM = ArmKinematics(arm_urdf(), JOINTS, "base_link", "gripper_tcp")
TICK_S = 0.05
JOINTED = {"joint_names": list(JOINTS), "limits__max_joint_accel_rad_s2": 6.0, "ensemble_horizon": 1}


def seconds(duration: Any) -> float:
    return duration.sec + duration.nanosec / 1e9


class Arm:
    """A joint_trajectory_controller that does what it is told, and the sensors of its arm."""

    def __init__(self, rig: Rig) -> None:
        self.rig, self.now_s = rig, 100.0
        self.trajectories: list[JointTrajectory] = []
        self.follows, self.senses = True, True
        self._positions = np.array(BENT)
        joints = rig.pipeline._joints
        publish = joints._publisher.publish
        joints._publisher.publish = lambda msg: (self.trajectories.append(msg), publish(msg))

    def positions(self) -> np.ndarray:
        if self.trajectories and self.follows:
            self._positions = sample(self.trajectories[-1], self.now_s)[0]
        return self._positions

    def hand(self) -> np.ndarray:
        return ARM.forward(self.positions())[0]

    def sense(self) -> None:
        self.rig.at(self.now_s, place=self.hand())
        if self.senses:
            state = JointState(name=["lid", *JOINTS], position=[0.5, *self.positions()])
            state.header.stamp = stamp_msg(round(self.now_s * SECOND))
            self.rig.pipeline._joints._states._on_joint_state(state)

    def tick(self, see: bool = False) -> bool:
        """One period later; whether a twist that moves went out with it."""
        self.now_s = round(self.now_s + TICK_S, 6)
        self.sense()
        if see:
            self.rig.see()
            self.rig.finish()
        return self.rig.moves()


def sample(msg: JointTrajectory, at_s: float) -> tuple[np.ndarray, np.ndarray]:
    """Position and velocity of a cubic through points, as the controller interpolates; held before and after."""
    start_s = stamp_ns(msg.header.stamp) / SECOND
    times = [start_s + seconds(point.time_from_start) for point in msg.points]
    if at_s >= times[-1]:
        return np.array(msg.points[-1].positions), np.array(msg.points[-1].velocities)
    place = max(int(np.searchsorted(times, at_s, side="right")) - 1, 0)
    first, last = msg.points[place], msg.points[place + 1]
    length = times[place + 1] - times[place]
    part = max(at_s - times[place], 0.0) / length
    p0, p1, v0, v1 = map(np.array, (first.positions, last.positions, first.velocities, last.velocities))
    a, b = 2 * (p0 - p1) + (v0 + v1) * length, 3 * (p1 - p0) - (2 * v0 + v1) * length
    position = p0 + v0 * length * part + b * part**2 + a * part**3
    return position, v0 + (2 * b * part + 3 * a * part**2) / length


@pytest.fixture
def arm(monkeypatch: pytest.MonkeyPatch) -> Iterator[Arm]:
    monkeypatch.setattr(joint_output, "latched_text", lambda node, topic, timeout_s: arm_urdf())
    with policy_rig(monkeypatch, "/joint_output", **JOINTED) as rig:
        arm = Arm(rig)
        wall = type("Wall", (), {"monotonic": staticmethod(lambda: arm.now_s)})
        for module in (input_monitor, joint_state_input):
            monkeypatch.setattr(module, "time", wall)
        arm.sense()
        rig.node.trigger_activate()
        rig.see()
        rig.finish()
        yield arm


def test_the_hand_follows_the_chunk_and_every_trajectory_joins_the_one_before(arm: Arm):
    start = arm.hand()
    assert all(arm.tick(see=tick % 4 == 0) for tick in range(40))
    moved = arm.hand()[:3, 3] - start[:3, 3]
    np.testing.assert_allclose(moved, [0.05 * 40 * TICK_S, 0, 0], atol=0.012)
    assert len(arm.trajectories) == 40
    for before, after in zip(arm.trajectories, arm.trajectories[1:], strict=False):
        position, velocity = sample(before, stamp_ns(after.header.stamp) / SECOND)
        np.testing.assert_allclose(after.points[0].positions, position, atol=1e-9)
        np.testing.assert_allclose(after.points[0].velocities, velocity, atol=1e-9)


def test_every_trajectory_is_stamped_now_ends_at_rest_and_spans_at_most_half_a_second(arm: Arm):
    for tick in range(20):
        arm.tick(see=tick % 4 == 0)
        msg = arm.trajectories[-1]
        assert stamp_ns(msg.header.stamp) == round(arm.now_s * SECOND) and msg.header.frame_id == "base_link"
        assert list(msg.joint_names) == list(JOINTS)
        times = [seconds(point.time_from_start) for point in msg.points]
        assert times[0] == 0.0 and times[-1] <= 0.5 and (np.diff(times) > 0).all()
        assert not any(msg.points[-1].velocities)
        assert all(len(point.positions) == len(point.velocities) == 6 for point in msg.points)


def test_a_controller_that_hears_nothing_more_comes_to_rest(arm: Arm):
    for tick in range(20):
        arm.tick(see=tick % 4 == 0)
    last = arm.trajectories[-1]
    speeds = [np.abs(sample(last, arm.now_s + ahead)[1]).max() for ahead in np.arange(0, 0.7, 0.05)]
    assert speeds[0] > 0.01 and speeds[-4:] == [0.0] * 4


def test_a_stop_slows_the_arm_down_at_once_and_then_is_silent(arm: Arm):
    for tick in range(20):
        arm.tick(see=tick % 4 == 0)
    arm.rig.node._command_gate._stopped = True
    sent = len(arm.trajectories)
    assert not any(arm.tick() for _ in range(10))
    assert len(arm.trajectories) == sent + 1
    stop, before = arm.trajectories[-1], arm.trajectories[-2]
    at_s = stamp_ns(stop.header.stamp) / SECOND
    np.testing.assert_allclose(stop.points[0].positions, sample(before, at_s)[0], atol=1e-9)
    assert not any(stop.points[-1].velocities) and seconds(stop.points[-1].time_from_start) <= 0.5
    arm.rig.node._command_gate._stopped = False
    assert arm.tick(see=True), "it goes on from where the arm is"
    np.testing.assert_allclose(arm.trajectories[-1].points[0].positions, stop.points[-1].positions, atol=1e-6)


def test_deactivation_sends_the_stop_last(arm: Arm):
    for tick in range(10):
        arm.tick(see=tick % 4 == 0)
    arm.rig.node.trigger_deactivate()
    assert not any(arm.trajectories[-1].points[-1].velocities)
    sent = len(arm.trajectories)
    arm.tick()
    assert len(arm.trajectories) == sent


def test_joint_states_that_grow_stale_stop_twist_and_trajectory_alike(arm: Arm):
    for tick in range(10):
        arm.tick(see=tick % 4 == 0)
    arm.senses = False
    moved = [arm.tick(see=True) for _ in range(8)]
    assert moved[:3] == [True] * 3 and not any(moved[4:])
    assert arm.rig.stop_reason() == "joint_state_stale"
    arm.senses = True
    assert arm.tick(see=True)


def test_an_arm_that_does_not_follow_is_stopped(arm: Arm):
    arm.rig.pipeline._joints._max_error = 0.02
    for tick in range(8):
        arm.tick(see=tick % 4 == 0)
    arm.follows = False  # it is held, or its controller is not active
    for tick in range(20):
        if not arm.tick(see=tick % 4 == 0):
            break
    values = arm.rig.pipeline.values()
    assert values["command/stop_reason"] == "joint_tracking_error"
    assert "Does a controller follow" in values["command/stop_detail"]


@pytest.mark.parametrize(
    "state",
    [
        JointState(),
        JointState(name=list(JOINTS[:5]), position=[0.0] * 5),
        JointState(name=list(JOINTS), position=[0.0] * 5),
        JointState(name=list(JOINTS), position=[float("nan")] * 6),
    ],
)
def test_a_joint_state_that_cannot_be_used_is_as_good_as_none(arm: Arm, state: JointState):
    arm.rig.pipeline._joints._states._newest = None
    arm.senses = False
    arm.rig.pipeline._joints._states._on_joint_state(state)
    assert not arm.tick(see=True)
    assert arm.rig.stop_reason() == "joint_state_missing"


def test_a_description_is_heard_while_configuring_and_what_is_missing_is_told():
    context = Context()
    rclpy.init(context=context, domain_id=int(os.environ["ROS_DOMAIN_ID"]))
    node = Node("describer", context=context, namespace="/described")
    params = PolicyParameters(joint_names=JOINTS, limit_joint_accel_rad_s2=4.0, robot_description_timeout_s=0.2)
    try:
        assert arm_from_description(node, PolicyParameters()) is None
        with pytest.raises(ValueError, match="no robot description came on /described/robot_description"):
            arm_from_description(node, params)
        with pytest.raises(ValueError, match=r"limits\.max_joint_accel_rad_s2"):
            arm_from_description(node, PolicyParameters(joint_names=JOINTS))
        publisher = node.create_publisher(String, "robot_description", qos.latched())
        publisher.publish(String(data=arm_urdf()))
        assert latched_text(node, "robot_description", 10.0) == arm_urdf()
        other = PolicyParameters(joint_names=("knee",), limit_joint_accel_rad_s2=4.0, robot_description_timeout_s=9.0)
        with pytest.raises(KinematicsError, match="joint 'knee' is not in"):
            arm_from_description(node, other)
    finally:
        node.destroy_node()
        rclpy.shutdown(context=context)
