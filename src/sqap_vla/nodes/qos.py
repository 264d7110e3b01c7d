# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Quality of service of every topic, in one place.

A best-effort subscription takes what a reliable publisher sends; the other way round nothing arrives. Sensor streams
are therefore best effort with the newest message only, commands reliable, and what a late joiner must still get is
latched.
"""

from __future__ import annotations

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

RELIABILITY = {"best_effort": ReliabilityPolicy.BEST_EFFORT, "reliable": ReliabilityPolicy.RELIABLE}


def sensor(reliability: str = "best_effort", depth: int = 1) -> QoSProfile:
    """Camera image, camera_info, joint states: the newest message only."""
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=RELIABILITY[reliability],
        durability=DurabilityPolicy.VOLATILE,
    )


def command() -> QoSProfile:
    """Twist, target pose, gripper: reliable, and never a backlog of old commands."""
    return QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=1, reliability=ReliabilityPolicy.RELIABLE)


def latched() -> QoSProfile:
    """Instruction, manifest, status: a late joiner gets the last one."""
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=1,
        reliability=ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.TRANSIENT_LOCAL,
    )


def debug() -> QoSProfile:
    """Overlay and timings: best effort, so that a slow viewer never holds up the policy."""
    return sensor("best_effort")
