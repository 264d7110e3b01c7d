# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Waiting for a latched text, such as a robot description, from inside a transition."""

from __future__ import annotations

import rclpy
from rclpy.node import Node
from std_msgs.msg import String

from sqap_vla.nodes import qos
from sqap_vla.nodes.lifecycle import stop_requested
from sqap_vla.nodes.spinning import spin_until


def latched_text(node: Node, topic: str, timeout_s: float) -> str | None:
    """The newest text on the topic; None where none comes in time. Raises ValueError when the process is to end.

    A node of its own listens: the caller is inside a transition, and its executor waits for that to end.
    """
    texts: list[str] = []
    listener = rclpy.create_node(
        f"_{node.get_name()}_listener",
        context=node.context,
        use_global_arguments=False,
        start_parameter_services=False,
        enable_rosout=False,
    )
    try:
        resolved = node.resolve_topic_name(topic)
        listener.create_subscription(String, resolved, lambda msg: texts.append(msg.data), qos.latched())
        spin_until(listener, lambda: bool(texts) or stop_requested(), timeout_s)
        if not texts and stop_requested():
            raise ValueError(f"the node was asked to end while it waited for {resolved}")
    finally:
        listener.destroy_node()
    return texts[-1] if texts else None
