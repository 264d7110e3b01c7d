# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""What the simulated arm is told: a twist and a gripper opening, checked before they are believed.

`command/twist` (TwistStamped, m/s and rad/s along the axes of the base frame, about the end-effector's
origin) holds until it is `timeout_s` old by its stamp; then the arm holds still. `command/gripper`
(Float64MultiArray, one number, 0 closed to 1 open) holds until the next one.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from geometry_msgs.msg import TwistStamped
from rclpy.node import Node
from std_msgs.msg import Float64MultiArray

from sqap_vla.nodes import qos
from sqap_vla.nodes.conversions import stamp_ns

FUTURE_TOLERANCE_NS = 500_000_000
_WARN_EVERY_S = 5.0


class CommandInput:
    """The newest valid command. `now_ns` gives the time by which the messages' stamps are judged."""

    def __init__(self, node: Node, base_frame: str, timeout_s: float, now_ns: Callable[[], int]) -> None:
        self._logger, self._base_frame, self._now_ns = node.get_logger(), base_frame, now_ns
        self._timeout_ns = round(timeout_s * 1e9)
        self._subscriptions = (
            node.create_subscription(TwistStamped, "command/twist", self._on_twist, qos.command()),
            node.create_subscription(Float64MultiArray, "command/gripper", self._on_gripper, qos.command()),
        )
        self.forget()

    def forget(self) -> None:
        """Back to no motion and an open gripper."""
        self._twist, self._twist_ns = np.zeros(6), -1
        self.gripper_open, self.gripper_is_new = 1.0, False

    def start_frame(self) -> None:
        """From here on `answers` waits for another gripper command."""
        self.gripper_is_new = False

    def answers(self, frame_ns: int) -> bool:
        """Whether a twist stamped at or after `frame_ns` and a new gripper command have come."""
        return self.gripper_is_new and self.has_twist_since(frame_ns)

    def has_twist_since(self, frame_ns: int) -> bool:
        """Whether a twist stamped at or after `frame_ns` has come."""
        return self._twist_ns >= frame_ns

    def twist(self, now_ns: int) -> np.ndarray:
        """The twist [6] in m/s and rad/s that holds at `now_ns`; zero once it is too old."""
        return self._twist if self._twist_ns >= 0 and now_ns - self._twist_ns <= self._timeout_ns else np.zeros(6)

    def twist_since(self, frame_ns: int) -> np.ndarray:
        """The twist [6] stamped at or after `frame_ns`; zero where there is none."""
        return self._twist if self.has_twist_since(frame_ns) else np.zeros(6)

    def _on_twist(self, msg: TwistStamped) -> None:
        linear, angular = msg.twist.linear, msg.twist.angular
        twist = np.array([linear.x, linear.y, linear.z, angular.x, angular.y, angular.z])
        ahead_ns = stamp_ns(msg.header.stamp) - self._now_ns()
        if msg.header.frame_id not in ("", self._base_frame):
            self._refuse(f"frame is '{msg.header.frame_id}'; send it in '{self._base_frame}'")
        elif not np.isfinite(twist).all():
            self._refuse(f"{twist.tolist()} is not finite")
        elif ahead_ns > FUTURE_TOLERANCE_NS:
            self._refuse(f"stamp is {ahead_ns / 1e9:.3f} s ahead of the simulation; set use_sim_time on its sender")
        else:
            self._twist, self._twist_ns = twist, stamp_ns(msg.header.stamp)

    def _on_gripper(self, msg: Float64MultiArray) -> None:
        if len(msg.data) != 1 or not np.isfinite(msg.data[0]):
            self._refuse(f"gripper command is {list(msg.data)}; send one number from 0 (closed) to 1 (open)")
            return
        self.gripper_open, self.gripper_is_new = float(np.clip(msg.data[0], 0.0, 1.0)), True

    def _refuse(self, reason: str) -> None:
        self._logger.warning(f"command refused: {reason}", throttle_duration_sec=_WARN_EVERY_S)
