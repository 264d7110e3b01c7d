# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The closed loop carries out what the policy's chunks say: with the expert's own chunks every task is done."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import yaml

from sqap_vla.evaluation.closed_loop import PolicyDriver, RobotSettings, run_episode
from sqap_vla.evaluation.tabletop_world import TabletopWorld
from sqap_vla.pruning.ring import ring_from_geometry
from sqap_vla.pruning.selection import keep_all
from sqap_vla.runtime.types import ActionChunk, Observation, StageTimes
from sqap_vla.sim import FAMILIES, CameraConfig, EnvironmentConfig, TabletopEnv
from sqap_vla.sim.experts import Pace
from sqap_vla.training.preview import expert_chunk

CONFIG = Path(__file__).parents[2] / "config" / "tabletop.yaml"


@pytest.fixture(scope="module")
def env() -> Iterator[TabletopEnv]:
    """A small picture: the engine here does not look at it."""
    environment = TabletopEnv(EnvironmentConfig(observe_rgb=False, camera=CameraConfig(width_px=32, height_px=24)))
    yield environment
    environment.close()


class ExpertEngine:
    """An engine that answers with the expert's chunk."""

    def __init__(self, env: TabletopEnv) -> None:
        self._env, self.heard = env, []

    def reset(self) -> None:
        self.heard.clear()

    def infer(self, observation: Observation) -> ActionChunk:
        self.heard.append(observation.instruction)
        return ActionChunk(
            actions=expert_chunk(self._env.scene, self._env.task, self._env.config.control, Pace()).astype(np.float64),
            step_s=0.2,
            stamp_ns=observation.stamp_ns,
            selection=keep_all(256, "cpu"),
            ring=ring_from_geometry(observation.camera, observation.camera_T_ee, np.zeros((1, 3)), 2, 154),
            times=StageTimes(1.0, 2.0, 3.0, 4.0, 10.0),
            base_T_ee=observation.base_T_ee,
        )


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("seed", range(2))
def test_the_experts_chunks_do_every_task_through_ensemble_and_controller(
    env: TabletopEnv, family: str, seed: int
) -> None:
    engine = ExpertEngine(env)
    result = run_episode(TabletopWorld(env, {"family": family}), PolicyDriver(engine), seed)
    assert result.success and result.family == family and result.steps == len(engine.heard)
    assert result.seconds == pytest.approx(0.2 * result.steps)
    assert result.latency_ms == 10.0 and 0.1 < result.path_m < 3.0 and result.jerk_m_s3 > 0.0


def test_another_sentence_can_be_said_than_the_tasks_own(env: TabletopEnv) -> None:
    engine = ExpertEngine(env)
    world = TabletopWorld(env, {"instruction": "pick up the red cube"}, instruction="open the drawer")
    run_episode(world, PolicyDriver(engine), 0)
    assert set(engine.heard) == {"open the drawer"}


def test_observation_has_the_geometry_of_the_picture(env: TabletopEnv) -> None:
    world = TabletopWorld(env, {"scenario": "variant_aggregation"}, "pick up the red cube")
    world.reset(1)
    observation = world.observe(5)
    hand = observation.camera_T_ee[:3, 3]
    pixel = observation.camera.matrix @ (hand / hand[2])
    assert 0 < pixel[0] < 32 and 0 < pixel[1] < 24
    np.testing.assert_allclose(observation.base_T_ee, env.scene.base_T_ee())


def test_settings_are_those_of_the_policy_node() -> None:
    node = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))["/**/policy"]["ros__parameters"]
    flat = node | node["limits"]
    for setting in fields(RobotSettings):
        if setting.name != "ensemble_alpha":  # the node's default
            value = flat[setting.name]
            assert getattr(RobotSettings(), setting.name) == (tuple(value) if isinstance(value, list) else value)
