# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The scripted experts solve every family through actions alone, by friction, and repair others' errors."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest

from sqap_vla.sim import FAMILIES, SCENARIOS, Expert, TabletopEnv, tasks_of


def run(env: TabletopEnv) -> dict:
    """Runs the episode to its end with a new expert at each step: there is nothing it could remember."""
    while True:
        action = Expert(env).action()
        assert env.action_space.contains(action)
        *_, terminated, truncated, info = env.step(action)
        if terminated or truncated:
            return info


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("seed", range(4))
def test_expert_solves_every_family_in_both_scenarios(env: TabletopEnv, family: str, scenario: str, seed: int) -> None:
    env.reset(seed=seed, options={"family": family, "scenario": scenario})
    assert run(env)["success"]


@pytest.mark.parametrize("task", [task for family in FAMILIES for task in tasks_of(family)], ids=str)
def test_expert_recovers_from_any_start(env: TabletopEnv, task) -> None:
    env.reset(seed=20, options={"instruction": task.instruction})
    rng = np.random.default_rng(0)
    for _ in range(6):
        env.step(rng.uniform(env.action_space.low, env.action_space.high))
    assert run(env)["success"]


@pytest.mark.parametrize(
    "sentences",
    [
        ("pick up the red cube", "pick up the blue cube"),
        ("open the drawer", "close the drawer"),
        ("open the drawer", "move the red cube near the blue cube"),
        ("pick up the green cube", "put the green cube in the drawer"),
    ],
)
@pytest.mark.parametrize("after", [7, 11, 15])
def test_expert_turns_to_another_task_when_the_instruction_changes(
    env: TabletopEnv, sentences: tuple[str, str], after: int
) -> None:
    env.reset(seed=4, options={"instruction": sentences[0]})
    for _ in range(after):
        env.step(Expert(env).action())
    env.set_instruction(sentences[1])
    info = run(env)
    assert info["success"] and info["instruction"] == sentences[1]


def test_nothing_but_contact_moves_cubes_and_drawer(env: TabletopEnv) -> None:
    model = env.scene.model
    assert {int(kind) for kind in model.eq_type} == {int(mujoco.mjtEq.mjEQ_JOINT)}  # the finger coupling; no weld
    drawer = model.joint("drawer").id
    joint_motors = model.actuator_trntype == mujoco.mjtTrn.mjTRN_JOINT
    assert drawer not in model.actuator_trnid[joint_motors, 0]


def test_the_cube_is_held_by_friction_alone(env: TabletopEnv) -> None:
    env.reset(seed=0)
    run(env)
    for _ in range(10):
        env.step(np.zeros(7))  # holds
    assert env.task.achieved(env.scene)
    env.step(np.array([0, 0, 0, 0, 0, 0, 1.0]))  # lets go
    env.step(np.array([0, 0, 0, 0, 0, 0, 1.0]))
    assert env.task.lifted_m(env.scene) < 0.01


def test_the_drawer_is_drawn_by_its_handle_alone(env: TabletopEnv) -> None:
    env.reset(seed=0, options={"instruction": "open the drawer"})
    drawn_m, loose_m, done = 0.0, 0.0, False
    while not done:
        before_m, touched = env.scene.drawer_m(), env.scene.is_handle_touched()
        done = env.step(Expert(env).action())[2]
        touched |= env.scene.is_handle_touched()
        if touched:
            drawn_m += env.scene.drawer_m() - before_m
        else:
            loose_m += abs(env.scene.drawer_m() - before_m)
    assert drawn_m > 0.09 and loose_m < 0.005


@pytest.mark.parametrize("task", [task for family in FAMILIES for task in tasks_of(family)], ids=str)
def test_experts_open_or_close_the_gripper_and_nothing_between(env: TabletopEnv, task) -> None:
    """CogACT's actions say no more of the gripper, so a policy cannot learn more from the expert."""
    env.reset(seed=3, options={"instruction": task.instruction})
    done = False
    while not done:
        action = Expert(env).action()
        assert action[6] in (0.0, 1.0)
        *_, terminated, truncated, _ = env.step(action)
        done = terminated or truncated
