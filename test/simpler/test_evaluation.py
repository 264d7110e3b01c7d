# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Evaluation in SIMPLER, with the package that stands in for it in a process of its own.

Pinned: chunks that lead to the goal are carried out on both robots, grippers included; success counts at the end; every
scene of the benchmark can be made; a server that dies costs no finished episode; what is missing is said in one line;
the tables put the paper's rows beside what was run.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from server_process import write_interpreter

from sqap_vla.cli import main
from sqap_vla.cogact.random_checkpoint import write_random_checkpoint
from sqap_vla.evaluation.closed_loop import PolicyDriver, run_episode
from sqap_vla.evaluation.evaluate import evaluate, read_episodes
from sqap_vla.evaluation.simpler_evaluation import SimplerEvaluation
from sqap_vla.evaluation.simpler_world import SETTINGS, SimplerWorld, robot_of
from sqap_vla.pruning.projection import project
from sqap_vla.pruning.ring import ring_from_geometry
from sqap_vla.pruning.selection import keep_all
from sqap_vla.runtime.types import ActionChunk, Observation, StageTimes
from sqap_vla.simpler.benchmark import SCENARIOS, TASKS, episodes
from sqap_vla.simpler.client import SimplerError
from sqap_vla.simpler.local_server import ServerSource

CONFIG = Path(__file__).parents[2] / "config"
GOOGLE, PLACE, WIDOWX = TASKS[0], TASKS[3], TASKS[4]
MATCHING, AGGREGATION = SCENARIOS


@pytest.fixture(scope="module")
def interpreter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_interpreter(tmp_path_factory.mktemp("simpler"))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture
def question(checkpoint: Path, interpreter: Path) -> SimplerEvaluation:
    server = ServerSource(str(interpreter))
    return SimplerEvaluation(str(checkpoint), WIDOWX, method="dense", episodes=2, max_steps=2, server=server)


class ScriptedEngine:
    """An engine whose chunks lead the tool to the goal (see the stand-in), and then close the gripper; and open it
    again `after` that many further inferences."""

    def __init__(self, step_s: float, open_again_after: int | None = None) -> None:
        self._step_s, self._open_again_after = step_s, open_again_after
        self.heard: list[str] = []
        self.seen: list[Observation] = []

    def reset(self) -> None:
        self._start_m: np.ndarray | None = None
        self._closed = 0

    def infer(self, observation: Observation) -> ActionChunk:
        self.heard.append(observation.instruction)
        self.seen.append(observation)
        here_m = observation.base_T_ee[:3, 3]
        self._start_m = here_m if self._start_m is None else self._start_m
        delta = self._start_m + np.array([0.05, 0.0, -0.05]) - here_m
        self._closed += np.linalg.norm(delta) < 0.001
        again = self._open_again_after is not None and self._closed > self._open_again_after
        actions = np.zeros((16, 7))
        actions[0, :3] = np.clip(delta, -0.02, 0.02)
        actions[:, 6] = float(not self._closed or again)
        return ActionChunk(
            actions=actions,
            step_s=self._step_s,
            stamp_ns=observation.stamp_ns,
            selection=keep_all(256, "cpu"),
            ring=ring_from_geometry(observation.camera, observation.camera_T_ee, np.zeros((1, 3)), 2, 154),
            times=StageTimes(1.0, 2.0, 3.0, 4.0, 10.0),
            base_T_ee=observation.base_T_ee,
        )


@pytest.fixture(scope="module", params=[GOOGLE, WIDOWX])
def world(request: pytest.FixtureRequest, interpreter: Path) -> Iterator[SimplerWorld]:
    task = request.param
    world = SimplerWorld(ServerSource(str(interpreter)).connect(), task, MATCHING, episodes(task, MATCHING))
    yield world
    world.close()


def driver_for(world: SimplerWorld, open_again_after: int | None = None) -> PolicyDriver:
    # One chunk at a time: what is scripted here is no forecast that an ensemble could average.
    settings = replace(SETTINGS[robot_of(world.outcome().family)], ensemble_horizon=1)
    return PolicyDriver(ScriptedEngine(settings.step_s, open_again_after), settings)


