# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""tf2 for nodes, in pure Python: buffer with timeouts, listener and broadcasters.

The same import names and behaviour as the tf2_ros of a ROS 2 Jazzy installation. Not included: the frame
graph service, the action client buffer and the conversion registry (BufferInterface.transform)."""

from tf2_py import (
    BufferCore,
    ConnectivityException,
    ExtrapolationException,
    InvalidArgumentException,
    LookupException,
    TimeoutException,
    TransformException,
)

from tf2_ros.buffer import Buffer
from tf2_ros.static_transform_broadcaster import StaticTransformBroadcaster
from tf2_ros.transform_broadcaster import TransformBroadcaster
from tf2_ros.transform_listener import TransformListener

__all__ = [
    "Buffer",
    "BufferCore",
    "ConnectivityException",
    "ExtrapolationException",
    "InvalidArgumentException",
    "LookupException",
    "StaticTransformBroadcaster",
    "TimeoutException",
    "TransformBroadcaster",
    "TransformException",
    "TransformListener",
]
