# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Waiting for something to become true while a node's callbacks run."""

from __future__ import annotations

import time
from collections.abc import Callable

from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node


def spin_until(node: Node, done: Callable[[], bool], timeout_s: float, step_s: float = 0.05) -> bool:
    """Runs the node's callbacks until done() or the time is over; returns done(). Wall time."""
    executor = SingleThreadedExecutor(context=node.context)
    executor.add_node(node)
    deadline_s = time.monotonic() + timeout_s
    try:
        while not done():
            if time.monotonic() > deadline_s or not node.context.ok():
                return False
            executor.spin_once(timeout_sec=step_s)
        return True
    finally:
        executor.remove_node(node)
        executor.shutdown()
