# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Twists become joint targets of the tabletop's arm, for a simulator other than the built-in one.

The twist is applied to the commanded pose, not to the measured one, so that small servo errors do not add up to drift;
the commanded pose never leads the measured one by more than the limits, so that a blocked arm does not wind up.
"""

from __future__ import annotations

import numpy as np

from sqap_vla.sim.camera import CameraConfig
from sqap_vla.sim.controller import ControlConfig
from sqap_vla.sim.kinematics import InverseKinematics
from sqap_vla.sim.scene import Scene
from sqap_vla.sim.transforms import make_transform, rotation_from_vector, rotation_vector


class ArmFollower:
    """Kinematics of the arm and the pose that it is sent to. Limits as the built-in simulator has them."""

    def __init__(self, limits: ControlConfig) -> None:
        self._limits = limits
        self._kinematics = InverseKinematics(Scene(CameraConfig(width_px=16, height_px=16)))
        self._joints_rad: np.ndarray | None = None
        self._base_T_target = np.eye(4)

    def base_T_ee(self, joints_rad: np.ndarray) -> np.ndarray:
        """Pose [4, 4] of the end-effector for the arm's joints [6]."""
        return self._kinematics.forward(joints_rad)

    def reset(self) -> None:
        """The next measurement is where the arm is sent to."""
        self._joints_rad = None

    def follow(self, twist: np.ndarray, step_s: float, measured_rad: np.ndarray) -> np.ndarray:
        """Joint targets [6] in rad after `step_s` of a twist [6] (m/s, rad/s, base axes). measured_rad [6]: now."""
        measured = self.base_T_ee(measured_rad)
        if self._joints_rad is None:
            self._joints_rad, self._base_T_target = measured_rad.copy(), measured
        turned = rotation_from_vector(twist[3:] * step_s) @ self._base_T_target[:3, :3]
        target = make_transform(turned, self._base_T_target[:3, 3] + twist[:3] * step_s)
        self._joints_rad = self._kinematics.solve(self._bounded(target, measured), self._joints_rad)
        self._base_T_target = self._kinematics.forward(self._joints_rad)  # never beyond the arm's reach
        return self._joints_rad

    def _bounded(self, target: np.ndarray, measured: np.ndarray) -> np.ndarray:
        """The target inside the workspace and near the measured pose."""
        limits = self._limits
        goal_m = np.clip(target[:3, 3], limits.workspace_min_m, limits.workspace_max_m)
        lead_m = goal_m - measured[:3, 3]
        lead_m *= min(1.0, limits.max_lead_m / max(np.linalg.norm(lead_m), 1e-9))
        lead_rad = rotation_vector(target[:3, :3] @ measured[:3, :3].T)
        lead_rad *= min(1.0, limits.max_lead_rad / max(np.linalg.norm(lead_rad), 1e-9))
        return make_transform(rotation_from_vector(lead_rad) @ measured[:3, :3], measured[:3, 3] + lead_m)