def test_chunks_that_lead_to_the_goal_are_carried_out_grippers_included(world: SimplerWorld) -> None:
    world.reset(3)
    driver = driver_for(world)
    result = run_episode(world, driver, 3)
    google = result.family == GOOGLE
    assert result.success and len(driver.latencies_ms) == (80 if google else 60), "it runs to its last step"
    assert result.steps < 10 and result.seconds == pytest.approx(result.steps / (3 if google else 5))
    assert result.varied == episodes(result.family, MATCHING)[3].variant
    assert result.path_m == pytest.approx(0.05 * 2**0.5, abs=1e-4), "within one step, and no further"


def test_what_holds_at_the_end_counts(world: SimplerWorld) -> None:
    world.reset(0)
    result = run_episode(world, driver_for(world, open_again_after=20), 0)
    assert not result.success and result.steps in (60, 80)


def test_the_policy_sees_the_picture_with_its_geometry(world: SimplerWorld) -> None:
    world.reset(1)
    observation = world.observe(5)
    ((u, v),) = project(observation.camera, observation.camera_T_ee[None, :3, 3])
    rows, columns = np.nonzero((observation.rgb == (255, 0, 0)).all(2))
    assert abs(columns.mean() - u) < 1.0 and abs(rows.mean() - v) < 1.0


def test_the_second_part_of_a_task_begins_anew(interpreter: Path) -> None:
    world = SimplerWorld(ServerSource(str(interpreter)).connect(), PLACE, MATCHING, episodes(PLACE, MATCHING))
    try:
        world.reset(0)
        driver = driver_for(world)
        result = run_episode(world, driver, 0)
    finally:
        world.close()
    heard = driver.engine.heard
    assert result.instruction == "open top drawer; place apple into top drawer"
    assert (heard.index("place apple into top drawer"), len(heard)) == (101, 200)


def test_every_scene_of_the_benchmark_can_be_made(interpreter: Path) -> None:
    connection = ServerSource(str(interpreter)).connect()
    try:
        for task in TASKS:
            for scenario in SCENARIOS:
                scenes = {repr((e.env, e.build)): e for e in episodes(task, scenario)}
                for number, episode in enumerate(scenes.values()):
                    told = connection.client.open(episode.env, episode.build)
                    assert told.robot == robot_of(task)
                    state = connection.client.reset(number, episode.options)
                    assert state.instruction
    finally:
        connection.close()


def test_settings_are_those_of_the_robots_presets() -> None:
    for robot, settings in SETTINGS.items():
        node = yaml.safe_load((CONFIG / f"{robot}.yaml").read_text())["/**/policy"]["ros__parameters"]
        for name in ("unnorm_key", "ensemble_horizon", "gripper"):
            assert getattr(settings, name) == node[name]
        assert settings.step_s == pytest.approx(node["step_s"])
        assert settings.limits().max_linear_m_s > np.sqrt(3) / settings.step_s, "a whole action is no command too fast"


def test_a_server_that_dies_costs_no_finished_episode(
    question: SimplerEvaluation, interpreter: Path, tmp_path: Path
) -> None:
    dying = ServerSource(str(write_interpreter(tmp_path / "dying", STAND_IN_DIES_AFTER="5")))
    out = tmp_path / "out"
    with pytest.raises(RuntimeError, match="server ended with status 3"):
        evaluate(replace(question, episodes=4, server=dying), out)
    assert len(read_episodes(out)) == 2
    summary = evaluate(replace(question, episodes=4), out, workers=2)
    assert summary["finished"] == 4 and [result.seed for result in read_episodes(out)] == [0, 1, 2, 3]


def test_an_episode_is_the_same_whoever_runs_it(question: SimplerEvaluation, tmp_path: Path) -> None:
    evaluate(question, tmp_path / "one")
    evaluate(replace(question, episodes=4), tmp_path / "four")
    runs = [read_episodes(tmp_path / name)[:2] for name in ("one", "four")]
    one, four = ([replace(result, wall_s=0.0, latency_ms=0.0) for result in run] for run in runs)
    assert one == four


