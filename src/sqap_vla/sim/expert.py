# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""A scripted expert for "pick up the ... cube", acting through the environment's actions only.

It knows the true poses of the cubes. Its action is a function of the current state alone, with no memory, so
it can also say what it would have done in a state that another policy reached. Hover over the cube, descend,
close, lift; opens and rises again where that fails.
"""

from __future__ import annotations

import numpy as np

from sqap_vla.sim.environment import TabletopEnv
from sqap_vla.sim.scene import CUBE_COLORS, CUBE_HALF_M
from sqap_vla.sim.tasks import PickTask
from sqap_vla.sim.transforms import rotation_from_rpy, rotation_vector

HOVER_M = 0.09  # of the end-effector over the table, clear of all cubes
GRASP_OFFSET_M = 0.003  # of the end-effector over the cube's centre
LIFT_TARGET_M = 0.16
ALIGNED_M, ALIGNED_RAD = 0.008, 0.08
CLOSE_M = 0.008
FINGER_CLEARANCE_M = 0.062  # from the cube's centre to the outside of an open finger
_DOWN = np.diag([1.0, -1.0, -1.0])  # rotation of the end-effector: hand down, fingers opening along base y


class PickExpert:
    """Picks the cube that the environment's current task names."""

    def __init__(self, env: TabletopEnv, max_step_m: float = 0.03, max_step_rad: float = 0.20) -> None:
        self._env, self._max_step_m, self._max_step_rad = env, max_step_m, max_step_rad

    def action(self) -> np.ndarray:
        """The action float32 [7] for the present state. Raises TypeError for another kind of task."""
        scene, task = self._env.scene, self._env.task
        if not isinstance(task, PickTask):
            raise TypeError(f"PickExpert cannot do {task.instruction!r}; it picks cubes")
        base_T_ee, cube = scene.base_T_ee(), scene.base_T_cube(task.color)
        ee_m, cube_m = base_T_ee[:3, 3], cube[:3, 3]
        turn_rad = rotation_vector(self._grasp_rotation(task.color, base_T_ee[:3, :3]) @ base_T_ee[:3, :3].T)
        off_m = np.hypot(*(cube_m - ee_m)[:2])
        aligned = off_m < ALIGNED_M and np.linalg.norm(turn_rad) < ALIGNED_RAD
        grasp_m = cube_m + np.array([0.0, 0.0, GRASP_OFFSET_M])

        if scene.is_grasped(task.color) and scene.gripper_open() < 0.7:
            return self._compose(np.array([0.0, 0.0, LIFT_TARGET_M - ee_m[2]]), np.zeros(3), gripper_open=0.0)
        if aligned and abs(grasp_m[2] - ee_m[2]) < CLOSE_M:
            return self._compose(grasp_m - ee_m, turn_rad, gripper_open=0.0)
        if aligned:
            return self._compose(grasp_m - ee_m, turn_rad, gripper_open=1.0)
        hover_m = np.array([cube_m[0], cube_m[1], cube_m[2] - CUBE_HALF_M + HOVER_M])
        if ee_m[2] < HOVER_M - 0.02 and off_m > 0.02:  # too low to travel: it would sweep the cubes away
            hover_m[:2] = ee_m[:2]
        return self._compose(hover_m - ee_m, turn_rad, gripper_open=1.0)

    def _compose(self, move_m: np.ndarray, turn_rad: np.ndarray, gripper_open: float) -> np.ndarray:
        """One action towards a goal; a small rotation vector is, to first order, its roll, pitch and yaw."""
        move_m = move_m * min(1.0, self._max_step_m / max(np.linalg.norm(move_m), 1e-9))
        turn_rad = turn_rad * min(1.0, self._max_step_rad / max(np.linalg.norm(turn_rad), 1e-9))
        return np.concatenate([move_m, turn_rad, [gripper_open]]).astype(np.float32)

    def _grasp_rotation(self, color: str, current: np.ndarray) -> np.ndarray:
        """Hand down, fingers across two faces of the cube where they have room, by the smallest turn."""
        scene = self._env.scene
        cube = scene.base_T_cube(color)
        others_m = [scene.base_T_cube(other)[:2, 3] - cube[:2, 3] for other in CUBE_COLORS if other != color]
        level = np.argmin(np.abs(cube[2, :3]))  # an edge that lies flat, whichever face the cube stands on
        yaw = np.arctan2(cube[1, level], cube[0, level])
        best, best_cost = _DOWN, np.inf
        for quarter in range(4):
            angle = yaw + quarter * np.pi / 2
            across = np.array([-np.sin(angle), np.cos(angle)])  # the direction in which the fingers open
            fingers_m = [across * FINGER_CLEARANCE_M, -across * FINGER_CLEARANCE_M]
            room_m = min(np.linalg.norm(other - finger) for other in others_m for finger in fingers_m)
            rotation = rotation_from_rpy(np.array([0.0, 0.0, angle])) @ _DOWN
            turn = np.linalg.norm(rotation_vector(rotation @ current.T))
            cost = turn + (10.0 if room_m < 0.03 else 0.0)
            if cost < best_cost:
                best, best_cost = rotation, cost
        return best
