# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""From the policy's commands to SIMPLER's action: seven numbers for one step of its controller.

dx dy dz [m] and the rotation as axis times angle [rad], both along the axes of the robot's base: what the commanded
twist does in the time of one step. The gripper's number is each robot's own:

- google_robot: relative, +1 closes, -1 opens, added to the gripper's target. A change of the commanded opening is
  repeated for HOLD_STEPS steps in all, which drives the gripper to the stop, as CogACT's simulation policy does it; the
  first command of an episode is taken for the gripper's state.
- widowx: absolute, +1 open, -1 closed, with a threshold at 0.5.

Over topics only the opening arrives, and the number is found from it here. In one process with the policy it is
`Gripper.raw` of runtime/gripper.py.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from sqap_vla.runtime.gripper import HOLD_STEPS, THRESHOLD


class GripperAction(Protocol):
    def number(self, opening: float) -> float:
        """SIMPLER's number for a commanded opening, 0 closed to 1 open. Once per step."""

    def reset(self) -> None:
        """A new episode."""


class GoogleRobotGripperAction:
    """Relative, with a hold."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._reference: float | None = None
        self._change = 0.0
        self._steps_left = 0

    def number(self, opening: float) -> float:
        if self._reference is None:
            self._reference = opening
        if not self._steps_left and abs(self._reference - opening) > THRESHOLD:
            self._change, self._steps_left = self._reference - opening, HOLD_STEPS
            self._reference = opening
        if not self._steps_left:
            return 0.0
        self._steps_left -= 1
        return self._change


class WidowXGripperAction:
    """Absolute, open or closed."""

    def reset(self) -> None:
        pass

    def number(self, opening: float) -> float:
        return 1.0 if opening > THRESHOLD else -1.0


_GRIPPERS = {"google_robot": GoogleRobotGripperAction, "widowx": WidowXGripperAction}


def make_gripper_action(robot: str) -> GripperAction:
    """The convention of a robot. Raises ValueError that lists the known ones."""
    if robot not in _GRIPPERS:
        raise ValueError(f"robot '{robot}' is not known; known are {', '.join(_GRIPPERS)}")
    return _GRIPPERS[robot]()


def action_from_twist(twist: np.ndarray, step_s: float, gripper: float) -> np.ndarray:
    """SIMPLER's action [7] for a twist [6] (m/s, rad/s, base axes) held for one step, and its gripper number.

    A constant twist turns about a fixed axis, so angular velocity times time is the rotation vector itself.
    """
    return np.append(np.asarray(twist, np.float64) * step_s, gripper)
