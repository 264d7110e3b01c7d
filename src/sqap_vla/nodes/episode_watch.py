# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Starts an episode of the simulator's, follows it to its end over DDS, and says what it was."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from rcl_interfaces.srv import SetParameters
from rclpy.client import Client
from rclpy.node import Node
from rclpy.parameter import Parameter
from std_msgs.msg import Float32, String
from std_srvs.srv import Trigger
from tf2_msgs.msg import TFMessage

from sqap_vla.evaluation.closed_loop import EpisodeResult, Outcome, result_of
from sqap_vla.nodes import qos
from sqap_vla.nodes.node_process import NodeFailed, NodeProcess
from sqap_vla.nodes.spinning import spin_until

SERVICE_TIMEOUT_S = 60.0
SILENCE_S = 30.0  # of the simulator, which tells of the episode with every camera frame
EE_FRAME = "gripper_tcp"


class EpisodeWatch(Node):
    """step_s: time of a camera frame, which is a step."""

    def __init__(self, step_s: float) -> None:
        super().__init__("evaluate")
        self._step_s = step_s
        self._told: dict[str, Any] = {}
        self._told_s = 0.0
        self._path_m: list[np.ndarray] = []
        self._hand_m = np.full(3, np.nan)
        self._latencies_ms: list[float] = []
        self.create_subscription(String, "tabletop/episode", self._on_episode, qos.latched())
        self.create_subscription(TFMessage, "/tf", self._on_transforms, 50)
        self.create_subscription(Float32, "policy/debug/processing_time_ms", self._on_latency, qos.sensor(depth=10))
        self._reset = self.create_client(Trigger, "tabletop/reset")
        self._set = self.create_client(SetParameters, "tabletop/set_parameters")

    def reset(self, seed: int, nodes: Sequence[NodeProcess]) -> None:
        """Starts the episode of this seed. Raises NodeFailed."""
        parameter = Parameter("seed", value=seed).to_parameter_msg()
        self._call(self._set, SetParameters.Request(parameters=[parameter]), nodes)
        self._told, self._path_m, self._latencies_ms = {}, [], []
        self._call(self._reset, Trigger.Request(), nodes)

    def finish(self, seed: int, nodes: Sequence[NodeProcess], start_s: float) -> EpisodeResult:
        """Waits for its end. start_s: monotonic time at which it began. Raises NodeFailed."""
        self._told_s = time.monotonic()
        over = lambda: self._told.get("seed") == seed and self._told["state"] != "running"  # noqa: E731
        self._wait(lambda: over() or time.monotonic() - self._told_s > SILENCE_S, nodes, float("inf"))
        if not over():
            raise NodeFailed(f"the simulator said nothing for {SILENCE_S:.0f} s, last {self._told}; is it stuck?")
        told = self._told
        outcome = Outcome(
            seed=seed,
            family=told["family"],
            instruction=told["instruction"],
            scenario=told["scenario"],
            varied="+".join(told["varied"]),
            success=told["state"] == "success",
            steps=told["steps"],
        )
        path_m = np.array([place for place in self._path_m if np.isfinite(place).all()]).reshape(-1, 3)
        return result_of(outcome, path_m, self._step_s, self._latencies_ms, time.monotonic() - start_s)

    def _call(self, client: Client, request: Any, nodes: Sequence[NodeProcess]) -> None:
        self._wait(client.service_is_ready, nodes, SERVICE_TIMEOUT_S)
        future = client.call_async(request)
        self._wait(future.done, nodes, SERVICE_TIMEOUT_S)
        if not future.done():
            raise NodeFailed(f"no answer from {client.srv_name} within {SERVICE_TIMEOUT_S:.0f} s")

    def _wait(self, done: Callable[[], bool], nodes: Sequence[NodeProcess], timeout_s: float) -> None:
        def ended() -> list[str]:
            return [node.name for node in nodes if not node.alive]

        spin_until(self, lambda: done() or bool(ended()), timeout_s, step_s=0.01)
        if dead := ended():
            raise NodeFailed(f"{', '.join(dead)} ended in the middle of an episode; finished episodes stay")

    def _on_episode(self, msg: String) -> None:
        self._told, self._told_s = json.loads(msg.data), time.monotonic()
        self._path_m.append(self._hand_m.copy())  # told once per camera frame

    def _on_transforms(self, msg: TFMessage) -> None:
        for transform in msg.transforms:
            if transform.child_frame_id == EE_FRAME:
                place = transform.transform.translation
                self._hand_m = np.array([place.x, place.y, place.z])

    def _on_latency(self, msg: Float32) -> None:
        self._latencies_ms.append(msg.data)
