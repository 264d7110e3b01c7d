# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The scripted expert for every task of the tabletop, acting through the environment's actions only.

It knows the true poses. Its action is a function of the present state and the present task alone, with no
memory, so it can also say what it would have done in a state that another policy reached (Ross et al., "A
reduction of imitation learning to no-regret online learning", 2011), and follows an instruction that changes.
"""

from __future__ import annotations

import numpy as np

from sqap_vla.sim.environment import TabletopEnv
from sqap_vla.sim.experts.drawer import close_drawer, leave_handle, open_drawer
from sqap_vla.sim.experts.grasp import lift, reach_and_grasp
from sqap_vla.sim.experts.hand import Hand, Pace
from sqap_vla.sim.experts.move_near import set_down_near
from sqap_vla.sim.experts.place import place_in_drawer
from sqap_vla.sim.scene import Scene
from sqap_vla.sim.tasks import DrawerTask, MoveNearTask, PickTask, PlaceTask, Task


class Expert:
    """Does whatever the environment's current task is."""

    def __init__(self, env: TabletopEnv, pace: Pace | None = None) -> None:
        self._env, self._pace = env, pace or Pace()

    def action(self) -> np.ndarray:
        """The action float32 [7] for the present state. Raises TypeError for a task of no known kind."""
        return expert_action(self._env.scene, self._env.task, self._pace)


def expert_action(scene: Scene, task: Task, pace: Pace) -> np.ndarray:
    """The action float32 [7] towards `task` in the scene as it is. Raises TypeError for a task of no known kind."""
    hand = Hand(scene, pace)
    match task:
        case PickTask(color):
            if hand.holds(scene, color):
                return lift(hand)
            clear = leave_handle(hand, scene)
            return reach_and_grasp(hand, scene, color) if clear is None else clear
        case MoveNearTask():
            return set_down_near(hand, scene, task)
        case DrawerTask("open"):
            return open_drawer(hand, scene)
        case DrawerTask("close"):
            return close_drawer(hand, scene)
        case PlaceTask():
            return place_in_drawer(hand, scene, task)
    raise TypeError(f"the expert has no script for {task!r}")
