# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""What the robot is asked to do, in words, and when it has done it.

A task is a sentence and a test on the scene; the environment knows nothing else of it. `parse_instruction` is
the one place where words become a task.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from sqap_vla.sim.scene import CUBE_COLORS, CUBE_HALF_M, Scene

LIFT_M = 0.05


class Task(Protocol):
    """What the environment needs of a task."""

    @property
    def instruction(self) -> str:
        """The sentence given to the policy."""

    def achieved(self, scene: Scene) -> bool:
        """Whether the scene, as it is now, fulfils the sentence."""


@dataclass(frozen=True)
class PickTask:
    """Lift the cube of one colour by at least LIFT_M and hold it.

    Raises ValueError for a colour that is not on the table.
    """

    color: str

    def __post_init__(self) -> None:
        if self.color not in CUBE_COLORS:
            raise ValueError(f"there is no {self.color!r} cube on the table; it has: {', '.join(CUBE_COLORS)}")

    @property
    def instruction(self) -> str:
        return f"pick up the {self.color} cube"

    def achieved(self, scene: Scene) -> bool:
        return self.lifted_m(scene) >= LIFT_M and scene.is_grasped(self.color)

    def lifted_m(self, scene: Scene) -> float:
        """Height of the cube's centre over where it is when the cube lies on the table."""
        return float(scene.base_T_cube(self.color)[2, 3] - CUBE_HALF_M)


_TASKS: dict[str, Task] = {task.instruction: task for task in map(PickTask, CUBE_COLORS)}
INSTRUCTIONS = tuple(_TASKS)


def parse_instruction(text: str) -> Task:
    """The task of a sentence; case, surrounding space and a final full stop do not matter.

    Raises ValueError, listing the sentences it knows, for any other.
    """
    task = _TASKS.get(" ".join(text.lower().rstrip(" .").split()))
    if task is None:
        raise ValueError(f"instruction {text!r} is not a task of the tabletop; it knows: {', '.join(INSTRUCTIONS)}")
    return task
