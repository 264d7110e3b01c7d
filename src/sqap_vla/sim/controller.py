# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""End-effector control of the simulated arm: a delta pose per control step becomes smooth joint motion.

The delta is applied to the commanded pose, not to the measured one, so that small servo errors do not add up
to drift; the commanded pose never leads the measured one by more than `max_lead_m` / `max_lead_rad`, so that
a blocked arm does not wind up, and it stays inside the workspace. Joint references run linearly through the
control step; velocity feed-forward cancels the servo's lag.
"""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np

from sqap_vla.sim.kinematics import InverseKinematics
from sqap_vla.sim.scene import ARM_JOINTS, FINGER_TRAVEL_M, TIMESTEP_S, Scene
from sqap_vla.sim.transforms import make_transform, rotation_from_rpy, rotation_from_vector, rotation_vector


@dataclass(frozen=True)
class ControlConfig:
    """Control step and limits of the end-effector control; speeds are limits per axis.

    Raises ValueError for a value that is not positive, a step that is no multiple of the physics' 4 ms, an
    empty workspace.
    """

    step_s: float = 0.2
    max_speed_m_s: float = 0.25
    max_speed_rad_s: float = 1.5
    max_lead_m: float = 0.10
    max_lead_rad: float = 0.60
    finger_speed_m_s: float = 0.15  # of each finger
    workspace_min_m: tuple[float, float, float] = (0.15, -0.40, 0.008)
    workspace_max_m: tuple[float, float, float] = (0.58, 0.40, 0.45)

    def __post_init__(self) -> None:
        speeds = ("max_speed_m_s", "max_speed_rad_s", "finger_speed_m_s")
        for name in ("step_s", *speeds, "max_lead_m", "max_lead_rad"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be positive")
        if abs(self.step_s / TIMESTEP_S - round(self.step_s / TIMESTEP_S)) > 1e-6:
            raise ValueError(f"step_s is {self.step_s}; it must be a multiple of the physics' step, {TIMESTEP_S} s")
        if not all(low < high for low, high in zip(self.workspace_min_m, self.workspace_max_m, strict=True)):
            raise ValueError(
                f"workspace {self.workspace_min_m} to {self.workspace_max_m} is empty; give min < max on each axis"
            )

    @property
    def max_delta(self) -> np.ndarray:
        """The largest pose delta of one control step, float64 [6]: three in m, three in rad."""
        return self.step_s * np.repeat([self.max_speed_m_s, self.max_speed_rad_s], 3)


class ArmController:
    """Drives the arm and the gripper of one scene; `step` advances the physics by one control step."""

    def __init__(self, scene: Scene, config: ControlConfig) -> None:
        self._scene, self.config = scene, config
        self._kinematics = InverseKinematics(scene)
        model = scene.model
        self._arm = np.array([model.actuator(name).id for name in ARM_JOINTS])
        self._gripper = model.actuator("gripper").id
        stiffness, damping = model.actuator_gainprm[self._arm, 0], -model.actuator_biasprm[self._arm, 2]
        self._lag_s = damping / stiffness
        self._substeps = round(config.step_s / TIMESTEP_S)
        self._finger_substep_m = config.finger_speed_m_s * TIMESTEP_S
        self.reset()

    def reset(self) -> None:
        """Takes the measured pose as the commanded one and opens the gripper."""
        self._joints_rad = self._scene.joint_positions()[:6]
        self._base_T_target = self._scene.base_T_ee()
        self._finger_m = FINGER_TRAVEL_M
        self._drive(self._joints_rad, np.zeros(6))

    def step(self, action: np.ndarray) -> None:
        """Carries out one action [7], as the environment defines it, and advances the physics by `step_s`."""
        limit = self.config.max_delta
        delta = np.clip(action[:6], -limit, limit)
        target = make_transform(
            rotation_from_rpy(delta[3:]) @ self._base_T_target[:3, :3], self._base_T_target[:3, 3] + delta[:3]
        )
        start_rad = self._joints_rad
        self._joints_rad = self._kinematics.solve(self._bounded(target), start_rad)
        self._base_T_target = self._kinematics.forward(self._joints_rad)  # never beyond the arm's reach
        rate_rad_s = (self._joints_rad - start_rad) / self.config.step_s
        finger_goal_m = float(np.clip(action[6], 0.0, 1.0)) * FINGER_TRAVEL_M
        for substep in range(1, self._substeps + 1):
            self._finger_m += np.clip(finger_goal_m - self._finger_m, -self._finger_substep_m, self._finger_substep_m)
            self._drive(start_rad + (self._joints_rad - start_rad) * (substep / self._substeps), rate_rad_s)
            mujoco.mj_step(self._scene.model, self._scene.data)
        mujoco.mj_forward(self._scene.model, self._scene.data)  # contacts of the state that is reported

    def _bounded(self, target: np.ndarray) -> np.ndarray:
        """The target inside the workspace and near the measured pose."""
        measured = self._scene.base_T_ee()
        goal_m = np.clip(target[:3, 3], self.config.workspace_min_m, self.config.workspace_max_m)
        lead_m = goal_m - measured[:3, 3]
        lead_m *= min(1.0, self.config.max_lead_m / max(np.linalg.norm(lead_m), 1e-9))
        lead_rad = rotation_vector(target[:3, :3] @ measured[:3, :3].T)
        lead_rad *= min(1.0, self.config.max_lead_rad / max(np.linalg.norm(lead_rad), 1e-9))
        return make_transform(rotation_from_vector(lead_rad) @ measured[:3, :3], measured[:3, 3] + lead_m)

    def _drive(self, joints_rad: np.ndarray, rate_rad_s: np.ndarray) -> None:
        self._scene.data.ctrl[self._arm] = joints_rad + self._lag_s * rate_rad_s
        self._scene.data.ctrl[self._gripper] = self._finger_m
