# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""A switch that a person holds: motion only while `true` keeps coming (std_msgs/Bool).

Silence is a released switch, by the steady clock: a cable that was pulled, a pad that went to sleep, a /clock that
stands. Optional: without a topic it never holds anything back.
"""

from __future__ import annotations

import time

from rclpy.node import Node
from std_msgs.msg import Bool

from sqap_vla.nodes import qos

RELEASED = "deadman_released"
SILENT = "deadman_silent"


class Deadman:
    """topic: '' for none. timeout_s: after which a switch that is not heard counts as released."""

    def __init__(self, node: Node, topic: str, timeout_s: float) -> None:
        self._node, self._timeout_s = node, timeout_s
        self._held, self._heard_s = False, float("-inf")
        self._subscription = node.create_subscription(Bool, topic, self._on_switch, qos.command()) if topic else None

    @property
    def open(self) -> str:
        """Why motion is held back; '' where it is not."""
        if self._subscription is None:
            return ""
        if time.monotonic() - self._heard_s > self._timeout_s:
            return SILENT
        return "" if self._held else RELEASED

    def destroy(self) -> None:
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)

    def _on_switch(self, msg: Bool) -> None:
        self._held, self._heard_s = msg.data, time.monotonic()
