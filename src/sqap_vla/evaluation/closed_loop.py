# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The policy on the tabletop in one process: engine, ensemble and controller as the policy node has them, without DDS.

The simulator waits for the policy, so latency does not count here; the same episode is run for every method.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, fields

import numpy as np

from sqap_vla.pruning.projection import CameraModel
from sqap_vla.runtime.controller import ChunkController, Stop
from sqap_vla.runtime.engine import Engine
from sqap_vla.runtime.gripper import make_gripper
from sqap_vla.runtime.limits import Limits
from sqap_vla.runtime.types import Observation
from sqap_vla.sim import TabletopEnv

START_NS = 1_000_000_000


@dataclass(frozen=True)
class RobotSettings:
    """What config/tabletop.yaml tells the policy node of the robot (a test holds the two together)."""

    unnorm_key: str = "tabletop"
    step_s: float = 0.2
    ensemble_horizon: int = 7
    ensemble_alpha: float = 0.1
    gripper: str = "absolute"
    max_chunk_age_s: float = 1.0
    max_linear_m_s: float = 0.25
    max_angular_rad_s: float = 1.5
    max_linear_accel_m_s2: float = 10.0
    max_angular_accel_rad_s2: float = 60.0
    workspace_min_m: tuple[float, float, float] = (0.15, -0.40, 0.008)
    workspace_max_m: tuple[float, float, float] = (0.58, 0.40, 0.45)

    def limits(self) -> Limits:
        names = [field.name for field in fields(Limits) if hasattr(self, field.name)]
        return Limits(**{name: getattr(self, name) for name in names})

    def controller(self) -> ChunkController:
        gripper = make_gripper(self.gripper)
        return ChunkController(
            self.step_s,
            self.limits(),
            gripper,
            self.max_chunk_age_s,
            self.ensemble_horizon,
            self.ensemble_alpha,
            period_s=self.step_s,
        )


class PolicyDriver:
    """Chooses the environment's actions by inference on its camera image. instruction: None says the task's own."""

    def __init__(self, engine: Engine, settings: RobotSettings | None = None, instruction: str | None = None) -> None:
        self.engine, self.settings = engine, settings or RobotSettings()
        self._controller = self.settings.controller()
        self._stamp_ns = START_NS
        self._instruction = instruction
        self.latencies_ms: list[float] = []

    def reset(self) -> None:
        """A new episode or another instruction. The clock starts again: a seed gives the same episode every time."""
        self._controller.reset()
        self.engine.reset()
        self._stamp_ns = START_NS
        self.latencies_ms = []

    def action(self, env: TabletopEnv) -> np.ndarray:
        """The next action [7] for one control step of the environment. Zero motion where the controller stops."""
        observation = observe(env, self._stamp_ns, self._instruction or env.task.instruction)
        chunk = self.engine.infer(observation)
        self.latencies_ms.append(chunk.times.total_ms)
        self._controller.set_chunk(chunk)
        command = self._controller.command(self._stamp_ns, observation.base_T_ee)
        self._stamp_ns += round(self.settings.step_s * 1e9)
        if isinstance(command, Stop):
            return np.append(np.zeros(6), env.scene.gripper_open())
        twist = np.concatenate([command.linear_m_s, command.angular_rad_s])
        return np.append(twist * self.settings.step_s, command.gripper_open)


def observe(env: TabletopEnv, stamp_ns: int, instruction: str) -> Observation:
    """What the policy node would be given of the environment as it is."""
    rgb, base_T_ee = env.camera_image(), env.scene.base_T_ee()
    return Observation(
        rgb=rgb,
        stamp_ns=stamp_ns,
        instruction=instruction,
        camera=CameraModel(env.camera_matrix, "plumb_bob", np.zeros(5), rgb.shape[1], rgb.shape[0]),
        camera_T_ee=env.camera_T_base @ base_T_ee,
        base_T_ee=base_T_ee,
    )


@dataclass(frozen=True)
class EpisodeResult:
    """One episode. seconds: simulated. path_m: of the end-effector. jerk_m_s3: root mean square of its position's third
    difference. latency_ms: mean time of an inference. wall_s: what the episode took."""

    seed: int
    family: str
    instruction: str
    scenario: str
    varied: str
    success: bool
    steps: int
    seconds: float
    path_m: float
    jerk_m_s3: float
    latency_ms: float
    wall_s: float


def run_episode(env: TabletopEnv, driver: PolicyDriver, seed: int, options: dict[str, str]) -> EpisodeResult:
    """options: of `TabletopEnv.reset`."""
    start_s = time.perf_counter()
    _, info = env.reset(seed=seed, options=options)
    driver.reset()
    positions_m = [env.scene.base_T_ee()[:3, 3].copy()]
    ended = False
    while not ended:
        *_, success, truncated, info = env.step(driver.action(env))
        positions_m.append(env.scene.base_T_ee()[:3, 3].copy())
        ended = success or truncated
    step_s, path = env.config.control.step_s, np.array(positions_m)
    jerk = np.diff(path, 3, axis=0) / step_s**3
    return EpisodeResult(
        seed=seed,
        family=info["family"],
        instruction=info["instruction"],
        scenario=info["scenario"],
        varied="+".join(info["varied"]),
        success=bool(info["success"]),
        steps=info["steps"],
        seconds=info["steps"] * step_s,
        path_m=float(np.linalg.norm(np.diff(path, axis=0), axis=1).sum()),
        jerk_m_s3=float(np.sqrt((jerk**2).sum(axis=1).mean())) if len(jerk) else 0.0,
        latency_ms=float(np.mean(driver.latencies_ms)),
        wall_s=time.perf_counter() - start_s,
    )
