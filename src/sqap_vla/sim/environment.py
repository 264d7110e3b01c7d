# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The tabletop as a gymnasium environment: delta end-effector actions at 5 Hz in, image and geometry out.

Action float32 [7]: dx dy dz [m] along the axes of base_link, droll dpitch dyaw [rad], static xyz (R_target =
R_delta R_ee, about the end-effector's origin), gripper open in [0, 1]. Values outside the action space are
clipped. An episode is a function of its seed: what the arm meets is the same in every scenario, what the camera
sees is drawn apart from it (see `start`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces

from sqap_vla.sim.camera import CameraConfig, camera_T_base, intrinsics
from sqap_vla.sim.controller import ArmController, ControlConfig
from sqap_vla.sim.instructions import parse_instruction, sample_task, tasks_of
from sqap_vla.sim.look import Look, apply_look
from sqap_vla.sim.rendering import CameraRenderer
from sqap_vla.sim.scenarios import FACTORS, SCENARIOS, VISUAL_MATCHING, draw_look
from sqap_vla.sim.scene import CUBE_COLORS, JOINTS, Scene
from sqap_vla.sim.start import PHYSICS_STREAM, CubeRegion, random_stream
from sqap_vla.sim.tasks import Task

_OPTIONS = ("scenario", "family", "instruction")


@dataclass(frozen=True)
class EnvironmentConfig:
    """Everything that shapes an environment.

    camera: the training look's; a variant's differs (see `TabletopEnv.camera`).
    scenario, family: of episodes whose reset options name none. family is one of `instructions.FAMILIES`.
    factors: what variant aggregation changes, all at once; none: one factor, which the seed chooses.
    max_steps: control steps after which an episode is cut off; None: the task's own time limit.
    hold_s: for how long the task must be achieved without a break.
    observe_rgb: False leaves the image out of the observation, for work that needs none, and then no OpenGL.
    """

    camera: CameraConfig = field(default_factory=CameraConfig)
    control: ControlConfig = field(default_factory=ControlConfig)
    cubes: CubeRegion = field(default_factory=CubeRegion)
    scenario: str = VISUAL_MATCHING
    family: str = "pick"
    factors: tuple[str, ...] = ()
    max_steps: int | None = None
    hold_s: float = 0.4
    observe_rgb: bool = True

    def __post_init__(self) -> None:
        if self.max_steps is not None and self.max_steps < 1:
            raise ValueError(f"max_steps is {self.max_steps}; it must be at least 1, or None for the task's own limit")
        if not self.hold_s >= 0.0:
            raise ValueError(f"hold_s is {self.hold_s}; it must not be negative")
        if self.scenario not in SCENARIOS:
            raise ValueError(f"scenario is {self.scenario!r}; it must be one of {', '.join(SCENARIOS)}")
        if unknown := sorted(set(self.factors) - set(FACTORS)):
            raise ValueError(f"factors has {unknown}; it may have {', '.join(FACTORS)}")
        tasks_of(self.family)

    @property
    def hold_steps(self) -> int:
        """Control steps in a row that must see the task achieved."""
        return max(1, round(self.hold_s / self.control.step_s))


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
        self.task: Task = tasks_of(self.config.family)[0]
        self.look = Look(self.config.camera)
        self._controller = ArmController(self.scene, self.config.control)
        self._renderer: CameraRenderer | None = None
        self._camera_matrix, self._camera_T_base = intrinsics(self.camera), camera_T_base(self.camera)
        self._seed, self._scenario = 0, self.config.scenario
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
        """Starts an episode.

        options: 'scenario', 'family' (else the configuration's) and 'instruction' (else the seed chooses one of
        the family; with it, its own family). Without a seed, the next one of the environment's generator.
        info: success, seed, scenario, family, instruction, varied (which factors of the look), steps.
        Raises ValueError for an unknown option or value, and for a sentence of another family.
        """
        super().reset(seed=seed)
        options = options or {}
        if unknown := sorted(set(options) - set(_OPTIONS)):
            raise ValueError(f"reset options has {unknown}; it may have {', '.join(_OPTIONS)}")
        self._seed = int(self.np_random.integers(2**31)) if seed is None else seed
        self._scenario = options.get("scenario", self.config.scenario)
        rng = random_stream(self._seed, PHYSICS_STREAM)
        cubes, drawer_share = self.config.cubes.sample(rng, len(CUBE_COLORS)), rng.uniform()
        task = self._given_task(options) or sample_task(options.get("family", self.config.family), rng)
        look = draw_look(self._scenario, self._seed, self.config.camera, cubes, self.config.factors)
        self.task, self.look = task, look
        low_m, high_m = self.task.drawer_start_m
        apply_look(self.scene.model, self.look)
        self.scene.set_camera(self.look.camera)
        self._camera_matrix, self._camera_T_base = intrinsics(self.camera), camera_T_base(self.camera)
        self.scene.reset(cubes, low_m + drawer_share * (high_m - low_m), self.look.distractors)
        self._controller.reset()
        self._steps = self._steps_achieved = 0
        return self._observation(), self._info()

    @staticmethod
    def _given_task(options: dict[str, Any]) -> Task | None:
        if "instruction" not in options:
            return None
        task = parse_instruction(options["instruction"])
        if options.get("family", task.family) != task.family:
            raise ValueError(
                f"instruction {task.instruction!r} is of family {task.family!r}, not {options['family']!r}; "
                "give one of the two"
            )
        return task

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
        truncated = not success and self._steps >= self.max_steps
        return self._observation(), float(success), success, truncated, self._info()

    def set_instruction(self, instruction: str) -> None:
        """Changes the task within the episode, to one of any family; the scene stays as it is.

        Raises ValueError for a sentence the tabletop does not know.
        """
        self.task, self._steps_achieved = parse_instruction(instruction), 0
        self.scene.mark_start()

    @property
    def camera(self) -> CameraConfig:
        """The camera of this episode."""
        return self.look.camera

    @property
    def camera_matrix(self) -> np.ndarray:
        """K [3, 3] in px of this episode's camera."""
        return self._camera_matrix

    @property
    def camera_T_base(self) -> np.ndarray:
        """Pose [4, 4] of the base frame in the optical frame of this episode's camera."""
        return self._camera_T_base

    @property
    def max_steps(self) -> int:
        """Control steps after which the episode is cut off."""
        return self.config.max_steps or round(self.task.time_limit_s / self.config.control.step_s)

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
        return {
            "success": self._success,
            "seed": self._seed,
            "scenario": self._scenario,
            "family": self.task.family,
            "instruction": self.task.instruction,
            "varied": self.look.varied,
            "steps": self._steps,
        }
