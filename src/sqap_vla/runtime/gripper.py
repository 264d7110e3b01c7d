# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""What the policy's gripper number means on each robot (CogACT, sim_cogact/cogact_policy.py).

The policy predicts how open the gripper should be, in [0, 1] after the ensemble, once per step. A robot gets
an open fraction: 0 closed, 1 open. `raw` is the number that CogACT's simulation policy would emit as
action["gripper"] for the same input.

- google_robot: raw is relative, previous - current: positive closes, negative opens, 0 holds. A change beyond
  0.5 is repeated for HOLD_STEPS steps in all, whatever is predicted meanwhile, and only then does the
  reference it is measured from move. The simulated gripper adds raw to its target; ten repetitions drive it
  to the stop. So the open fraction is a target that flips when such a change begins. Until the first change
  there is none: like CogACT, which takes the first prediction for the gripper's state at the start and holds
  still, so that a reset never opens a gripper that holds something.
- widowx: raw is absolute, +1 open, -1 closed, with a threshold at 0.5.
- absolute: the prediction itself.
"""

from __future__ import annotations

import math
from typing import Protocol

HOLD_STEPS = 10
THRESHOLD = 0.5


class Gripper(Protocol):
    """Turns predictions, one per step, into an open fraction."""

    raw: float

    def update(self, open_prob: float) -> float | None:
        """Advance one step; returns the open fraction in [0, 1], or None: leave the gripper as it is. Raises
        ValueError if `open_prob` is not finite."""

    def reset(self) -> None:
        """Forget the past, at the start of an episode."""


def _check_finite(open_prob: float) -> float:
    if not math.isfinite(open_prob):
        raise ValueError(f"gripper prediction is {open_prob}; it must be a finite number, 0 closed to 1 open")
    return float(open_prob)


class GoogleRobotGripper:
    """Relative commands with a hold."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.raw = 0.0
        self.held_steps = 0  # of the change being repeated; 0 while there is none
        self._reference: float | None = None
        self._held_change = 0.0
        self._open_fraction: float | None = None

    @property
    def holding(self) -> bool:
        """Whether a change is being repeated and predictions are disregarded."""
        return self.held_steps > 0

    def update(self, open_prob: float) -> float | None:
        open_prob = _check_finite(open_prob)
        if self._reference is None:
            self._reference = open_prob
        self.raw = self._reference - open_prob
        if not self.holding and abs(self.raw) > THRESHOLD:
            self._held_change = self.raw
            self._reference = open_prob
            self._open_fraction = float(self.raw < 0)
            self.held_steps = 1
        elif self.holding:
            self.held_steps += 1
        if self.holding:
            self.raw = self._held_change
        if self.held_steps == HOLD_STEPS:
            self.held_steps = 0
        return self._open_fraction


class WidowXGripper:
    """Absolute, open or closed."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.raw = 0.0

    def update(self, open_prob: float) -> float:
        is_open = _check_finite(open_prob) > THRESHOLD
        self.raw = 1.0 if is_open else -1.0
        return float(is_open)


class AbsoluteGripper:
    """The prediction itself, clipped to [0, 1]."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.raw = 0.0

    def update(self, open_prob: float) -> float:
        self.raw = min(max(_check_finite(open_prob), 0.0), 1.0)
        return self.raw


_GRIPPERS = {"google_robot": GoogleRobotGripper, "widowx": WidowXGripper, "absolute": AbsoluteGripper}
GRIPPER_KINDS = tuple(_GRIPPERS)


def make_gripper(kind: str) -> Gripper:
    """The gripper semantics named `kind`. Raises ValueError that lists the known ones."""
    if kind not in _GRIPPERS:
        raise ValueError(f"gripper kind {kind!r} is not known; known are {', '.join(GRIPPER_KINDS)}")
    return _GRIPPERS[kind]()
