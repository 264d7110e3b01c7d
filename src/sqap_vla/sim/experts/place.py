# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Putting a cube in the drawer: open it, leave the handle, pick, carry over the front, let go inside.

A cube that is already in the hand while the drawer is shut goes back to the table first.
"""

from __future__ import annotations

import numpy as np

from sqap_vla.sim.experts.drawer import is_hooked, leave_handle, open_drawer
from sqap_vla.sim.experts.grasp import carry, reach_and_grasp
from sqap_vla.sim.experts.hand import Hand
from sqap_vla.sim.scene import CUBE_HALF_M, Scene
from sqap_vla.sim.tasks import PlaceTask

WIDE_ENOUGH_M = 0.105  # the opening through which a cube is let down
DROP_FROM_FRONT_M = 0.053  # from the inside of the drawer's front to the middle of the opening
_FRONT_INSIDE_M = -0.092  # y of the front's inside in the drawer frame
TRAVEL_M = 0.19  # of the hand: a cube in it passes over the drawer's front
RELEASE_M = 0.085  # of the hand
AWAY_M = 0.20
_ASIDE_M = np.array([0.36, -0.10])  # free table, for a cube that must be put back
_ALONG_X_RAD = 0.0


def place_in_drawer(hand: Hand, scene: Scene, task: PlaceTask) -> np.ndarray:
    """One action towards the named cube in the drawer."""
    if task.is_placed(scene):
        return hand.rise_to(AWAY_M, gripper_open=1.0)
    if hand.holds(scene, task.color):
        return _bring(hand, scene, task.color)
    pulling = scene.drawer_m() < WIDE_ENOUGH_M + 0.02 and is_hooked(hand, scene)
    if scene.drawer_m() < WIDE_ENOUGH_M or pulling:
        return open_drawer(hand, scene)
    clear = leave_handle(hand, scene)
    return reach_and_grasp(hand, scene, task.color) if clear is None else clear


def _bring(hand: Hand, scene: Scene, color: str) -> np.ndarray:
    held_m = scene.base_T_cube(color)[:3, 3]
    drawer_m = scene.drawer_position_m()
    if scene.drawer_m() < WIDE_ENOUGH_M:
        goal_m, rotation = held_m.copy(), hand.rotation
        if held_m[1] > 0.06:
            goal_m[:2] = _ASIDE_M
        goal_m[2] = CUBE_HALF_M + (hand.position_m - held_m)[2]
    else:
        goal_m = np.array([drawer_m[0], drawer_m[1] + _FRONT_INSIDE_M + DROP_FROM_FRONT_M, RELEASE_M])
        rotation = hand.rotation_opening_along(_ALONG_X_RAD)
    move = carry(hand, held_m, goal_m, rotation, TRAVEL_M)
    return hand.rise_to(hand.position_m[2], gripper_open=1.0) if move is None else move
