# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Gripper actions: a goal when the target changes, its fields, and what is said where control_msgs or the server is
missing.

control_msgs is not among the wheels, so its two actions are stood in for by classes with the same fields.
"""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

from sqap_vla.nodes import gripper_output
from sqap_vla.nodes.gripper_output import make_gripper_output
from sqap_vla.nodes.policy_parameters import PolicyParameters


class Client:
    """As rclpy's ActionClient: one per made output."""

    made: ClassVar[list[Client]] = []

    def __init__(self, node: Any, kind: type, name: str) -> None:
        self.kind, self.name, self.ready, self.goals, self.destroyed = kind, name, True, [], False
        Client.made.append(self)

    def server_is_ready(self) -> bool:
        return self.ready

    def send_goal_async(self, goal: Any) -> None:
        self.goals.append(goal)

    def destroy(self) -> None:
        self.destroyed = True


def action_type(**command: Any) -> type:
    """An action whose goal has a `command` with these fields."""
    return type("Action", (), {"Goal": lambda: SimpleNamespace(command=SimpleNamespace(**command))})


@pytest.fixture
def control_msgs(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    action = ModuleType("control_msgs.action")
    action.GripperCommand = action_type(position=None, max_effort=None)
    action.ParallelGripperCommand = action_type(name=None, position=None, effort=[])
    package = ModuleType("control_msgs")
    package.action = action
    monkeypatch.setitem(sys.modules, "control_msgs", package)
    monkeypatch.setitem(sys.modules, "control_msgs.action", action)
    monkeypatch.setattr(gripper_output, "ActionClient", Client)
    return action


class Node:
    def __init__(self) -> None:
        self.said: list[str] = []

    def get_logger(self) -> SimpleNamespace:
        return SimpleNamespace(warning=self.said.append)


def parameters(**changes: Any) -> PolicyParameters:
    given = {"dry_run": False, "gripper_open_position": 0.085, "gripper_action": "hand/gripper_cmd", **changes}
    return PolicyParameters(**given)


def test_a_gripper_command_is_a_goal_whenever_the_target_changes(control_msgs: ModuleType):
    output = make_gripper_output(Node(), parameters(gripper_interface="gripper_command", gripper_max_effort=20.0))
    for fraction in (1.0, 1.0, 0.99, 0.0, 0.0, 0.5):
        output.send(fraction)
    client = Client.made[-1]
    assert (client.kind, client.name) == (control_msgs.GripperCommand, "hand/gripper_cmd")
    positions = [goal.command.position for goal in client.goals]
    assert positions == pytest.approx([0.085, 0.0, 0.0425])
    assert {goal.command.max_effort for goal in client.goals} == {20.0}
    output.destroy()
    assert client.destroyed


def test_after_a_stop_the_goal_goes_out_again_since_somebody_may_have_moved_the_gripper(control_msgs: ModuleType):
    output = make_gripper_output(Node(), parameters(gripper_interface="gripper_command"))
    output.send(0.0)
    output.send(0.0)
    output.forget()
    output.send(0.0)
    assert [goal.command.position for goal in Client.made[-1].goals] == [0.0, 0.0]


def test_a_parallel_gripper_command_names_its_joint(control_msgs: ModuleType):
    output = make_gripper_output(
        Node(), parameters(gripper_interface="parallel_gripper_command", gripper_joint="finger")
    )
    output.send(1.0)
    (goal,) = Client.made[-1].goals
    assert (goal.command.name, goal.command.position, goal.command.effort) == (["finger"], [0.085], [])


def test_a_goal_that_nobody_takes_is_told_once_and_sent_when_somebody_does(control_msgs: ModuleType):
    node = Node()
    output = make_gripper_output(node, parameters(gripper_interface="gripper_command"))
    client = Client.made[-1]
    client.ready = False
    for _ in range(20):
        output.send(0.0)
    assert node.said == ["no gripper takes gripper_command on 'hand/gripper_cmd'"] and client.goals == []
    client.ready = True
    output.send(0.0)
    assert len(client.goals) == 1


def test_a_parallel_gripper_without_a_joint_is_refused(control_msgs: ModuleType):
    with pytest.raises(ValueError, match="gripper_joint is not set"):
        make_gripper_output(Node(), parameters(gripper_interface="parallel_gripper_command"))


def test_without_control_msgs_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "control_msgs", None)
    with pytest.raises(ValueError, match=r"needs control_msgs: install ros-\$ROS_DISTRO-control-msgs"):
        make_gripper_output(Node(), parameters(gripper_interface="gripper_command"))
