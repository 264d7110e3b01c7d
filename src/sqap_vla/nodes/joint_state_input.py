# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Where the joints are: the newest sensor_msgs/JointState, checked before it is believed."""

from __future__ import annotations

import time

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import JointState

from sqap_vla.nodes import qos
from sqap_vla.nodes.conversions import InputError, stamp_ns


class JointStateInput:
    """A publisher may leave joints out (a gripper of its own, for one): what it does not name is ignored as a whole."""

    def __init__(self, node: Node, topic: str, joint_names: tuple[str, ...], max_age_s: float) -> None:
        self._node, self._names, self._max_age_s = node, joint_names, max_age_s
        self._newest: tuple[int, float, np.ndarray] | None = None  # stamp, arrival on the steady clock, positions
        self._subscription = node.create_subscription(JointState, topic, self._on_joint_state, qos.sensor(depth=5))

    def destroy(self) -> None:
        self._node.destroy_subscription(self._subscription)

    def at(self, now_ns: int) -> tuple[int, np.ndarray]:
        """Stamp and positions [n] of the newest state. Raises InputError (joint_state_missing, joint_state_stale)."""
        if self._newest is None:
            raise InputError("joint_state_missing", f"no joint state has come that names {', '.join(self._names)}")
        at_ns, arrival_s, positions = self._newest
        age_s, silent_s = (now_ns - at_ns) / 1e9, time.monotonic() - arrival_s
        if abs(age_s) > self._max_age_s or silent_s > self._max_age_s:
            raise InputError(
                "joint_state_stale",
                f"the newest joint state is {age_s:.3f} s old by its stamp and came {silent_s:.3f} s ago; at most "
                f"max_joint_age_s = {self._max_age_s:g} is allowed",
            )
        return at_ns, positions

    def _on_joint_state(self, msg: JointState) -> None:
        places = {name: place for place, name in enumerate(msg.name)}
        if len(msg.position) != len(msg.name) or not all(name in places for name in self._names):
            return
        positions = np.array([msg.position[places[name]] for name in self._names])
        if np.isfinite(positions).all():  # else the last good one grows stale
            self._newest = stamp_ns(msg.header.stamp), time.monotonic(), positions
