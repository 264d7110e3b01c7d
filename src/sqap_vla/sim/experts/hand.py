# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The hand as the expert sees it: where it is, how it is turned, and one action's worth of the way to a goal.

The hand always points down. Its yaw stays within MAX_YAW_RAD of the home pose, which leaves the wrist room for
every orientation of the fingers: turned by half a turn, they open along the same line.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import hypot

import numpy as np

from sqap_vla.sim.scene import Scene
from sqap_vla.sim.transforms import rotation_from_rpy, rotation_vector

ALIGNED_M, ALIGNED_RAD = 0.008, 0.08
MAX_YAW_RAD = 1.9
_DOWN = np.diag([1.0, -1.0, -1.0])  # rotation of the end-effector: hand down, fingers opening along base y


@dataclass(frozen=True)
class Pace:
    """How far the expert goes in one action. Raises ValueError for what is not positive."""

    max_step_m: float = 0.03
    max_step_rad: float = 0.20

    def __post_init__(self) -> None:
        for name in ("max_step_m", "max_step_rad"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be positive")


class Hand:
    """The end-effector in one state of the scene; positions and rotations in the base frame."""

    def __init__(self, scene: Scene, pace: Pace) -> None:
        base_T_ee = scene.base_T_ee()
        self.position_m, self.rotation = base_T_ee[:3, 3], base_T_ee[:3, :3]
        self.gripper_open, self._pace = scene.gripper_open(), pace

    def holds(self, scene: Scene, color: str) -> bool:
        """Whether the cube is between the pads and the gripper no wider than a cube."""
        return scene.is_grasped(color) and self.gripper_open < 0.7

    def off_m(self, goal_m: np.ndarray) -> float:
        """Horizontal distance to a point [2] or [3]."""
        return hypot(goal_m[0] - self.position_m[0], goal_m[1] - self.position_m[1])

    def turn_rad(self, rotation: np.ndarray) -> np.ndarray:
        """The rotation vector [3] from the present rotation to another."""
        return rotation_vector(rotation @ self.rotation.T)

    def is_aligned(
        self, goal_m: np.ndarray, rotation: np.ndarray, within_m: float = ALIGNED_M, within_rad: float = ALIGNED_RAD
    ) -> bool:
        """Whether the hand stands over (or under) the goal, turned as wanted."""
        return self.off_m(goal_m) < within_m and hypot(*self.turn_rad(rotation)) < within_rad

    def go(self, goal_m: np.ndarray, rotation: np.ndarray | None, gripper_open: float) -> np.ndarray:
        """One action [7] towards a position [3] and a rotation (None: as it is).

        A small rotation vector is, to first order, its roll, pitch and yaw.
        """
        move_m = goal_m - self.position_m
        turn_rad = np.zeros(3) if rotation is None else self.turn_rad(rotation)
        move_m = move_m * min(1.0, self._pace.max_step_m / max(hypot(*move_m), 1e-9))
        turn_rad = turn_rad * min(1.0, self._pace.max_step_rad / max(hypot(*turn_rad), 1e-9))
        return np.concatenate([move_m, turn_rad, [gripper_open]]).astype(np.float32)

    def rise_to(self, height_m: float, gripper_open: float) -> np.ndarray:
        """One action straight up (or down) to a height."""
        return self.go(np.append(self.position_m[:2], height_m), None, gripper_open)

    def rotation_opening_along(self, direction_rad: float) -> np.ndarray:
        """The rotation, of the two that open the fingers along this direction, that is the smaller turn away."""
        half_turns = [_wrapped(direction_rad + sign * np.pi / 2) for sign in (1, -1)]
        rotations = [
            rotation_from_rpy(np.array([0.0, 0.0, yaw])) @ _DOWN for yaw in half_turns if abs(yaw) <= MAX_YAW_RAD
        ]
        return min(rotations, key=lambda rotation: hypot(*self.turn_rad(rotation)))


def _wrapped(angle_rad: float) -> float:
    return float((angle_rad + np.pi) % (2 * np.pi) - np.pi)
