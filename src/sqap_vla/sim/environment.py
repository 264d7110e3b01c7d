# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The tabletop as a gymnasium environment: delta end-effector actions at 5 Hz in, image and geometry out.

Action float32 [7]: dx dy dz [m] along the axes of base_link, droll dpitch dyaw [rad], static xyz (R_target =
R_delta R_ee, about the end-effector's origin), gripper open in [0, 1]. Values outside the action space are
clipped. An episode is a function of its seed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces

from sqap_vla.sim.camera import CameraConfig, camera_T_base, intrinsics
from sqap_vla.sim.controller import ArmController, ControlConfig
from sqap_vla.sim.rendering import CameraRenderer
from sqap_vla.sim.scene import CUBE_COLORS, JOINTS, CubeRegion, Scene
from sqap_vla.sim.tasks import PickTask, Task, parse_instruction

_OPTIONS = ("instruction", "target")


@dataclass(frozen=True)
class EnvironmentConfig:
    """Everything that shapes an environment.

    max_steps: control steps after which an episode is cut off.
    hold_steps: control steps in a row that must see the task achieved.
    observe_rgb: False leaves the image out of the observation, for work that needs none, and then no OpenGL.
    """

    camera: CameraConfig = field(default_factory=CameraConfig)
    control: ControlConfig = field(default_factory=ControlConfig)
    cubes: CubeRegion = field(default_factory=CubeRegion)
    max_steps: int = 80
    hold_steps: int = 2
    observe_rgb: bool = True

    def __post_init__(self) -> None:
        for name in ("max_steps", "hold_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")


class TabletopEnv(gymnasium.Env):
    """Three cubes and a drawer cabinet on a table, before a six-joint arm with a parallel gripper."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 5}

    def __init__(self, config: EnvironmentConfig | None = None, render_mode: str | None = None) -> None:
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise ValueError(
                f"render_mode is {render_mode!r}; it must be None or one of {self.metadata['render_modes']}"
            )
        self.config, self.render_mode = config or EnvironmentConfig(), render_mode
        self.scene = Scene(self.config.camera)
        self.task: Task = PickTask(CUBE_COLORS[0])
        self._controller = ArmController(self.scene, self.config.control)
        self._renderer: CameraRenderer | None = None
        self._camera_matrix = intrinsics(self.config.camera)
        self._camera_T_base = camera_T_base(self.config.camera)
        self._steps = self._steps_achieved = 0
        limit = self.config.control.max_delta
        self.action_space = spaces.Box(
            np.append(-limit, 0.0).astype(np.float32), np.append(limit, 1.0).astype(np.float32)
        )
        self.observation_space = spaces.Dict(self._spaces())

    def _spaces(self) -> dict[str, spaces.Space]:
        def real(*shape: int) -> spaces.Box:
            return spaces.Box(-np.inf, np.inf, shape, np.float64)

        shape = (self.config.camera.height_px, self.config.camera.width_px, 3)
        image = {"rgb": spaces.Box(0, 255, shape, np.uint8)}
        return (image if self.config.observe_rgb else {}) | {
            "base_T_ee": real(4, 4),
            "joint_positions": real(len(JOINTS)),
            "gripper_open": spaces.Box(0.0, 1.0, (), np.float64),
            "camera_matrix": real(3, 3),
            "camera_T_base": real(4, 4),
        }

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Starts an episode. options: 'instruction' (sentence) or 'target' (colour); else the seed chooses.

        Raises ValueError for an unknown option, sentence or colour, and for both at once.
        """
        super().reset(seed=seed)
        options = options or {}
        unknown = sorted(set(options) - set(_OPTIONS))
        if unknown or len(options) > 1:
            raise ValueError(f"reset options are {sorted(options)}; give at most one of {', '.join(_OPTIONS)}")
        # Drawn in any case, so that the cubes of a seed lie where they lie whichever task is given.
        drawn = PickTask(CUBE_COLORS[self.np_random.integers(len(CUBE_COLORS))])
        cubes = self.config.cubes.sample(self.np_random, len(CUBE_COLORS))
        if "instruction" in options:
            self.task = parse_instruction(options["instruction"])
        else:
            self.task = PickTask(options["target"]) if "target" in options else drawn
        self.scene.reset(cubes)
        self._controller.reset()
        self._steps = self._steps_achieved = 0
        return self._observation(), self._info()

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """One control step. Reward 1.0 on success, which ends the episode, else 0.0.

        Raises ValueError for an action that is not seven finite numbers.
        """
        action = np.asarray(action, dtype=np.float64)
        if action.shape != (7,) or not np.isfinite(action).all():
            raise ValueError(f"action is {action.tolist()}; it must be seven finite numbers")
        self._controller.step(action)
        self._steps += 1
        self._steps_achieved = self._steps_achieved + 1 if self.task.achieved(self.scene) else 0
        success = self._success
        truncated = not success and self._steps >= self.config.max_steps
        return self._observation(), float(success), success, truncated, self._info()

    def set_instruction(self, instruction: str) -> None:
        """Changes the task within the episode.

        Raises ValueError for a sentence the tabletop does not know.
        """
        self.task, self._steps_achieved = parse_instruction(instruction), 0

    def render(self) -> np.ndarray | None:
        """The camera image, uint8 [H, W, 3], in render_mode 'rgb_array'; else None."""
        return self.camera_image() if self.render_mode == "rgb_array" else None

    def camera_image(self) -> np.ndarray:
        """The camera image, uint8 [H, W, 3].

        Raises RenderingError where OpenGL is missing or another thread owns the camera.
        """
        return self.camera_renderer().rgb()

    def camera_renderer(self) -> CameraRenderer:
        """The renderer of the camera, made by the first thread that asks for it."""
        if self._renderer is None:
            self._renderer = CameraRenderer(self.scene)
        return self._renderer

    def close(self) -> None:
        """Frees the OpenGL context; the environment must not be used afterwards."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    @property
    def _success(self) -> bool:
        return self._steps_achieved >= self.config.hold_steps

    def _observation(self) -> dict[str, Any]:
        image = {"rgb": self.camera_image()} if self.config.observe_rgb else {}
        return image | {
            "base_T_ee": self.scene.base_T_ee(),
            "joint_positions": self.scene.joint_positions(),
            "gripper_open": np.array(self.scene.gripper_open()),
            "camera_matrix": self._camera_matrix.copy(),
            "camera_T_base": self._camera_T_base.copy(),
        }

    def _info(self) -> dict[str, Any]:
        return {"success": self._success, "instruction": self.task.instruction, "steps": self._steps}
