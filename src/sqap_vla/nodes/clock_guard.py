# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""A /clock before 1970 is dropped, and the node lives on.

rclpy raises ValueError out of its own clock callback for a negative time, which ends the executor and with it the
process: one wrong message on /clock would stop every node that uses simulated time.
"""

from __future__ import annotations

from rclpy.node import Node
from rosgraph_msgs.msg import Clock


def ignore_impossible_clock(node: Node) -> None:
    """To be called once, before the node is spun."""
    source = node._time_source  # rclpy offers no other way to it
    take = source.clock_callback
    logger = node.get_logger()

    def guarded(msg: Clock) -> None:
        try:
            take(msg)
        except (ValueError, OverflowError) as error:
            stamp = msg.clock
            logger.error(f"/clock {stamp.sec}.{stamp.nanosec:09d} is dropped: {error}", throttle_duration_sec=5.0)

    source.clock_callback = guarded  # of a subscription that is made when use_sim_time is set
    if source._clock_sub is not None:
        source._clock_sub.callback = guarded
