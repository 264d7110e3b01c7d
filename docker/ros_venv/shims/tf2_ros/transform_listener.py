# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Feeds a buffer from /tf and /tf_static."""

from __future__ import annotations

from threading import Thread, current_thread

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile
from tf2_msgs.msg import TFMessage

from tf2_ros.buffer import Buffer

AUTHORITY = "default_authority"


class TransformListener:
    """Keeps `buffer` up to date as long as the node is spun (by `spin_thread`, in a thread of its own).

    The node's subscriptions keep the listener alive. The thread ends with the node's context
    (rclpy.shutdown)."""

    def __init__(
        self,
        buffer: Buffer,
        node: Node,
        *,
        spin_thread: bool = False,
        qos: QoSProfile | int | None = None,
        static_qos: QoSProfile | int | None = None,
    ) -> None:
        self.buffer = buffer
        self.node = node
        # Reentrant: a callback of the node that waits for a transform must not keep it from arriving.
        self.group = ReentrantCallbackGroup()
        self.tf_sub = node.create_subscription(
            TFMessage,
            "/tf",
            self.callback,
            qos or _profile(DurabilityPolicy.VOLATILE),
            callback_group=self.group,
        )
        self.tf_static_sub = node.create_subscription(
            TFMessage,
            "/tf_static",
            self.static_callback,
            static_qos or _profile(DurabilityPolicy.TRANSIENT_LOCAL),
            callback_group=self.group,
        )
        if spin_thread:
            self.executor = SingleThreadedExecutor(context=node.context)
            # No daemon: the interpreter must not be torn down under a thread that is inside DDS.
            self.dedicated_listener_thread = Thread(target=_spin, args=(self.executor, node), name="tf_listener")
            self.dedicated_listener_thread.start()

    def __del__(self) -> None:
        if not hasattr(self, "tf_static_sub") or not self.node.context.ok():
            return  # never set up, or ended with the context already
        if hasattr(self, "dedicated_listener_thread"):
            self.executor.shutdown()
            if self.dedicated_listener_thread is not current_thread():
                self.dedicated_listener_thread.join()
        self.unregister()

    def unregister(self) -> None:
        """End both subscriptions."""
        self.node.destroy_subscription(self.tf_sub)
        self.node.destroy_subscription(self.tf_static_sub)

    def callback(self, data: TFMessage) -> None:
        """Store moving transforms."""
        for transform in data.transforms:
            self.buffer.set_transform(transform, AUTHORITY)

    def static_callback(self, data: TFMessage) -> None:
        """Store static transforms."""
        for transform in data.transforms:
            self.buffer.set_transform_static(transform, AUTHORITY)


def _profile(durability: DurabilityPolicy) -> QoSProfile:
    return QoSProfile(depth=100, durability=durability, history=HistoryPolicy.KEEP_LAST)


def _spin(executor: SingleThreadedExecutor, node: Node) -> None:
    executor.add_node(node)
    try:
        executor.spin()
    except ExternalShutdownException:
        return  # the context was shut down under the executor: nothing is left to spin
    executor.remove_node(node)
