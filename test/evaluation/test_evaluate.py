# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Evaluation keeps every finished episode, goes on where it stopped, and does not mix two questions."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from sqap_vla.cli import main
from sqap_vla.cogact.random_checkpoint import write_random_checkpoint
from sqap_vla.evaluation import evaluate as evaluation
from sqap_vla.evaluation.closed_loop import EpisodeResult
from sqap_vla.evaluation.evaluate import COLUMNS, Evaluation, evaluate, read_episodes, summarize
from sqap_vla.quantization.lock import directory_lock


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture
def question(checkpoint: Path) -> Evaluation:
    return Evaluation(str(checkpoint), method="dense", episodes=2, seed=3, max_steps=4)


def episode(seed: int, success: bool = True) -> EpisodeResult:
    return EpisodeResult(
        seed, "pick", "pick up the red cube", "visual_matching", "", success, 10, 2.0, 0.5, 1.0, 20.0, 3.0
    )


def test_every_episode_is_a_row_and_the_same_again(question: Evaluation, tmp_path: Path) -> None:
    summary = evaluate(question, tmp_path / "one")
    assert summary["finished"] == 2 and summary["successes"] == 0 and summary["interval_95"][0] == 0.0
    assert json.loads((tmp_path / "one" / "summary.json").read_text())["success_rate"] == summary["success_rate"]
    with open(tmp_path / "one" / "episodes.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["seed"] for row in rows] == ["3", "4"] and tuple(rows[0]) == COLUMNS and rows[0]["steps"] == "4"

    evaluate(question, tmp_path / "two", workers=2)
    same = [[replace(r, wall_s=0.0, latency_ms=0.0) for r in read_episodes(tmp_path / name)] for name in ("one", "two")]
    assert same[0] == same[1]


def test_a_second_start_does_what_is_missing_only(question: Evaluation, tmp_path: Path, monkeypatch) -> None:
    evaluate(replace(question, episodes=1), tmp_path)
    file = tmp_path / "episodes.csv"
    file.write_text(file.read_text() + "4,pick,pick up the r")  # a crash in the middle of a row
    done = []
    monkeypatch.setattr(evaluation, "EpisodeRunner", lambda question: FakeRunner(done))
    summary = evaluate(replace(question, episodes=3), tmp_path)
    assert done == [4, 5] and summary["finished"] == 3


class FakeRunner:
    def __init__(self, done: list[int], fails_at: int | None = None) -> None:
        self._done, self._fails_at = done, fails_at

    def run(self, seed: int) -> EpisodeResult:
        if seed == self._fails_at:
            raise RuntimeError("the simulator went away")
        self._done.append(seed)
        return episode(seed)

    def close(self) -> None:
        pass


def test_what_was_finished_before_a_failure_stays(question: Evaluation, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(evaluation, "EpisodeRunner", lambda question: FakeRunner([], fails_at=5))
    with pytest.raises(RuntimeError, match="went away"):
        evaluate(replace(question, episodes=4), tmp_path)
    assert [result.seed for result in read_episodes(tmp_path)] == [3, 4]


def test_another_question_needs_another_directory(question: Evaluation, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(evaluation, "EpisodeRunner", lambda question: FakeRunner([]))
    evaluate(question, tmp_path)
    with pytest.raises(ValueError, match="differs in method"):
        evaluate(replace(question, method="sqap"), tmp_path)


def test_two_processes_do_not_write_to_one_directory(question: Evaluation, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(evaluation, "EpisodeRunner", lambda question: FakeRunner([]))
    with (
        directory_lock(tmp_path, 0.0, lambda: None),
        pytest.raises(ValueError, match="another process writes to .*; wait for it"),
    ):
        evaluate(question, tmp_path)
    assert evaluate(question, tmp_path)["finished"] == 2


def test_methods_are_compared_episode_by_episode(question: Evaluation) -> None:
    better = [episode(seed) for seed in range(3, 11)]
    worse = [episode(seed, success=seed == 3) for seed in range(3, 11)]
    summary = summarize(replace(question, episodes=8), better, worse)
    assert summary["against"]["only_first"] == 7 and summary["against"]["p_value"] < 0.05
    assert summary["success_rate"] == 1.0 and summary["of_successes"]["seconds"] == 2.0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"task": "dance"}, "task is 'dance'"),
        ({"scenario": "dark"}, "scenario is 'dark'"),
        ({"method": "magic"}, "method 'magic'"),
        ({"episodes": 0}, "0 episodes"),
        ({"options": {"ratio": 2.0}}, "ratio is 2.0"),
    ],
)
def test_questions_that_cannot_be_asked(checkpoint: Path, wrong: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Evaluation(**{"checkpoint": str(checkpoint)} | wrong)


def test_the_command_says_rate_and_interval(checkpoint: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(evaluation, "EpisodeRunner", lambda question: FakeRunner([]))
    arguments = [
        "evaluate",
        "--checkpoint",
        str(checkpoint),
        "--method",
        "sqap",
        "--episodes",
        "10",
        "--set",
        "ratio=0.5",
    ]
    assert main([*arguments, "--out", str(tmp_path / "a")]) == 0
    assert "10 of 10 episodes of pick" in (said := capsys.readouterr().out) and "72.2 to 100.0 %" in said
    assert json.loads((tmp_path / "a" / "run.json").read_text())["options"] == {"ratio": 0.5}
    assert main([*arguments, "--out", str(tmp_path / "a"), "--set", "prune_layer=2"]) == 1
    assert "differs in options" in capsys.readouterr().err


def test_rows_hold_every_field(tmp_path: Path) -> None:
    with open(tmp_path / "episodes.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerow(asdict(episode(1)))
    assert read_episodes(tmp_path) == [episode(1)]
