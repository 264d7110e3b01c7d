# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The scripted expert solves the task through actions alone, by friction, and repairs others' errors."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest

from sqap_vla.sim import PickExpert, TabletopEnv


def run(env: TabletopEnv, expert: PickExpert) -> dict:
    while True:
        action = expert.action()
        assert env.action_space.contains(action)
        *_, terminated, truncated, info = env.step(action)
        if terminated or truncated:
            return info


@pytest.mark.parametrize("seed", range(12))
def test_expert_picks_the_named_cube(env: TabletopEnv, seed: int) -> None:
    env.reset(seed=seed)
    assert run(env, PickExpert(env))["success"]


@pytest.mark.parametrize("color", ["red", "green", "blue"])
def test_expert_recovers_from_any_start(env: TabletopEnv, color: str) -> None:
    env.reset(seed=20, options={"target": color})
    rng = np.random.default_rng(0)
    for _ in range(6):
        env.step(rng.uniform(env.action_space.low, env.action_space.high))
    assert run(env, PickExpert(env))["success"]


def test_expert_turns_to_another_cube_when_the_instruction_changes(env: TabletopEnv) -> None:
    env.reset(seed=4, options={"target": "red"})
    expert = PickExpert(env)
    for _ in range(7):
        env.step(expert.action())
    env.set_instruction("pick up the blue cube")
    info = run(env, expert)
    assert info["success"] and info["instruction"] == "pick up the blue cube"


def test_the_cube_is_held_by_friction_alone(env: TabletopEnv) -> None:
    assert {int(kind) for kind in env.scene.model.eq_type} == {
        int(mujoco.mjtEq.mjEQ_JOINT)
    }  # the finger coupling; no weld
    env.reset(seed=0)
    run(env, PickExpert(env))
    for _ in range(10):
        env.step(np.zeros(7))  # holds
    assert env.task.achieved(env.scene)
    env.step(np.array([0, 0, 0, 0, 0, 0, 1.0]))  # lets go
    env.step(np.array([0, 0, 0, 0, 0, 0, 1.0]))
    assert env.task.lifted_m(env.scene) < 0.01
