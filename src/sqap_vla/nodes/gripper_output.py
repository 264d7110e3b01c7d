# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The gripper's command: a number on ~/gripper, or an action of control_msgs where that is installed.

A fraction of 0 is gripper_closed_position, 1 gripper_open_position, between them a straight line. Actions are sent when
the target changes, not at every tick, and never in a dry run: then the number goes to ~/dry_run/gripper.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.action import ActionClient
from rclpy.lifecycle import LifecycleNode
from std_msgs.msg import Float64MultiArray

from sqap_vla.nodes import qos
from sqap_vla.nodes.edge_log import EdgeLog
from sqap_vla.nodes.policy_parameters import PolicyParameters

SMALLEST_CHANGE = 0.02  # of the way from closed to open


def make_gripper_output(node: LifecycleNode, params: PolicyParameters) -> NumberOutput | ActionOutput | None:
    """None where the gripper is not commanded. Raises ValueError where control_msgs is needed and missing."""
    if params.gripper_interface == "none":
        return None
    if params.dry_run or params.gripper_interface == "float64_multi_array":
        return NumberOutput(node, params)
    return ActionOutput(node, params)


def _position(params: PolicyParameters, open_fraction: float) -> float:
    closed, opened = params.gripper_closed_position, params.gripper_open_position
    return closed + open_fraction * (opened - closed)


class NumberOutput:
    """Every tick, so that a consumer that lost one gets the next."""

    def __init__(self, node: LifecycleNode, params: PolicyParameters) -> None:
        self._node, self._params = node, params
        prefix = "~/dry_run/" if params.dry_run else "~/"
        self._publisher = node.create_lifecycle_publisher(Float64MultiArray, prefix + "gripper", qos.command())

    def send(self, open_fraction: float) -> None:
        self._publisher.publish(Float64MultiArray(data=[_position(self._params, open_fraction)]))

    def forget(self) -> None:
        pass  # the next tick says it anyway

    def destroy(self) -> None:
        self._node.destroy_lifecycle_publisher(self._publisher)


class ActionOutput:
    """A goal whenever the target moves by more than SMALLEST_CHANGE."""

    def __init__(self, node: LifecycleNode, params: PolicyParameters) -> None:
        kind, self._make_goal = _action(params)
        self._node, self._params, self._log = node, params, EdgeLog()
        self._client = ActionClient(node, kind, params.gripper_action)
        self._sent: float | None = None

    def send(self, open_fraction: float) -> None:
        if self._sent is not None and abs(open_fraction - self._sent) < SMALLEST_CHANGE:
            return
        if not self._client.server_is_ready():
            if self._log.begins("no_server"):
                self._node.get_logger().warning(
                    f"no gripper takes {self._params.gripper_interface} on '{self._params.gripper_action}'"
                )
            return
        self._sent = open_fraction
        self._client.send_goal_async(self._make_goal(_position(self._params, open_fraction)))

    def forget(self) -> None:
        """Commands have stopped: somebody else may move the gripper, so the next goal goes out even if it is the last
        one again."""
        self._sent = None

    def destroy(self) -> None:
        self._client.destroy()


def _action(params: PolicyParameters) -> tuple[type, Callable[[float], Any]]:
    try:
        from control_msgs import action  # not part of ROS's base; only who has such a gripper needs it
    except ImportError as error:
        raise ValueError(
            f"gripper_interface is {params.gripper_interface}, which needs control_msgs: install "
            "ros-$ROS_DISTRO-control-msgs, or use float64_multi_array"
        ) from error
    if params.gripper_interface == "gripper_command":

        def gripper_goal(position: float) -> Any:
            goal = action.GripperCommand.Goal()
            goal.command.position, goal.command.max_effort = position, params.gripper_max_effort
            return goal

        return action.GripperCommand, gripper_goal
    if not params.gripper_joint:
        raise ValueError("gripper_joint is not set; parallel_gripper_command names the joint it moves")

    def parallel_goal(position: float) -> Any:
        goal = action.ParallelGripperCommand.Goal()
        goal.command.name, goal.command.position = [params.gripper_joint], [position]
        if params.gripper_max_effort > 0:
            goal.command.effort = [params.gripper_max_effort]
        return goal

    return action.ParallelGripperCommand, parallel_goal
