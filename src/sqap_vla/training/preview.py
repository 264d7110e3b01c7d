# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""What the expert would do next: its chunk of 16 actions from a state of the simulator, for any task.

The first row is the expert's action in the true state. For the rows after it the physics would have to run on for
every task of every frame, which costs fifty times as much as rendering the frame; so they come from `Preview`, a
kinematic model of the same scene: the hand follows commands exactly, closing fingers take the cube or handle that is
between them along, a cube that is let go falls straight down.
"""

from __future__ import annotations

import numpy as np

from sqap_vla.sim.controller import ControlConfig
from sqap_vla.sim.experts import Pace, expert_action
from sqap_vla.sim.scene import CUBE_COLORS, CUBE_HALF_M, CUBE_RADIUS_M, DRAWER_TRAVEL_M, FINGER_TRAVEL_M, Scene
from sqap_vla.sim.tasks import INSIDE_MAX_M, INSIDE_MIN_M, Task
from sqap_vla.sim.transforms import invert_transform, make_transform, rotation_from_rpy

CHUNK_STEPS = 16
HELD_OPEN = CUBE_HALF_M / FINGER_TRAVEL_M  # how far the fingers stand open around a cube
_DRAWER_FLOOR_M = 0.006
_PAD_HALF_M = 0.016  # along the fingers and across them
_BAR_HALF_M, _BAR_RADIUS_M = 0.045, 0.006
_FINGER_HALF_M = 0.012  # of closed fingers, across the direction in which they open
_REACH_M = 0.02  # of the fingertips above and below the end-effector


class Preview:
    """A scene that answers the expert's questions as `Scene` does, and moves without physics."""

    def __init__(self, scene: Scene, control: ControlConfig) -> None:
        self._max_delta = control.max_delta
        self._low_m, self._high_m = np.array(control.workspace_min_m), np.array(control.workspace_max_m)
        self._finger_step = control.finger_speed_m_s * control.step_s / FINGER_TRAVEL_M
        self._base_T_ee, self._open = scene.base_T_ee(), scene.gripper_open()
        self._cubes = {color: scene.base_T_cube(color).copy() for color in CUBE_COLORS}
        self._others = scene.obstacles(*CUBE_COLORS)
        self._held = next((color for color in CUBE_COLORS if scene.is_grasped(color)), None)
        self._drawer_m = scene.drawer_m()
        self._drawer_closed_m = scene.drawer_position_m() + np.array([0.0, self._drawer_m, 0.0])
        self._handle_closed_m = scene.handle_m() + np.array([0.0, self._drawer_m, 0.0])
        self._handle_grasped = scene.is_handle_grasped()

    def base_T_ee(self) -> np.ndarray:
        return self._base_T_ee

    def gripper_open(self) -> float:
        return self._open

    def base_T_cube(self, color: str) -> np.ndarray:
        return self._cubes[color]

    def is_grasped(self, color: str) -> bool:
        return self._held == color

    is_touched = is_grasped

    def is_handle_grasped(self) -> bool:
        return self._handle_grasped

    def drawer_m(self) -> float:
        return self._drawer_m

    def drawer_position_m(self) -> np.ndarray:
        return self._drawer_closed_m - np.array([0.0, self._drawer_m, 0.0])

    def handle_m(self) -> np.ndarray:
        return self._handle_closed_m - np.array([0.0, self._drawer_m, 0.0])

    def obstacles(self, *but: str) -> np.ndarray:
        cubes = [(*pose[:2, 3], CUBE_RADIUS_M) for color, pose in self._cubes.items() if color not in but]
        return np.array(cubes + self._others.tolist()).reshape(-1, 3)

    def step(self, action: np.ndarray) -> None:
        """One control step of an action [7], as the environment defines it."""
        delta = np.minimum(np.maximum(action[:6], -self._max_delta), self._max_delta)
        before = self._base_T_ee
        goal_m = np.minimum(np.maximum(before[:3, 3] + delta[:3], self._low_m), self._high_m)
        self._base_T_ee = make_transform(rotation_from_rpy(delta[3:]) @ before[:3, :3], goal_m)
        self._move_gripper(min(max(float(action[6]), 0.0), 1.0))
        if self._held is not None:
            self._cubes[self._held] = self._base_T_ee @ invert_transform(before) @ self._cubes[self._held]
        self._move_drawer(before[:3, 3], goal_m)

    def _move_gripper(self, goal: float) -> None:
        closing = goal < self._open
        self._open += min(max(goal - self._open, -self._finger_step), self._finger_step)
        if not closing:
            if self._open > HELD_OPEN + 0.05:
                self._let_go()
            return
        if self._held is None and self._open <= HELD_OPEN:
            self._held = next((color for color in CUBE_COLORS if self._is_between_fingers(color)), None)
        if self._held is not None:
            self._open = max(self._open, HELD_OPEN)
        offset_m = self._in_hand(self.handle_m())
        if self._open < 0.2 and np.abs(offset_m).max() < 0.014 and self._opens_along_y():
            self._handle_grasped = True

    def _let_go(self) -> None:
        self._handle_grasped = False
        if self._held is None:
            return
        pose = self._cubes[self._held].copy()
        place_m = pose[:3, 3] - self.drawer_position_m()
        inside = bool(np.all(place_m[:2] >= INSIDE_MIN_M[:2]) and np.all(place_m[:2] <= INSIDE_MAX_M[:2]))
        pose[2, 3] = CUBE_HALF_M + (self.drawer_position_m()[2] + _DRAWER_FLOOR_M if inside else 0.0)
        self._cubes[self._held], self._held = pose, None

    def _move_drawer(self, before_m: np.ndarray, after_m: np.ndarray) -> None:
        """The handle follows fingers that hold it, hook it from behind, or push it."""
        bar_m = self.handle_m()
        way_m = after_m[1] - before_m[1]
        at_bar = abs(after_m[0] - bar_m[0]) < _BAR_HALF_M and abs(after_m[2] - bar_m[2]) < _REACH_M
        gap_m = _FINGER_HALF_M + _BAR_RADIUS_M
        if self._handle_grasped:
            pull_m = -way_m
        elif at_bar and before_m[1] > bar_m[1]:  # behind the bar
            pull_m = max(0.0, bar_m[1] + gap_m - after_m[1])
        elif at_bar:
            pull_m = min(0.0, bar_m[1] - gap_m - after_m[1])
        else:
            return
        self._drawer_m = float(np.clip(self._drawer_m + pull_m, 0.0, DRAWER_TRAVEL_M))

    def _opens_along_y(self) -> bool:
        return abs(self._base_T_ee[1, 1]) > 0.9

    def _in_hand(self, point_m: np.ndarray) -> np.ndarray:
        return self._base_T_ee[:3, :3].T @ (point_m - self._base_T_ee[:3, 3])

    def _is_between_fingers(self, color: str) -> bool:
        across_m, along_m, depth_m = np.abs(self._in_hand(self._cubes[color][:3, 3]))
        return across_m < CUBE_HALF_M + 0.005 and along_m < FINGER_TRAVEL_M - 0.01 and depth_m < CUBE_HALF_M + 0.008


def expert_chunk(scene: Scene, task: Task, control: ControlConfig, pace: Pace) -> np.ndarray:
    """The expert's next actions, float32 [16, 7]; the first in the true state, the rest in the preview."""
    chunk = np.empty((CHUNK_STEPS, 7), np.float32)
    chunk[0] = expert_action(scene, task, pace)
    preview = Preview(scene, control)
    preview.step(chunk[0])
    for row in range(1, CHUNK_STEPS):
        chunk[row] = expert_action(preview, task, pace)
        preview.step(chunk[row])
    return chunk
