# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The policy in a simulated world, in one process: engine, ensemble and controller as the policy node has them, without
DDS.

The world waits for the policy, so latency does not count here; the same episode is run for every method.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from sqap_vla.runtime.command import Command, Stop
from sqap_vla.runtime.controller import ChunkController
from sqap_vla.runtime.engine import Engine
from sqap_vla.runtime.gripper import Gripper, make_gripper
from sqap_vla.runtime.limits import Limits
from sqap_vla.runtime.methods.base import Method
from sqap_vla.runtime.opening import open_engine
from sqap_vla.runtime.types import Observation

START_NS = 1_000_000_000


@dataclass(frozen=True)
class Outcome:
    """What an episode was and came to. varied: what of its look was. steps: until it was done for good; all of them,
    where it was not."""

    seed: int
    family: str
    instruction: str
    scenario: str
    varied: str
    success: bool
    steps: int


class World(Protocol):
    """An environment as the closed loop sees it: the tabletop (tabletop_world.py) or SIMPLER (simpler_world.py)."""

    def reset(self, seed: int) -> None:
        """Starts episode number `seed`."""

    def observe(self, stamp_ns: int) -> Observation:
        """What the policy node would be given of the world as it is."""

    def step(self, command: Command | Stop, gripper: float) -> bool:
        """Carries out one step; whether the episode is over. gripper: the robot's own number (runtime/gripper.py)."""

    def base_T_ee(self) -> np.ndarray:
        """Pose [4, 4] of the end-effector in the robot's base frame."""

    def outcome(self) -> Outcome:
        """Of the episode so far."""

    def close(self) -> None:
        """Gives back what it holds."""


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

    def open_engine(self, checkpoint: str | Path, method: Method, **options: Any) -> Engine:
        """An engine that acts for this robot. options and errors: of runtime/opening.py's `open_engine`."""
        return open_engine(checkpoint, method, unnorm_key=self.unnorm_key, step_s=self.step_s, **options)

    def controller(self, gripper: Gripper) -> ChunkController:
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
    """Chooses commands by inference on a world's camera image."""

    def __init__(self, engine: Engine, settings: RobotSettings | None = None) -> None:
        self.engine, self.settings = engine, settings or RobotSettings()
        self._gripper = make_gripper(self.settings.gripper)
        self._controller = self.settings.controller(self._gripper)
        self.reset()

    def reset(self) -> None:
        """A new episode. The clock starts again: a seed gives the same episode every time."""
        self._forget()
        self._stamp_ns = START_NS
        self._instruction: str | None = None
        self.latencies_ms: list[float] = []

    def _forget(self) -> None:
        self._controller.reset()
        self.engine.reset()

    @property
    def gripper(self) -> float:
        """The robot's own number of the last command."""
        return self._gripper.raw

    def command(self, world: World) -> Command | Stop:
        """What to do for one step of the world. As in the policy node, another instruction ends what was begun."""
        observation = world.observe(self._stamp_ns)
        if self._instruction not in (None, observation.instruction):
            self._forget()
        self._instruction = observation.instruction
        chunk = self.engine.infer(observation)
        self.latencies_ms.append(chunk.times.total_ms)
        self._controller.set_chunk(chunk)
        command = self._controller.command(self._stamp_ns, observation.base_T_ee)
        self._stamp_ns += round(self.settings.step_s * 1e9)
        return command


@dataclass(frozen=True)
class EpisodeResult(Outcome):
    """And how. seconds: simulated. path_m: of the end-effector. jerk_m_s3: root mean square of its position's third
    difference. latency_ms: mean time of an inference. wall_s: what the episode took."""

    seconds: float
    path_m: float
    jerk_m_s3: float
    latency_ms: float
    wall_s: float


def result_of(
    outcome: Outcome, path: np.ndarray, step_s: float, latencies_ms: Sequence[float], wall_s: float
) -> EpisodeResult:
    """path: the end-effector's places [N, 3], one for each step [m]. latencies_ms: one for each inference."""
    jerk = np.diff(path, 3, axis=0) / step_s**3
    return EpisodeResult(
        **vars(outcome),
        seconds=outcome.steps * step_s,
        path_m=float(np.linalg.norm(np.diff(path, axis=0), axis=1).sum()),
        jerk_m_s3=float(np.sqrt((jerk**2).sum(axis=1).mean())) if len(jerk) else 0.0,
        latency_ms=float(np.mean(latencies_ms)) if latencies_ms else float("nan"),
        wall_s=wall_s,
    )


def run_episode(world: World, driver: PolicyDriver, seed: int) -> EpisodeResult:
    start_s = time.perf_counter()
    world.reset(seed)
    driver.reset()
    positions_m, over = [world.base_T_ee()[:3, 3].copy()], False
    while not over:
        command = driver.command(world)
        over = world.step(command, driver.gripper)
        positions_m.append(world.base_T_ee()[:3, 3].copy())
    wall_s = time.perf_counter() - start_s
    return result_of(world.outcome(), np.array(positions_m), driver.settings.step_s, driver.latencies_ms, wall_s)
