# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The policy node in the test's own process, on a simulated clock and with a network that answers at will.

The test calls what the executor would call, in an order that it chooses.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import rclpy
import torch
from geometry_msgs.msg import TransformStamped
from rclpy.context import Context
from rclpy.parameter import Parameter
from rclpy.time import Time
from sensor_msgs.msg import Image

from sqap_vla.nodes import policy as policy_module
from sqap_vla.nodes.conversions import pose_from_matrix, stamp_msg
from sqap_vla.nodes.policy import PolicyNode
from sqap_vla.pruning.ring import NO_CAMERA_INFO, empty_ring
from sqap_vla.pruning.selection import keep_all
from sqap_vla.runtime.types import ActionChunk, Observation, StageTimes

SECOND = 1_000_000_000
TICK_NS = SECOND // 20
TIMEOUT_S = 10.0
PARAMETERS = {
    "checkpoint": "any",
    "unnorm_key": "any",
    "instruction": "pick",
    "dry_run": False,
    "use_sim_time": True,
    "fade_in_s": 0.0,
    "max_chunk_age_s": 1.0,
    "limits.max_linear_m_s": 1.0,
    "limits.max_angular_rad_s": 1.0,
    "limits.max_linear_accel_m_s2": 50.0,
    "limits.max_angular_accel_rad_s2": 50.0,
    "limits.workspace_min_m": [-1.0] * 3,
    "limits.workspace_max_m": [1.0] * 3,
}


class Network:
    """Answers every observation with a slow motion along x; waits while `go` is clear."""

    model = SimpleNamespace(device=torch.device("cpu"), decoder=SimpleNamespace(layers=torch.nn.ModuleList()))

    def __init__(self) -> None:
        self.go, self.began = threading.Event(), threading.Event()
        self.go.set()
        self.resets = 0
        self.actions = np.tile([0.01, 0, 0, 0, 0, 0, 1.0], (16, 1))

    def reset(self) -> None:
        self.resets += 1

    def infer(self, observation: Observation) -> ActionChunk:
        self.began.set()
        assert self.go.wait(TIMEOUT_S)
        return ActionChunk(
            actions=self.actions,
            step_s=0.2,
            stamp_ns=observation.stamp_ns,
            selection=keep_all(256, "cpu"),
            ring=empty_ring(NO_CAMERA_INFO),
            times=StageTimes(1, 1, 1, 1, 4),
            base_T_ee=observation.base_T_ee,
        )


class Rig:
    """Calls what the executor would call, in an order that the test chooses."""

    def __init__(self, node: PolicyNode, network: Network) -> None:
        self.node, self.network = node, network
        self.twists: list[float] = []

    def configure(self) -> None:
        assert self.node.trigger_configure() == policy_module.SUCCESS
        self.pipeline = self.node._pipeline
        for timer in [timer for timer in self.node.timers if timer.timer_period_ns == TICK_NS]:
            timer.cancel()  # the test ticks
        output = self.pipeline._commander._output
        send = output._send_twist
        output._send_twist = lambda twist: (self.twists.append(float(twist[0])), send(twist))

    def at(self, seconds: float, pose: bool = True, place: np.ndarray | None = None) -> None:
        """Sets the clock and, unless told otherwise, hears the pose of that time: place [4, 4], or no rotation at 0."""
        now_ns = round(seconds * SECOND)
        clock = self.node.get_clock()
        clock.set_ros_time_override(Time(nanoseconds=now_ns, clock_type=clock.clock_type))
        if pose:
            msg = TransformStamped(child_frame_id="gripper_tcp")
            msg.header.frame_id, msg.header.stamp = "base_link", stamp_msg(now_ns)
            there = pose_from_matrix(np.eye(4) if place is None else place)
            msg.transform.rotation = there.orientation
            translation = msg.transform.translation
            translation.x, translation.y, translation.z = there.position.x, there.position.y, there.position.z
            self.pipeline._buffer.set_transform(msg, "test")

    def see(self) -> None:
        now_ns = self.node.get_clock().now().nanoseconds
        msg = Image(encoding="rgb8", width=4, height=4, step=12, data=bytes(48))
        msg.header.stamp = stamp_msg(now_ns)
        self.network.began.clear()
        self.pipeline._on_image(msg)

    def finish(self) -> None:
        """Waits until the worker is idle."""
        assert self.network.began.wait(TIMEOUT_S)
        self.network.go.set()
        while self.pipeline._worker.busy_s() > 0:
            time.sleep(0.001)

    def moves(self) -> bool:
        """Whether one tick of the command timer sends motion."""
        before = len(self.twists)
        self.pipeline._tick()
        return any(self.twists[before:])

    def start(self, seconds: float) -> None:
        """Active and moving at that time."""
        self.at(seconds)
        assert self.node.trigger_activate() == policy_module.SUCCESS
        self.see()
        self.finish()
        assert self.moves()

    def stop_reason(self) -> str:
        return self.pipeline._commander.figures()["command/stop_reason"]


@contextmanager
def policy_rig(monkeypatch: pytest.MonkeyPatch, namespace: str, **changes: Any) -> Iterator[Rig]:
    """A configured policy; changes to PARAMETERS, __ for a dot."""
    network = Network()
    monkeypatch.setattr(policy_module, "load_engine", lambda params: network)
    context = Context()
    rclpy.init(context=context, domain_id=int(os.environ["ROS_DOMAIN_ID"]))
    values = PARAMETERS | {name.replace("__", "."): value for name, value in changes.items()}
    overrides = [Parameter(name, value=value) for name, value in values.items()]
    node = PolicyNode(context=context, parameter_overrides=overrides, namespace=namespace)
    rig = Rig(node, network)
    rig.configure()
    yield rig
    network.go.set()
    node.close()
    node.destroy_node()
    rclpy.shutdown(context=context)