@pytest.mark.parametrize("workers", [1, 2])
def test_an_interpreter_that_is_none_is_said_before_anything_else(
    question: SimplerEvaluation, tmp_path: Path, workers: int
) -> None:
    nowhere = replace(question, server=ServerSource("/nowhere/python"))
    with pytest.raises(SimplerError, match="'/nowhere/python' cannot be run .* give the Python interpreter"):
        evaluate(nowhere, tmp_path, workers)


def test_an_interpreter_without_simpler_says_what_to_install(question: SimplerEvaluation, tmp_path: Path) -> None:
    with pytest.raises(SimplerError, match="ended with status 1:\n.*install SimplerEnv for"):
        evaluate(replace(question, server=ServerSource(sys.executable)), tmp_path)


def test_a_photograph_outside_of_the_assets_is_refused(interpreter: Path) -> None:
    connection = ServerSource(str(interpreter)).connect()
    try:
        episode = episodes(WIDOWX, MATCHING)[0]
        with pytest.raises(SimplerError, match="is no file below SIMPLER's assets"):
            connection.client.open(episode.env, episode.build | {"rgb_overlay_path": "../python"})
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"task": "dance"}, "task is 'dance'"),
        ({"scenario": AGGREGATION}, "the benchmark has 0 there"),
        ({"episodes": 25}, "the benchmark has 24 there"),
        ({"server": None}, "no server"),
    ],
)
def test_questions_that_cannot_be_asked(question: SimplerEvaluation, wrong: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(question, **wrong)


# The command


def command(checkpoint: Path, out: Path, *further: str) -> list[str]:
    limits = ("--episodes", "2", "--max-steps", "1")
    return ["evaluate", "--env", "simpler", "--checkpoint", str(checkpoint), "--out", str(out), *limits, *further]


def test_the_command_runs_every_task_and_writes_the_tables(
    checkpoint: Path, interpreter: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    python = ("--simpler-python", str(interpreter))
    tasks = ("--task", GOOGLE, WIDOWX)
    assert main(command(checkpoint, tmp_path, *python, *tasks, "--method", "dense")) == 0
    assert main(command(checkpoint, tmp_path, *python, "--method", "sqap")) == 0
    said = capsys.readouterr().out
    assert f"0 of 2 episodes of {TASKS[7]} (visual_matching), sqap: 0.0 %" in said
    assert f"0 of 2 episodes of {TASKS[1]} (variant_aggregation), sqap" in said
    text = (tmp_path / "results.md").read_text()
    assert text in said
    assert "| SQAP W4A4 | 0 (0/2, 0-66) | 0 (0/2, 0-66) | 0 (0/2, 0-66) | 0 (0/2, 0-66) | 0.0 | +0 -0 of 2" in text
    assert "| *paper* | 94.7 | 85.5 | 72.2 | 64.8 | 79.3 |" in text
    assert "| dense | 0 (0/2, 0-66) | - | - | - | - | - |" in text.partition("## 5. WidowX")[2]
    summary = json.loads((tmp_path / MATCHING / "sqap" / GOOGLE / "summary.json").read_text())
    assert summary["against"]["episodes"] == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give either the Python interpreter"),
        (("--simpler-python", "/nowhere/python"), "cannot be run"),
        (("--socket", "/nowhere/socket", "--workers", "2"), "a server has one client"),
        (("--simpler-python", "python", "--against", "x"), "--against is for the tabletop"),
    ],
)
def test_the_command_says_what_is_missing_in_one_line(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture, arguments: tuple, message: str
) -> None:
    assert main(command(checkpoint, tmp_path, *arguments)) == 1
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("sqap-vla evaluate: ") and message in said


def test_without_a_checkpoint_it_says_that_there_is_none(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["evaluate", "--env", "simpler", "--simpler-python", "python", "--out", str(tmp_path)]) == 1
    assert "no policy for SIMPLER's robots comes with the package" in capsys.readouterr().err
