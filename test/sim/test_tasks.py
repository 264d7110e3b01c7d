# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Sentences and success: every sentence finds its task, and each test of success accepts and refuses as its
docstring says, on scenes that are set up by hand."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest

from sqap_vla.sim import FAMILIES, INSTRUCTIONS, TabletopEnv, parse_instruction, tasks_of
from sqap_vla.sim.scene import DRAWER_TRAVEL_M
from sqap_vla.sim.tasks import CLOSED_M, NEAR_M, OPEN_M, DrawerTask, MoveNearTask, PickTask, PlaceTask

HOLD = np.array([0, 0, 0, 0, 0, 0, 1.0])


def put(env: TabletopEnv, color: str, place_m: tuple[float, float, float]) -> None:
    """Sets a cube somewhere, and lets it come to rest."""
    joint = env.scene.data.joint(f"{color}_cube")
    joint.qpos[:] = (*place_m, 1.0, 0.0, 0.0, 0.0)
    joint.qvel[:] = 0.0
    mujoco.mj_forward(env.scene.model, env.scene.data)
    for _ in range(4):
        env.step(HOLD)


def open_drawer_to(env: TabletopEnv, opening_m: float) -> None:
    env.scene.data.joint("drawer").qpos[0] = opening_m
    mujoco.mj_forward(env.scene.model, env.scene.data)


def test_there_are_fourteen_sentences_and_each_finds_its_task() -> None:
    assert len(INSTRUCTIONS) == 14
    for family in FAMILIES:
        for task in tasks_of(family):
            assert parse_instruction(task.instruction) == task and task.family == family


@pytest.mark.parametrize(
    ("text", "task"),
    [
        ("  Pick up   the RED cube. ", PickTask("red")),
        ("Move the blue cube near the green cube", MoveNearTask("blue", "green")),
        ("OPEN THE DRAWER.", DrawerTask("open")),
        ("put the green cube in the drawer", PlaceTask("green")),
    ],
)
def test_case_space_and_full_stop_do_not_matter(text: str, task: object) -> None:
    assert parse_instruction(text) == task


@pytest.mark.parametrize("text", ["", "pick up the purple cube", "open", "put the red cube in the blue drawer"])
def test_an_unknown_sentence_is_answered_with_the_known_forms(text: str) -> None:
    with pytest.raises(ValueError, match="is not a task of the tabletop; it knows: pick up the red.*in the drawer"):
        parse_instruction(text)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PickTask("purple"), "no 'purple' cube on the table; it has: red, green, blue"),
        (lambda: MoveNearTask("red", "red"), "near itself"),
        (lambda: DrawerTask("paint"), "one of: open, close"),
    ],
)
def test_impossible_tasks_are_refused(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("family", FAMILIES)
def test_no_task_is_achieved_at_the_start(env: TabletopEnv, family: str) -> None:
    for seed in range(20):
        for task in tasks_of(family):
            env.reset(seed=seed, options={"instruction": task.instruction})
            assert not task.achieved(env.scene)


def test_near_is_measured_between_centres_on_the_table(env: TabletopEnv) -> None:
    env.reset(seed=3, options={"instruction": "move the red cube near the green cube"})
    x, y, _ = env.scene.base_T_cube("green")[:3, 3]
    put(env, "red", (x, y - NEAR_M - 0.005, 0.02))
    assert not env.task.achieved(env.scene)
    put(env, "red", (x, y - NEAR_M + 0.005, 0.02))
    assert env.task.achieved(env.scene)
    put(env, "red", (x, y, 0.06))  # on top of it
    assert not env.task.achieved(env.scene)


def test_bringing_the_goal_to_the_cube_is_no_success(env: TabletopEnv) -> None:
    env.reset(seed=3, options={"instruction": "move the red cube near the green cube"})
    x, y, _ = env.scene.base_T_cube("red")[:3, 3]
    put(env, "green", (x, y - 0.06, 0.02))
    assert env.task.is_placed(env.scene) and not env.task.achieved(env.scene)


def test_drawer_counts_once_far_enough_and_at_rest(env: TabletopEnv) -> None:
    env.reset(seed=0, options={"instruction": "open the drawer"})
    opened, closed = DrawerTask("open"), DrawerTask("close")
    for opening_m in (0.0, CLOSED_M + 0.005, OPEN_M - 0.005, OPEN_M + 0.005):
        open_drawer_to(env, opening_m)
        assert opened.achieved(env.scene) == (opening_m >= OPEN_M)
        assert closed.achieved(env.scene) == (opening_m <= CLOSED_M)
    env.scene.data.joint("drawer").qvel[0] = 0.1
    assert not opened.achieved(env.scene)


def test_drawer_starts_as_the_sentence_needs_it(env: TabletopEnv) -> None:
    openings_m = []
    for seed in range(20):
        env.reset(seed=seed, options={"instruction": "open the drawer"})
        assert env.scene.drawer_m() == 0.0
        env.reset(seed=seed, options={"instruction": "close the drawer"})
        openings_m.append(env.scene.drawer_m())
    assert OPEN_M <= min(openings_m) < 0.11 and 0.13 < max(openings_m) <= DRAWER_TRAVEL_M


def test_placed_means_inside_the_drawer_not_on_it_nor_before_it(env: TabletopEnv) -> None:
    env.reset(seed=0, options={"instruction": "put the blue cube in the drawer"})
    open_drawer_to(env, 0.13)
    x, y, _ = env.scene.drawer_position_m()
    put(env, "blue", (x, y - 0.03, 0.05))
    assert env.task.achieved(env.scene)
    put(env, "blue", (0.40, 0.40, 0.17))  # on the cabinet
    assert not env.task.achieved(env.scene)
    put(env, "blue", (0.40, 0.05, 0.02))  # on the table
    assert not env.task.achieved(env.scene)


def test_success_must_last(env: TabletopEnv) -> None:
    env.reset(seed=0, options={"instruction": "close the drawer"})
    open_drawer_to(env, 0.0)
    ended = [env.step(HOLD)[2] for _ in range(env.config.hold_steps)]
    assert env.config.hold_steps == 2 and ended == [False, True]
