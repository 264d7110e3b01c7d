# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The policy node in this process, on a simulated clock and with a network that answers at will.

Pinned: a /clock that stops ends motion; what was inferred before a deactivation moves nothing after it; a clock that
goes back, while the node is inactive or not, does not leave it without a pose.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

import rclpy
import torch
from geometry_msgs.msg import TransformStamped
from rclpy.context import Context
from rclpy.parameter import Parameter
from rclpy.time import Time
from sensor_msgs.msg import Image

from sqap_vla.nodes import input_monitor
from sqap_vla.nodes import policy as policy_module
from sqap_vla.nodes.conversions import stamp_msg
from sqap_vla.nodes.policy import PolicyNode
from sqap_vla.pruning.ring import NO_CAMERA_INFO, empty_ring
from sqap_vla.pruning.selection import keep_all
from sqap_vla.runtime.types import ActionChunk, Observation, StageTimes

SECOND = 1_000_000_000
TIMEOUT_S = 10.0
PARAMETERS = {"checkpoint": "any", "unnorm_key": "any", "instruction": "pick", "dry_run": False, "use_sim_time": True,
              "max_chunk_age_s": 1.0, "limits.max_linear_m_s": 1.0, "limits.max_angular_rad_s": 1.0,
              "limits.workspace_min_m": [-1.0] * 3, "limits.workspace_max_m": [1.0] * 3}  # fmt: skip


class Network:
    """Answers every observation with a slow motion along x; waits while `go` is clear."""

    model = SimpleNamespace(device=torch.device("cpu"))

    def __init__(self) -> None:
        self.go, self.began = threading.Event(), threading.Event()
        self.go.set()
        self.resets = 0

    def reset(self) -> None:
        self.resets += 1

    def infer(self, observation: Observation) -> ActionChunk:
        self.began.set()
        assert self.go.wait(TIMEOUT_S)
        actions = np.tile([0.01, 0, 0, 0, 0, 0, 1.0], (16, 1))
        return ActionChunk(actions=actions, step_s=0.2, stamp_ns=observation.stamp_ns, selection=keep_all(256, "cpu"),
                           ring=empty_ring(NO_CAMERA_INFO), times=StageTimes(1, 1, 1, 1, 4),
                           base_T_ee=observation.base_T_ee)  # fmt: skip


class Rig:
    """Calls what the executor would call, in an order that the test chooses."""

    def __init__(self, node: PolicyNode, network: Network) -> None:
        self.node, self.network = node, network
        self.twists: list[float] = []

    def configure(self) -> None:
        assert self.node.trigger_configure() == policy_module.SUCCESS
        self.node.destroy_timer(self.node._timer)  # the test ticks
        output = self.node._commander._output
        send = output._send_twist
        output._send_twist = lambda twist: (self.twists.append(float(twist[0])), send(twist))

    def at(self, seconds: float, pose: bool = True) -> None:
        """Sets the clock and, unless told otherwise, hears the pose of that time."""
        now_ns = round(seconds * SECOND)
        clock = self.node.get_clock()
        clock.set_ros_time_override(Time(nanoseconds=now_ns, clock_type=clock.clock_type))
        if pose:
            msg = TransformStamped(child_frame_id="gripper_tcp")
            msg.header.frame_id, msg.header.stamp, msg.transform.rotation.w = "base_link", stamp_msg(now_ns), 1.0
            self.node._buffer.set_transform(msg, "test")

    def see(self) -> None:
        now_ns = self.node.get_clock().now().nanoseconds
        msg = Image(encoding="rgb8", width=4, height=4, step=12, data=bytes(48))
        msg.header.stamp = stamp_msg(now_ns)
        self.network.began.clear()
        self.node._on_image(msg)

    def finish(self) -> None:
        """Waits until the worker is idle."""
        assert self.network.began.wait(TIMEOUT_S)
        self.network.go.set()
        while self.node._worker.busy_s() > 0:
            time.sleep(0.001)

    def moves(self) -> bool:
        """Whether one tick of the command timer sends motion."""
        before = len(self.twists)
        self.node._tick()
        return any(self.twists[before:])


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    network = Network()
    monkeypatch.setattr(policy_module, "load_engine", lambda params: network)
    context = Context()
    rclpy.init(context=context, domain_id=int(os.environ["ROS_DOMAIN_ID"]))
    overrides = [Parameter(name, value=value) for name, value in PARAMETERS.items()]
    node = PolicyNode(context=context, parameter_overrides=overrides, namespace="/clock_and_motion")
    rig = Rig(node, network)
    rig.configure()
    yield rig
    network.go.set()
    node.close()
    node.destroy_node()
    rclpy.shutdown(context=context)


