# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""One SIMPLER environment and what of it goes over the wire. Runs under SIMPLER's interpreter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .protocol import Arrays, Message

CAMERAS = {"google_robot": "overhead_camera", "widowx": "3rd_view_camera"}  # the one its policies look through


class RequestError(ValueError):
    """A request that cannot be carried out; the text goes back to who asked."""


def make(simpler_env: Any, task: str, build: dict[str, Any] | None, options: dict[str, Any]) -> Any:
    """One of SIMPLER's prepared tasks; or with `build`, the arguments of its evaluation scripts, the environment that
    is registered under that name, as those scripts make it. options: further arguments, which win.

    Raises RequestError for an unknown task, and for a photograph that is not among SIMPLER's assets.
    """
    if build is None:
        if task not in simpler_env.ENVIRONMENTS:
            raise RequestError(f"task '{task}' is not one of SIMPLER's: {', '.join(simpler_env.ENVIRONMENTS)}")
        return simpler_env.make(task, **options)
    from simpler_env.utils.env.env_builder import build_maniskill2_env, get_robot_control_mode

    arguments = {
        "obs_mode": "rgbd",
        "control_mode": get_robot_control_mode(str(build.get("robot")), None),
        "camera_cfgs": {"add_segmentation": True},
        **build,
        **options,
    }
    if "rgb_overlay_path" in build:
        arguments["rgb_overlay_path"] = _asset(str(build["rgb_overlay_path"]))
    return build_maniskill2_env(task, **arguments)


def _asset(relative: str) -> str:
    from mani_skill2_real2sim import ASSET_DIR

    root = Path(ASSET_DIR).resolve()
    path = (root / relative).resolve()
    if root not in path.parents or not path.is_file():
        raise RequestError(f"'{relative}' is no file below SIMPLER's assets '{root}'; set MS2_REAL2SIM_ASSET_DIR")
    return str(path)


class Environment:
    """env: made by `make`. Raises RequestError for a robot that is none of CAMERAS."""

    def __init__(self, env: Any) -> None:
        self._env, self._scene = env, env.unwrapped
        self.robot = next((name for name in CAMERAS if self._scene.robot_uid.startswith(name)), "")
        if not self.robot:
            raise RequestError(f"robot '{self._scene.robot_uid}' is none of {', '.join(CAMERAS)}")
        self._camera = CAMERAS[self.robot]
        self._running = False

    def close(self) -> None:
        self._env.close()

    def describe(self) -> Message:
        return {
            "robot": self.robot,
            "camera": self._camera,
            "control_hz": float(self._scene.control_freq),
            "max_steps": int(self._env.spec.max_episode_steps),
            "joints": [joint.name for joint in self._scene.agent.robot.get_active_joints()],
        }

    def reset(self, seed: int, options: dict[str, Any]) -> tuple[Message, Arrays]:
        """Starts an episode. options: of SIMPLER's reset, in JSON's types; what they leave open the seed chooses."""
        observation, _ = self._env.reset(seed=seed, options=_with_arrays(options))
        self._running, self._steps = True, 0
        return self._answer(observation, success=False, truncated=False, stats={})

    def step(self, action: np.ndarray) -> tuple[Message, Arrays]:
        """action [7]: dx dy dz [m] and axis-angle [rad] along the axes of the robot's base, gripper in [-1, 1]."""
        if not self._running:
            raise RequestError("step before reset; reset the environment first")
        if action.shape != (7,) or not np.isfinite(action).all():
            raise RequestError(f"action has shape {action.shape}, values {action.tolist()}; send 7 finite numbers")
        observation, _, terminated, truncated, info = self._env.step(action.astype(np.float64))
        self._steps += 1
        success = bool(info.get("success", terminated))
        return self._answer(observation, success, bool(truncated), info.get("episode_stats", {}))

    def advance(self) -> Message:
        """Goes to the next part of a task of several parts. Raises RequestError where there is none."""
        if self._scene.is_final_subtask():
            raise RequestError("there is no further part of this task")
        self._scene.advance_to_next_subtask()
        return {"instruction": self._scene.get_language_instruction()}

    def _answer(self, observation: Any, success: bool, truncated: bool, stats: Any) -> tuple[Message, Arrays]:
        camera, agent = observation["camera_param"][self._camera], observation["agent"]
        arrays = {
            "rgb": np.asarray(observation["image"][self._camera]["rgb"], np.uint8),
            "intrinsic": camera["intrinsic_cv"],
            "camera_T_world": camera["extrinsic_cv"],
            "world_T_base": agent["base_pose"],
            "world_T_ee": self._end_effector(observation),
            "joint_position": agent["qpos"],
            "joint_velocity": agent["qvel"],
        }
        message = {
            "instruction": self._scene.get_language_instruction(),
            "success": success,
            "truncated": truncated,
            "steps": self._steps,
            "stats": {str(name): _plain(value) for name, value in stats.items()},
        }
        return message, {name: np.asarray(array) for name, array in arrays.items()}

    def _end_effector(self, observation: Any) -> np.ndarray:
        """Some tasks leave the tool's pose out of the observation; the scene always knows it."""
        pose = observation["extra"].get("tcp_pose")
        return np.concatenate([self._scene.tcp.pose.p, self._scene.tcp.pose.q]) if pose is None else pose


def _plain(value: Any) -> Any:
    """A figure as JSON has it: NumPy's scalars become Python's."""
    return value.item() if isinstance(value, np.generic) else value


def _with_arrays(value: Any) -> Any:
    """SIMPLER calculates with positions and rotations: lists of numbers become arrays."""
    if isinstance(value, dict):
        return {name: _with_arrays(part) for name, part in value.items()}
    return np.array(value, np.float64) if isinstance(value, list) else value
