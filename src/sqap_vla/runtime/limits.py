# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Safety limits on one end-effector command: speed, and a box in the base frame.

They bound what is sent, whatever the policy predicts:
- a twist is scaled down to the maximum speeds, direction kept;
- a target pose is drawn towards the present pose to what the maximum speeds reach in one row;
- neither may lead out of the workspace within one row, and the twist slows down before a face as the maximum
  acceleration lets it: each axis stops at its face, the others go on. An end-effector that is outside already
  may move inwards and along the faces, not further out.
A command that is not finite is refused whole: no part of it is worth executing. How fast a command may change
from one to the next is motion.py's part.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sqap_vla.runtime.actions import rotation_from_rotvec, rotvec_from_rotation

LINEAR_SPEED = "linear_speed"
ANGULAR_SPEED = "angular_speed"
TARGET_DISTANCE = "target_distance"
TARGET_ANGLE = "target_angle"
WORKSPACE = "workspace"
_ROUNDING = 1e-9  # relative; less than this above a limit is not reported as engaged


class RefusedCommand(ValueError):
    """A command that must not be sent in any form."""


@dataclass(frozen=True, eq=False)
class LimitedCommand:
    """What may be sent: twist [6] (m/s, rad/s), base_T_target [4, 4], and the names of the limits that
    changed it."""

    twist: np.ndarray
    base_T_target: np.ndarray
    engaged: tuple[str, ...]
    scale: float = 1.0  # of a fade-in


@dataclass(frozen=True)
class Limits:
    """Every limit has to be given, but for jerk: there is no safe default for an unknown robot.

    workspace_min_m, workspace_max_m: corners (x, y, z) in the base frame of the box for the end-effector's
    origin. max_*_jerk_*: None leaves it unlimited.
    Raises ValueError for numbers that are not positive and finite, or corners that do not span a box.
    """

    max_linear_m_s: float
    max_angular_rad_s: float
    max_linear_accel_m_s2: float
    max_angular_accel_rad_s2: float
    workspace_min_m: tuple[float, float, float]
    workspace_max_m: tuple[float, float, float]
    max_linear_jerk_m_s3: float | None = None
    max_angular_jerk_rad_s3: float | None = None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not name.startswith("max_") or (value is None and "jerk" in name):
                continue
            if value is None or not (np.isfinite(value) and value > 0):
                raise ValueError(f"{name} is {value}; it must be positive and finite")
        low, high = tuple(map(float, self.workspace_min_m)), tuple(map(float, self.workspace_max_m))
        three = len(low) == len(high) == 3
        if not three or not np.isfinite((low, high)).all() or not np.less(low, high).all():
            raise ValueError(
                f"workspace is {low} to {high} m; give two finite corners (x, y, z) of the base "
                "frame, the first below the second on every axis"
            )
        object.__setattr__(self, "workspace_min_m", low)
        object.__setattr__(self, "workspace_max_m", high)

    def apply(
        self, twist: np.ndarray, base_T_target: np.ndarray, base_T_ee: np.ndarray, step_s: float, reach: float = 1.0
    ) -> LimitedCommand:
        """Bound a command for the robot at pose `base_T_ee`, to be executed for at most `step_s` seconds.

        twist: [6] along base axes. base_T_target: pose to reach. reach: part of the distance that the maximum
        speeds reach in one row that the target may be away. Raises RefusedCommand if any of them is not
        finite.
        """
        _refuse_unless_finite(twist=twist, base_T_target=base_T_target, base_T_ee=base_T_ee)
        engaged: list[str] = []
        limited_twist = self.bound(twist, base_T_ee, step_s, engaged)

        position, reach_s = base_T_ee[:3, 3], reach * step_s
        move = base_T_target[:3, 3] - position
        move = _shorten(move, self.max_linear_m_s * reach_s, TARGET_DISTANCE, engaged)
        turn = rotvec_from_rotation(base_T_target[:3, :3] @ base_T_ee[:3, :3].T)
        limited_turn = _shorten(turn, self.max_angular_rad_s * reach_s, TARGET_ANGLE, engaged)
        target = base_T_target.copy()
        target[:3, 3] = position + self._keep_inside(position, move, np.inf, engaged)
        if limited_turn is not turn:
            target[:3, :3] = rotation_from_rotvec(limited_turn) @ base_T_ee[:3, :3]
        _refuse_unless_finite(limited_twist=limited_twist, limited_target=target)  # absurd input can overflow
        return LimitedCommand(limited_twist, target, tuple(dict.fromkeys(engaged)))

    def bound(self, twist: np.ndarray, base_T_ee: np.ndarray, step_s: float, engaged: list[str]) -> np.ndarray:
        """The twist [6] within speeds and workspace; names of the limits that changed it go to `engaged`."""
        linear = _shorten(twist[:3], self.max_linear_m_s, LINEAR_SPEED, engaged)
        angular = _shorten(twist[3:], self.max_angular_rad_s, ANGULAR_SPEED, engaged)
        kept = self._keep_inside(base_T_ee[:3, 3], linear * step_s, step_s, engaged)
        return np.concatenate([kept / step_s, angular])

    def _keep_inside(
        self, position: np.ndarray, move: np.ndarray, braking_step_s: float, engaged: list[str]
    ) -> np.ndarray:
        """braking_step_s: time of the move where its speed must leave room to brake, infinity where not."""
        room = (
            np.minimum(np.subtract(self.workspace_min_m, position), 0.0),
            np.maximum(np.subtract(self.workspace_max_m, position), 0.0),
        )
        lowest, highest = (
            np.sign(distance) * np.minimum(np.abs(distance), self._braking_move(np.abs(distance), braking_step_s))
            for distance in room
        )
        kept = np.clip(move, lowest, highest)
        if not np.allclose(kept, move, rtol=_ROUNDING, atol=1e-12):
            engaged.append(WORKSPACE)
        return kept

    def _braking_move(self, distance: np.ndarray, step_s: float) -> np.ndarray:
        """How far to go in one row so that the end-effector still comes to rest within `distance` [3]."""
        return np.sqrt(2 * self.max_linear_accel_m_s2 * distance) * step_s if np.isfinite(step_s) else distance


def _refuse_unless_finite(**arrays: np.ndarray) -> None:
    for name, values in arrays.items():
        if not np.isfinite(values).all():
            raise RefusedCommand(
                f"{name} is {values.tolist()}; every value must be finite, so the whole command is refused"
            )


def _shorten(vector: np.ndarray, max_norm: float, name: str, engaged: list[str]) -> np.ndarray:
    largest = np.abs(vector).max()
    if largest == 0:
        return vector
    norm = largest * np.linalg.norm(vector / largest)  # a square of the components could overflow
    if norm <= max_norm * (1 + _ROUNDING):
        return vector
    engaged.append(name)
    return vector / largest * (max_norm / np.linalg.norm(vector / largest))
