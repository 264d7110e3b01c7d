# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Picking a cube up and carrying it: hover, descend, close, rise, travel, descend.

Reopens and rises where a grasp fails. Travels only above everything that stands on the table.
"""

from __future__ import annotations

from math import cos, hypot, sin

import numpy as np

from sqap_vla.sim.experts.hand import ALIGNED_RAD, Hand
from sqap_vla.sim.scene import CUBE_HALF_M, Scene

HOVER_M = 0.09  # of the end-effector over what the cube lies on, clear of all cubes and distractors
GRASP_OFFSET_M = 0.003  # of the end-effector over the cube's centre
LIFT_TARGET_M = 0.16
CLOSE_M = 0.012
FUNNEL_M, FUNNEL_RAD = 0.010, 0.18  # how exactly the hand must be over the cube before it goes down
FINGER_CLEARANCE_M = 0.050  # from the cube's centre to the middle of an open finger
FINGER_RADIUS_M = 0.016  # of the circle around a finger, seen from above
CARRY_OFF_M = 0.010  # how exactly a carried cube must be over its place before it goes down


def lift(hand: Hand) -> np.ndarray:
    """Straight up with what is held."""
    return hand.rise_to(LIFT_TARGET_M, gripper_open=0.0)


def reach_and_grasp(hand: Hand, scene: Scene, color: str) -> np.ndarray:
    """One action towards holding the cube."""
    cube_m = scene.base_T_cube(color)[:3, 3]
    rotation = grasp_rotation(hand, scene, color)
    grasp_m = cube_m + np.array([0.0, 0.0, GRASP_OFFSET_M])
    if hand.is_aligned(cube_m, rotation, *_funnel(hand)):
        closing = abs(grasp_m[2] - hand.position_m[2]) < CLOSE_M
        return hand.go(grasp_m, rotation, gripper_open=0.0 if closing else 1.0)
    hover_m = np.array([cube_m[0], cube_m[1], cube_m[2] - CUBE_HALF_M + HOVER_M])
    if hand.position_m[2] < HOVER_M - 0.02 and hand.off_m(cube_m) > 0.02:
        hover_m[:2] = hand.position_m[:2]  # too low to travel: it would sweep the cubes away
    return hand.go(hover_m, rotation, gripper_open=1.0)


def _funnel(hand: Hand) -> tuple[float, float]:
    """How far [m, rad] the hand may be off at its height: wider below, where the fingers are around the cube already.

    So a hand that wavers by a few millimetres goes on down instead of up and down again.
    """
    depth = min(max((HOVER_M - hand.position_m[2]) / HOVER_M, 0.0), 1.0)
    return (1.0 + depth) * FUNNEL_M, (1.0 + depth) * FUNNEL_RAD


def carry(
    hand: Hand, held_m: np.ndarray, goal_m: np.ndarray, rotation: np.ndarray, travel_m: float
) -> np.ndarray | None:
    """One action towards holding the cube, now at `held_m` [3], over `goal_m` [3] with the hand at its height.

    travel_m: height of the hand on the way. Returns None once it is there.
    """
    offset_m = goal_m[:2] - held_m[:2]
    off_m, height_m = np.hypot(*offset_m), hand.position_m[2]
    target_m = np.append(hand.position_m[:2] + offset_m, goal_m[2])
    if off_m > CARRY_OFF_M or np.linalg.norm(hand.turn_rad(rotation)) > 2 * ALIGNED_RAD:
        if height_m < travel_m - 0.03 and off_m > CARRY_OFF_M:
            return hand.rise_to(travel_m, gripper_open=0.0)
        target_m[2] = travel_m
        return hand.go(target_m, rotation, gripper_open=0.0)
    if height_m - goal_m[2] > 0.004:
        return hand.go(target_m, rotation, gripper_open=0.0)
    return None


def grasp_rotation(hand: Hand, scene: Scene, color: str) -> np.ndarray:
    """Fingers across two faces of the cube where they have room, by the smallest turn."""
    cube = scene.base_T_cube(color)
    level = np.argmin(np.abs(cube[2, :3]))  # an edge that lies flat, whichever face the cube stands on
    edge_rad = float(np.arctan2(cube[1, level], cube[0, level]))
    obstacles = scene.obstacles(color)

    def cost(direction_rad: float) -> float:
        turn_rad = hypot(*hand.turn_rad(hand.rotation_opening_along(direction_rad)))
        return turn_rad + 10.0 * (finger_room_m(cube[:2, 3], direction_rad, obstacles) < 0.0)

    return hand.rotation_opening_along(min((edge_rad, edge_rad + np.pi / 2), key=cost))


def finger_room_m(centre_m: np.ndarray, direction_rad: float, obstacles: np.ndarray) -> float:
    """The gap between open fingers around a point [2] and the nearest obstacle [N, 3]; negative: they overlap."""
    across_x, across_y = FINGER_CLEARANCE_M * cos(direction_rad), FINGER_CLEARANCE_M * sin(direction_rad)
    x, y = float(centre_m[0]), float(centre_m[1])
    gaps_m = [
        hypot(x + side * across_x - at_x, y + side * across_y - at_y) - radius
        for at_x, at_y, radius in obstacles.tolist()
        for side in (1.0, -1.0)
    ]
    return min(gaps_m, default=float("inf")) - FINGER_RADIUS_M
