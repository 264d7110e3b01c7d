# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Every sentence the tabletop understands; the one place where words become a task."""

from __future__ import annotations

import itertools

import numpy as np

from sqap_vla.sim.scene import CUBE_COLORS
from sqap_vla.sim.tasks import DrawerTask, MoveNearTask, PickTask, PlaceTask, Task

FAMILIES = ("pick", "move_near", "drawer", "place")
ANY_FAMILY = "any"  # each in turn
_COLOR = "|".join(CUBE_COLORS)
INSTRUCTION_FORMS = (
    f"pick up the {_COLOR} cube",
    f"move the {_COLOR} cube near the {_COLOR} cube",
    "open|close the drawer",
    f"put the {_COLOR} cube in the drawer",
)
_ALL: tuple[Task, ...] = (
    *map(PickTask, CUBE_COLORS),
    *itertools.starmap(MoveNearTask, itertools.permutations(CUBE_COLORS, 2)),
    *map(DrawerTask, ("open", "close")),
    *map(PlaceTask, CUBE_COLORS),
)
_BY_SENTENCE = {task.instruction: task for task in _ALL}
INSTRUCTIONS = tuple(_BY_SENTENCE)


def parse_instruction(text: str) -> Task:
    """The task of a sentence; case, surrounding space and a final full stop do not matter.

    Raises ValueError, listing the forms it knows, for any other.
    """
    task = _BY_SENTENCE.get(" ".join(text.lower().rstrip(" .").split()))
    if task is None:
        forms = ", ".join(INSTRUCTION_FORMS)
        raise ValueError(f"instruction {text!r} is not a task of the tabletop; it knows: {forms}")
    return task


def tasks_of(family: str) -> tuple[Task, ...]:
    """All tasks of a family. Raises ValueError for an unknown one."""
    if family not in FAMILIES:
        raise ValueError(f"family is {family!r}; it must be one of {', '.join(FAMILIES)}")
    return tuple(task for task in _ALL if task.family == family)


def sample_task(family: str, rng: np.random.Generator) -> Task:
    """One task of the family, all equally likely. Raises ValueError for an unknown family."""
    tasks = tasks_of(family)
    return tasks[rng.integers(len(tasks))]
