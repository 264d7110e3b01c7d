# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Setting a cube down beside another: on the free side that costs the least way and turn.

The fingers open across the line between the cubes, so that letting go does not push the other one. The choice
depends on the present state alone and does not waver: each action towards the chosen side makes it cheaper.
"""

from __future__ import annotations

from math import cos, hypot, inf, sin

import numpy as np

from sqap_vla.sim.experts.drawer import leave_handle
from sqap_vla.sim.experts.grasp import HOVER_M, carry, finger_room_m, reach_and_grasp
from sqap_vla.sim.experts.hand import Hand
from sqap_vla.sim.scene import CUBE_HALF_M, CUBE_RADIUS_M, Scene
from sqap_vla.sim.tasks import MoveNearTask

PLACE_DISTANCE_M = 0.068  # between the cubes' centres
TRAVEL_M = 0.135  # of the hand: a cube in it passes over cubes and distractors
REACH_MIN_M, REACH_MAX_M = np.array([0.22, -0.34]), np.array([0.53, 0.12])  # where a cube is put down
_TURN_COST_M_PER_RAD = 0.08
_SIDES_RAD = np.linspace(0.0, 2 * np.pi, 24, endpoint=False).tolist()


def set_down_near(hand: Hand, scene: Scene, task: MoveNearTask) -> np.ndarray:
    """One action towards the named cube beside its goal."""
    if hand.holds(scene, task.color):
        held_m = scene.base_T_cube(task.color)[:3, 3]
        goal_m, rotation = _choose_side(hand, scene, task)
        place_m = np.append(goal_m, CUBE_HALF_M + (hand.position_m - held_m)[2])
        move = carry(hand, held_m, place_m, rotation, TRAVEL_M)
        return hand.rise_to(hand.position_m[2], gripper_open=1.0) if move is None else move
    clear = leave_handle(hand, scene)
    if clear is not None:
        return clear
    if task.is_placed(scene):
        return hand.rise_to(HOVER_M + 0.03, gripper_open=1.0)
    return reach_and_grasp(hand, scene, task.color)


def _choose_side(hand: Hand, scene: Scene, task: MoveNearTask) -> tuple[np.ndarray, np.ndarray]:
    """Where to put the cube down, x, y [m], and the hand's rotation there."""
    goal_m, held_m = scene.base_T_cube(task.goal)[:2, 3], scene.base_T_cube(task.color)[:2, 3]
    obstacles = scene.obstacles(task.color)

    def place(side_rad: float) -> np.ndarray:
        return goal_m + PLACE_DISTANCE_M * np.array([cos(side_rad), sin(side_rad)])

    def way_m(side_rad: float) -> float:
        x, y = place(side_rad)
        return hypot(x - held_m[0], y - held_m[1])

    def penalty_m(side_rad: float) -> float:
        x, y = place_m = place(side_rad)
        turn_rad = hypot(*hand.turn_rad(hand.rotation_opening_along(side_rad + np.pi / 2)))
        gap_m = min(hypot(x - at_x, y - at_y) - radius for at_x, at_y, radius in obstacles.tolist()) - CUBE_RADIUS_M
        crowded = gap_m < 0.005 or finger_room_m(place_m, side_rad + np.pi / 2, obstacles) < 0.003
        beyond = not (REACH_MIN_M[0] <= x <= REACH_MAX_M[0] and REACH_MIN_M[1] <= y <= REACH_MAX_M[1])
        return _TURN_COST_M_PER_RAD * turn_rad + 1.0 * crowded + 10.0 * beyond

    best_rad, lowest_m = 0.0, inf
    for side_rad in sorted(_SIDES_RAD, key=way_m):
        if way_m(side_rad) >= lowest_m:
            break  # penalties are never negative: no side further away can be better
        cost_m = way_m(side_rad) + penalty_m(side_rad)
        if cost_m < lowest_m:
            best_rad, lowest_m = side_rad, cost_m
    return place(best_rad), hand.rotation_opening_along(best_rad + np.pi / 2)
