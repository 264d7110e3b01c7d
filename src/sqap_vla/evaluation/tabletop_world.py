# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The tabletop as a world of the closed loop."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sqap_vla.evaluation.closed_loop import Outcome, PolicyDriver
from sqap_vla.pruning.projection import CameraModel
from sqap_vla.runtime.command import Command, Stop
from sqap_vla.runtime.types import Observation
from sqap_vla.sim import TabletopEnv


class TabletopWorld:
    """options: of `TabletopEnv.reset`. instruction: None says the task's own. An episode ends with its success."""

    def __init__(
        self, env: TabletopEnv, options: Mapping[str, str] | None = None, instruction: str | None = None
    ) -> None:
        self._env, self._options, self._instruction = env, dict(options or {}), instruction

    def reset(self, seed: int) -> None:
        self._seed = seed
        _, self._info = self._env.reset(seed=seed, options=self._options)

    def observe(self, stamp_ns: int) -> Observation:
        rgb, base_T_ee = self._env.camera_image(), self.base_T_ee()
        return Observation(
            rgb=rgb,
            stamp_ns=stamp_ns,
            instruction=self._instruction or self._env.task.instruction,
            camera=CameraModel(self._env.camera_matrix, "plumb_bob", np.zeros(5), rgb.shape[1], rgb.shape[0]),
            camera_T_ee=self._env.camera_T_base @ base_T_ee,
            base_T_ee=base_T_ee,
        )

    def action(self, command: Command | Stop) -> np.ndarray:
        """The environment's action [7] for a command of one control step. Zero motion for a stop."""
        if isinstance(command, Stop):
            return np.append(np.zeros(6), self._env.scene.gripper_open())
        twist = np.concatenate([command.linear_m_s, command.angular_rad_s])
        return np.append(twist * self._env.config.control.step_s, command.gripper_open)

    def step(self, command: Command | Stop, gripper: float) -> bool:
        *_, success, truncated, self._info = self._env.step(self.action(command))
        return success or truncated

    def base_T_ee(self) -> np.ndarray:
        return self._env.scene.base_T_ee()

    def outcome(self) -> Outcome:
        info = self._info
        return Outcome(
            seed=self._seed,
            family=info["family"],
            instruction=info["instruction"],
            scenario=info["scenario"],
            varied="+".join(info["varied"]),
            success=bool(info["success"]),
            steps=info["steps"],
        )

    def close(self) -> None:
        self._env.close()


class TabletopPolicy:
    """Chooses the tabletop's actions, whoever steps it."""

    def __init__(self, driver: PolicyDriver) -> None:
        self._driver = driver

    def reset(self) -> None:
        self._driver.reset()

    def action(self, env: TabletopEnv) -> np.ndarray:
        """The next action [7] for one control step."""
        world = TabletopWorld(env)
        return world.action(self._driver.command(world))
