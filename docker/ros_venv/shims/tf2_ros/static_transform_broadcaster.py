# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Publishes transforms that hold for good on /tf_static, latched for late joiners."""

from __future__ import annotations

from collections.abc import Iterable

from geometry_msgs.msg import TransformStamped
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile
from tf2_msgs.msg import TFMessage

from tf2_ros.transform_broadcaster import as_list


class StaticTransformBroadcaster:
    """Every message carries all transforms sent so far, since only the last message is kept for late joiners.

    As upstream in Jazzy, a frame's first transform stays: sending another for the same child frame changes
    nothing."""

    def __init__(self, node: Node, qos: QoSProfile | int | None = None) -> None:
        if qos is None:
            qos = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL, history=HistoryPolicy.KEEP_LAST)
        self.pub_tf = node.create_publisher(TFMessage, "/tf_static", qos)
        self.net_message = TFMessage()
        self._child_frame_ids: set[str] = set()

    def sendTransform(self, transform: TransformStamped | Iterable[TransformStamped]) -> None:  # noqa: N802
        """Publish one transform or several together with those sent before."""
        for message in as_list(transform):
            if message.child_frame_id not in self._child_frame_ids:
                self._child_frame_ids.add(message.child_frame_id)
                self.net_message.transforms.append(message)
        self.pub_tf.publish(self.net_message)
