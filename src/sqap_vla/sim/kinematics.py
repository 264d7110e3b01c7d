# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Inverse kinematics by damped least squares on the MuJoCo model.

dq = J^T (J J^T + lambda^2 I)^-1 e, with e the position error [m] and the rotation error as a rotation vector
[rad], both in the base frame (Wampler 1986; Buss, "Introduction to inverse kinematics", 2004). Joint limits
clamp every iterate. An unreachable target gives the nearest configuration found, never an exception: a robot
that is asked too much stops at its limits.
"""

from __future__ import annotations

import mujoco
import numpy as np

from sqap_vla.sim.scene import ARM_JOINTS, Scene
from sqap_vla.sim.transforms import make_transform, rotation_vector


class InverseKinematics:
    """Solves for the arm's six joints; works on its own MjData, so the simulated state is untouched."""

    def __init__(self, scene: Scene, damping: float = 0.02, iterations: int = 30, tolerance: float = 1e-5) -> None:
        self._scene, self._model = scene, scene.model
        self._data = mujoco.MjData(scene.model)
        self._damping, self._iterations, self._tolerance = damping, iterations, tolerance
        self._limits_rad = np.array([scene.model.joint(name).range for name in ARM_JOINTS])  # [6, 2]
        self._jacobian = np.zeros((6, scene.model.nv))

    def forward(self, joints_rad: np.ndarray) -> np.ndarray:
        """base_T_ee [4, 4] of the arm's joints [6]."""
        self._data.qpos[self._scene.arm_qpos] = joints_rad
        mujoco.mj_kinematics(self._model, self._data)
        site = self._scene.ee_site
        return make_transform(self._data.site_xmat[site].reshape(3, 3), self._data.site_xpos[site])

    def solve(self, base_T_ee: np.ndarray, start_rad: np.ndarray) -> np.ndarray:
        """Joints [6] in rad that bring the end-effector to `base_T_ee`, searched from `start_rad` [6]."""
        joints_rad = np.clip(start_rad, self._limits_rad[:, 0], self._limits_rad[:, 1])
        for _ in range(self._iterations):
            reached = self.forward(joints_rad)
            error = np.concatenate(
                [base_T_ee[:3, 3] - reached[:3, 3], rotation_vector(base_T_ee[:3, :3] @ reached[:3, :3].T)]
            )
            if np.abs(error).max() < self._tolerance:
                break
            mujoco.mj_comPos(self._model, self._data)
            mujoco.mj_jacSite(self._model, self._data, self._jacobian[:3], self._jacobian[3:], self._scene.ee_site)
            jacobian = self._jacobian[:, self._scene.arm_dof]  # [6, 6]
            damped = jacobian @ jacobian.T + self._damping**2 * np.eye(6)
            step_rad = np.clip(jacobian.T @ np.linalg.solve(damped, error), -0.3, 0.3)
            joints_rad = np.clip(joints_rad + step_rad, self._limits_rad[:, 0], self._limits_rad[:, 1])
        return joints_rad
