# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The demo's own node: collects frames, step reports, diagnostics and episodes; puts them into words and pictures."""

from __future__ import annotations

import json
from collections import OrderedDict

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import TwistStamped
from rclpy.node import Node
from sensor_msgs.msg import Image
from std_msgs.msg import String

from sqap_vla.evaluation.recorder import ReplayRecorder
from sqap_vla.evaluation.step_json import step_from_json
from sqap_vla.nodes import qos
from sqap_vla.nodes.conversions import rgb_from_image, stamp_ns

LEVELS = {
    DiagnosticStatus.OK: "ok   ",
    DiagnosticStatus.WARN: "WARN ",
    DiagnosticStatus.ERROR: "ERROR",
    DiagnosticStatus.STALE: "stale",
}
MAX_WAITING = 50  # frames kept until their step report comes


class Watch(Node):
    def __init__(self, recorder: ReplayRecorder) -> None:
        super().__init__("demo")
        self._recorder = recorder
        self._frames: OrderedDict[int, np.ndarray] = OrderedDict()
        self._diagnostics: list[DiagnosticStatus] = []
        self.episode: dict = {}
        self._twists = 0
        self.create_subscription(Image, "camera/image_raw", self._on_image, qos.sensor("reliable", depth=5))
        self.create_subscription(String, "policy/debug/step", self._on_step, qos.command())
        self.create_subscription(String, "tabletop/episode", self._on_episode, qos.latched())
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self.create_subscription(TwistStamped, "policy/twist", self._on_twist, qos.command())

    def lines(self, elapsed_s: float, seconds: float) -> list[str]:
        """The status, one screen of it."""
        episode = self.episode
        lines = [
            f"{elapsed_s:5.0f} / {seconds:.0f} s   {len(self._recorder)} chunks, {self._twists} twist commands",
            f"episode {episode.get('episode', '-')}: '{episode.get('instruction', '')}', "
            f"{episode.get('state', 'starting')}, "
            f"step {episode.get('steps', 0)}, successes {episode.get('successes', 0)}",
        ]
        return lines + [
            f"  {LEVELS[s.level]} {s.name.removeprefix('sqap_vla: '):12s} {s.message}" for s in self._diagnostics
        ]

    def successes(self) -> str:
        """How the episodes ended that have begun, in words."""
        episode = self.episode
        if not episode:
            return "none began"
        unfinished = ", the last one cut short" if episode["state"] == "running" else ""
        return f"{episode['successes']} of {episode['episode']} succeeded{unfinished}"

    def _on_image(self, msg: Image) -> None:
        self._frames[stamp_ns(msg.header.stamp)] = rgb_from_image(msg)
        while len(self._frames) > MAX_WAITING:
            self._frames.popitem(last=False)

    def _on_step(self, msg: String) -> None:
        record = step_from_json(msg.data)
        self._recorder.add(record, self._frames.pop(record.stamp_ns, None))

    def _on_episode(self, msg: String) -> None:
        self.episode = json.loads(msg.data)

    def _on_diagnostics(self, msg: DiagnosticArray) -> None:
        self._diagnostics = list(msg.status)

    def _on_twist(self, msg: TwistStamped) -> None:
        self._twists += 1
