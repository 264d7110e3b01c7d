# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""A lifecycle request that the present state does not allow is refused, and the node lives on.

rclpy raises RCLError out of the service callback (ros2/rclpy#1209), which ends the executor and with it the
process: a second `ros2 lifecycle set ... activate` would stop a robot's policy.
"""

from __future__ import annotations

from lifecycle_msgs.srv import ChangeState
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleNode


def refuse_impossible_transitions(node: LifecycleNode) -> None:
    """To be called once, in the node's constructor."""
    service = node._service_change_state  # rclpy offers no other way to it
    change_state = service.callback

    def refusing(request: ChangeState.Request, response: ChangeState.Response) -> ChangeState.Response:
        try:
            return change_state(request, response)
        except rclpy_implementation.RCLError as error:
            name = request.transition.label or request.transition.id
            node.get_logger().error(f"lifecycle transition {name} is refused: {str(error).splitlines()[0]}")
            response.success = False
            return response

    service.callback = refusing
