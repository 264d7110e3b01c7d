# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""SIMPLER as a world of the closed loop, through its server's socket, in lockstep and without ROS.

As in published results an episode runs to its last step and counts by what holds there, and the policy's actions are
carried out as they are: no limits of speed or workspace.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sqap_vla.evaluation.closed_loop import Outcome, RobotSettings
from sqap_vla.pruning.projection import CameraModel
from sqap_vla.runtime.command import Command, Stop
from sqap_vla.runtime.types import Observation
from sqap_vla.simpler.actions import action_from_twist
from sqap_vla.simpler.benchmark import SimplerEpisode
from sqap_vla.simpler.client import SimplerError, SimplerState
from sqap_vla.simpler.local_server import SimplerConnection

# Beyond what SIMPLER's action space (1 m and pi/2 rad per axis and step) can ask for.
_UNBOUNDED = {
    "max_linear_m_s": 100.0,
    "max_angular_rad_s": 100.0,
    "max_linear_accel_m_s2": 1e5,
    "max_angular_accel_rad_s2": 1e5,
    "workspace_min_m": (-100.0, -100.0, -100.0),
    "workspace_max_m": (100.0, 100.0, 100.0),
}
SETTINGS = {
    "google_robot": RobotSettings(
        unnorm_key="fractal20220817_data", step_s=1 / 3, ensemble_horizon=2, gripper="google_robot", **_UNBOUNDED
    ),
    "widowx": RobotSettings(unnorm_key="bridge_orig", step_s=1 / 5, ensemble_horizon=7, gripper="widowx", **_UNBOUNDED),
}


def robot_of(task: str) -> str:
    """By the beginning of the task's name."""
    return next(robot for robot in SETTINGS if task.startswith(robot))


class SimplerWorld:
    """Episodes of one task. connection: is closed with this. instruction: '' says the task's own. max_steps: None: as
    many as the episode has.

    Every method raises SimplerError where SIMPLER refuses or is gone.
    """

    def __init__(
        self,
        connection: SimplerConnection,
        task: str,
        scenario: str,
        episodes: Sequence[SimplerEpisode],
        instruction: str = "",
        max_steps: int | None = None,
    ) -> None:
        self._connection, self._episodes = connection, episodes
        self._name, self._scenario = task, scenario
        self._said, self._max_steps = instruction, max_steps
        self._step_s = SETTINGS[robot_of(task)].step_s
        self._scene: tuple | None = None

    def close(self) -> None:
        self._connection.close()

    def reset(self, seed: int) -> None:
        """Episodes that look alike share a scene, which is made only where it changes."""
        self._seed, self._episode = seed, self._episodes[seed]
        episode = self._episode
        if self._scene != (episode.env, episode.build):
            self._scene = None
            self._task = self._ask(lambda client: client.open(episode.env, episode.build))
            if self._task.step_ns != round(self._step_s * 1e9):
                raise SimplerError(
                    f"'{episode.env}' runs at {self._task.control_hz} Hz; {1 / self._step_s:.0f} Hz is due"
                )
            self._scene = (episode.env, episode.build)
        self._state: SimplerState = self._ask(lambda client: client.reset(seed, episode.options))
        self._instructions = [self._instruction()]
        self._done_at: int | None = None
        self._gripper = 1.0 if self._task.robot == "widowx" else 0.0  # open; as it is

    def observe(self, stamp_ns: int) -> Observation:
        state = self._state
        height, width = state.rgb.shape[:2]
        return Observation(
            rgb=state.rgb,
            stamp_ns=stamp_ns,
            instruction=self._instruction(),
            camera=CameraModel(state.intrinsic, "plumb_bob", np.zeros(5), width, height),
            camera_T_ee=np.linalg.inv(state.base_T_camera) @ state.base_T_ee,
            base_T_ee=state.base_T_ee,
        )

    def step(self, command: Command | Stop, gripper: float) -> bool:
        twist = np.zeros(6)
        if isinstance(command, Command):
            twist, self._gripper = np.concatenate([command.linear_m_s, command.angular_rad_s]), gripper
        elif self._task.robot == "google_robot":
            self._gripper = 0.0  # relative: it stays where it is
        action = action_from_twist(twist, self._step_s, self._gripper)
        self._state = state = self._ask(lambda client: client.step(action))
        if not state.success:
            self._done_at = None
        elif self._done_at is None:
            self._done_at = state.steps
        if self._instruction() != self._instructions[-1]:
            self._instructions.append(self._instruction())
        return state.truncated or state.steps >= (self._max_steps or self._task.max_steps)

    def base_T_ee(self) -> np.ndarray:
        return self._state.base_T_ee

    def outcome(self) -> Outcome:
        return Outcome(
            seed=self._seed,
            family=self._name,
            instruction="; ".join(self._instructions),
            scenario=self._scenario,
            varied=self._episode.variant,
            success=self._state.success,
            steps=self._done_at or self._state.steps,
        )

    def _instruction(self) -> str:
        return self._said or self._state.instruction

    def _ask(self, request):
        """What SIMPLER answers; where its process has died, why."""
        try:
            return request(self._connection.client)
        except SimplerError as error:
            raise self._connection.explained(error) from error