def start(rig: Rig, seconds: float) -> None:
    """Active and moving at that time."""
    rig.at(seconds)
    assert rig.node.trigger_activate() == policy_module.SUCCESS
    rig.see()
    rig.finish()
    assert rig.moves()


def test_motion_ends_where_the_clock_stands_still(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    start(rig, 100.0)
    wall_s = [time.monotonic()]
    monkeypatch.setattr(input_monitor, "time", SimpleNamespace(monotonic=lambda: wall_s[0]))
    wall_s[0] += 0.9
    assert rig.moves()
    wall_s[0] += 0.2
    assert not rig.moves()
    assert rig.node._commander.figures()["command/stop_reason"] == "clock_stopped"
    rig.at(100.1)
    assert rig.moves()


def test_in_lockstep_an_inference_may_take_longer_than_a_chunk_holds(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    start(rig, 100.0)
    rig.at(100.2)
    wall_s = [time.monotonic()]
    monkeypatch.setattr(input_monitor, "time", SimpleNamespace(monotonic=lambda: wall_s[0]))
    assert rig.moves()
    rig.network.go.clear()
    rig.see()
    wall_s[0] += 30.0
    assert not rig.moves()
    rig.finish()
    wall_s[0] += 5.0  # the timer was late, too
    assert rig.moves()


@pytest.mark.parametrize("meanwhile", ["deactivated", "instructed", "clock"])
def test_what_was_inferred_before_does_not_move_the_robot_after(rig: Rig, meanwhile: str):
    start(rig, 100.0)
    rig.at(100.2)
    rig.network.go.clear()
    rig.see()
    assert rig.network.began.wait(TIMEOUT_S)
    if meanwhile == "deactivated":
        rig.node.trigger_deactivate()
        assert not any(rig.twists[-1:])
        rig.node.trigger_activate()
    elif meanwhile == "instructed":
        rig.node._set_instruction("place")
        rig.node._set_instruction("pick")  # the same words, another start
    else:
        rig.at(100.1, pose=False)  # back by less than a row
        rig.node._tick()
        rig.at(100.1)
    rig.finish()
    assert not rig.moves()
    rig.at(100.4)
    rig.see()
    rig.finish()
    assert rig.moves()


def test_a_clock_that_went_back_while_the_node_was_inactive_leaves_it_able_to_move(rig: Rig):
    rig.at(200.0)
    rig.node._tick()
    rig.at(20.0, pose=False)
    rig.node._tick()
    start(rig, 20.1)


def test_a_transform_of_before_that_comes_after_the_clock_went_back_is_got_over(rig: Rig):
    start(rig, 100.0)
    rig.at(10.0, pose=False)
    assert not rig.moves()
    rig.at(100.1)  # late on its way
    rig.at(10.1, pose=False)
    assert not rig.moves()
    rig.at(10.2)
    rig.see()
    rig.finish()
    assert rig.moves()


def test_deactivation_leaves_nothing_of_the_stop_for_later(rig: Rig):
    start(rig, 100.0)
    rig.node.trigger_deactivate()
    sent = len(rig.twists)
    assert rig.twists[-1] == 0.0
    rig.node.trigger_activate()
    rig.node._tick()
    assert len(rig.twists) == sent


def test_activation_and_a_clock_that_goes_back_begin_a_new_episode(rig: Rig):
    start(rig, 100.0)
    assert rig.network.resets == 1
    rig.see()
    rig.at(10.0)
    rig.node._tick()
    assert rig.network.resets == 2
