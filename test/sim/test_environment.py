# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The gymnasium contract:

checker, determinism, motion by exactly what was asked, time limit, errors that name the remedy.
"""

from __future__ import annotations

import re
import threading
import warnings

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from sqap_vla.sim import FAMILIES, EnvironmentConfig, Expert, RenderingError, TabletopEnv
from sqap_vla.sim.scene import CUBE_COLORS
from sqap_vla.sim.tasks import PickTask
from sqap_vla.sim.transforms import rotation_from_rpy

OPEN = 1.0


def hold(gripper_open: float = OPEN) -> np.ndarray:
    return np.array([0, 0, 0, 0, 0, 0, gripper_open], dtype=np.float32)


def test_passes_the_gymnasium_checker() -> None:
    env = TabletopEnv(render_mode="rgb_array")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings(
            "ignore",
            message=".*(symmetric and normalized|environment registry|alternative render modes).*",
        )
        warnings.filterwarnings("ignore", message=".*Box observation space.*infinity.*")
        check_env(env)
    env.close()


def test_same_seed_same_episode_also_in_another_process_order() -> None:
    first, second = TabletopEnv(), TabletopEnv()
    second.reset(seed=9)
    second.step(hold(0.0))
    for seed in (3, 4):
        a, info_a = first.reset(seed=seed)
        b, info_b = second.reset(seed=seed)
        assert info_a == info_b
        for action in (hold(), np.array([0.03, -0.02, -0.04, 0.1, 0, 0.2, 0.0], dtype=np.float32)):
            assert all(np.array_equal(a[key], b[key]) for key in a)
            a, b = first.step(action)[0], second.step(action)[0]
        assert all(np.array_equal(a[key], b[key]) for key in a)
    first.close()
    second.close()


def test_a_given_instruction_moves_no_cube(env: TabletopEnv) -> None:
    poses = []
    for options in (None, {"instruction": "pick up the red cube"}, {"instruction": "Pick up the blue cube."}):
        _, info = env.reset(seed=5, options=options)
        poses.append(env.scene.data.qpos.copy())
    assert info["instruction"] == "pick up the blue cube"
    assert all(np.array_equal(pose, poses[0]) for pose in poses)


def test_an_episode_without_a_seed_can_be_repeated_by_the_one_it_reports(env: TabletopEnv) -> None:
    env.reset(seed=1)
    _, info = env.reset()
    pose = env.scene.data.qpos.copy()
    _, again = env.reset(seed=info["seed"])
    assert again == info and np.array_equal(env.scene.data.qpos, pose)


@pytest.mark.parametrize("axis", range(6))
def test_one_step_moves_the_end_effector_by_what_was_asked(env: TabletopEnv, axis: int) -> None:
    obs, _ = env.reset(seed=0)
    before = obs["base_T_ee"]
    action = hold()
    action[axis] = 0.03 if axis < 3 else 0.15
    obs, *_ = env.step(action)
    obs, *_ = env.step(hold())
    expected_rotation = (
        rotation_from_rpy(action[3:6].astype(float)) @ before[:3, :3]
    )  # about the origin, along base axes
    assert np.allclose(obs["base_T_ee"][:3, 3] - before[:3, 3], action[:3], atol=1e-3)  # 1 mm
    assert np.allclose(obs["base_T_ee"][:3, :3], expected_rotation, atol=5e-3)


def test_a_constant_velocity_is_reached_within_the_step(env: TabletopEnv) -> None:
    obs, _ = env.reset(seed=0)
    action = hold()
    action[0] = 0.03
    for _ in range(3):
        before = obs["base_T_ee"][0, 3]
        obs, *_ = env.step(action)
        assert abs(obs["base_T_ee"][0, 3] - before - 0.03) < 3e-3


def test_holding_still_does_not_drift(env: TabletopEnv) -> None:
    first, _ = env.reset(seed=1)
    for _ in range(25):
        last, *_ = env.step(hold())
    assert np.abs(last["base_T_ee"] - first["base_T_ee"]).max() < 1e-3


def test_pushing_against_the_workspace_does_not_wind_up(env: TabletopEnv) -> None:
    env.reset(seed=1)
    down, up = hold(), hold()
    down[2], up[2] = -0.05, 0.05
    for _ in range(10):
        obs, *_ = env.step(down)
    low = obs["base_T_ee"][2, 3]
    obs, *_ = env.step(up)
    assert low > 0.0 and obs["base_T_ee"][2, 3] > low + 0.04


def test_joint_positions_are_those_of_the_arm_shown(env: TabletopEnv) -> None:
    obs, _ = env.reset(seed=2)
    env.step(np.array([0.05, -0.05, 0.02, 0.1, -0.1, 0.2, 0.5], dtype=np.float32))
    obs, *_ = env.step(hold(0.5))
    assert np.array_equal(obs["joint_positions"][:6], env.scene.data.qpos[env.scene.arm_qpos])
    assert abs(obs["gripper_open"] - 0.5) < 0.03


def test_time_limit_truncates() -> None:
    env = TabletopEnv(EnvironmentConfig(max_steps=3, observe_rgb=False))
    env.reset(seed=0)
    assert [env.step(hold())[3] for _ in range(3)] == [False, False, True]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_task_has_its_own_time_limit(env: TabletopEnv, family: str) -> None:
    env.reset(seed=0, options={"family": family})
    assert env.max_steps == round(env.task.time_limit_s / env.config.control.step_s)


def test_instruction_can_change_within_an_episode(env: TabletopEnv) -> None:
    env.reset(seed=0, options={"instruction": "pick up the red cube"})
    env.set_instruction("pick up the green cube")
    *_, info = env.step(hold())
    assert info["instruction"] == "pick up the green cube"


def test_cubes_start_apart_on_the_table(env: TabletopEnv) -> None:
    for seed in range(50):
        env.reset(seed=seed)
        centres = np.array([env.scene.base_T_cube(color)[:3, 3] for color in CUBE_COLORS])
        distances = np.linalg.norm(centres[:, None] - centres[None], axis=-1)[np.triu_indices(3, 1)]
        assert distances.min() >= env.config.cubes.min_distance_m and np.allclose(centres[:, 2], 0.02)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"instruction": "sing a song"}, "it knows: pick up the red|green|blue cube, move the"),
        ({"instruction": "move the red cube near the red cube"}, "is not a task"),
        ({"colour": "red"}, "it may have scenario, family, instruction"),
        ({"family": "stack"}, "must be one of pick, move_near, drawer, place"),
        ({"scenario": "moon"}, "must be one of visual_matching, variant_aggregation"),
        ({"family": "drawer", "instruction": "pick up the red cube"}, "is of family 'pick', not 'drawer'"),
    ],
)
def test_bad_options_are_refused(env: TabletopEnv, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        env.reset(seed=0, options=options)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"max_steps": 0}, "max_steps is 0"),
        ({"hold_s": -1.0}, "hold_s is -1.0"),
        ({"scenario": "moon"}, "scenario is 'moon'"),
        ({"family": "stack"}, "family is 'stack'"),
        ({"factors": ("smell",)}, "factors has ['smell']"),
    ],
)
def test_bad_configurations_are_refused(values: dict, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        EnvironmentConfig(**values)


@pytest.mark.parametrize("action", [np.zeros(6), np.full(7, np.nan), np.zeros((1, 7))])
def test_bad_actions_are_refused(env: TabletopEnv, action: np.ndarray) -> None:
    env.reset(seed=0)
    with pytest.raises(ValueError, match="seven finite numbers"):
        env.step(action)


def test_rendering_from_another_thread_is_refused(env: TabletopEnv) -> None:
    env.reset(seed=0)
    env.camera_image()
    caught: list[BaseException] = []

    def render() -> None:
        try:
            env.camera_image()
        except RenderingError as error:
            caught.append(error)

    thread = threading.Thread(target=render)
    thread.start()
    thread.join()
    assert len(caught) == 1 and "one thread" in str(caught[0])


def test_success_needs_the_named_cube(env: TabletopEnv) -> None:
    env.reset(seed=0, options={"instruction": "pick up the red cube"})
    expert = Expert(env)
    for _ in range(env.max_steps):
        *_, terminated, _, info = env.step(expert.action())
        if terminated:
            break
    assert info["success"] and not PickTask("green").achieved(env.scene)
