# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The instruction topic of the tabletop, which goes both ways.

The tabletop publishes, latched, what it asks for; whoever else publishes there changes the task, as `ros2
topic pub` does. A node also hears itself: its own messages are known by their order, so that they are never
taken for a change.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import String


class InstructionTopic:
    """Publishes the instruction; calls `on_change(text)` for what others publish."""

    def __init__(self, node: Node, on_change: Callable[[str], None]) -> None:
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._own: deque[str] = deque(maxlen=64)  # published, not heard yet
        self._on_change = on_change
        self._publisher = node.create_publisher(String, "instruction", latched)
        self._subscription = node.create_subscription(String, "instruction", self._heard, QoSProfile(depth=10))

    def publish(self, text: str) -> None:
        self._own.append(text)
        self._publisher.publish(String(data=text))

    def _heard(self, msg: String) -> None:
        if msg.data in self._own:
            while self._own.popleft() != msg.data:  # earlier ones were overwritten on the way
                pass
            return
        self._on_change(msg.data)
