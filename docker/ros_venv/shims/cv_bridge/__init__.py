# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""ROS images <-> OpenCV arrays, in pure Python, with the import names and behaviour of vision_opencv's
cv_bridge.
"""

from cv_bridge.core import CvBridge, CvBridgeError

__all__ = ["CvBridge", "CvBridgeError"]
