# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Episodes on Ray: each once, on as many actors as asked for, the same as in this process; what is finished stays."""

from __future__ import annotations

import builtins
import importlib.util
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sqap_vla.evaluation import ray_workers
from sqap_vla.evaluation.evaluate import Evaluation, evaluate, read_episodes
from sqap_vla.evaluation.ray_workers import ray_episodes
from sqap_vla.training.shipped import SHIPPED_POLICY

QUESTION = Evaluation(str(SHIPPED_POLICY), task="drawer", method="dense", episodes=4, max_steps=3)


class Died(Exception):
    pass


class StandIn:
    """Ray as far as it is used here: actors do their work when they are waited for, the newest first."""

    def __init__(self, dies_at: int | None = None) -> None:
        self.actors: list[list[int]] = []  # seeds that each was given
        self.options: dict[str, Any] = {}
        self.down = False
        self.exceptions = SimpleNamespace(RayActorError=Died)
        self._dies_at = dies_at

    def init(self, address: str | None, **options: Any) -> None:
        self.options = options | {"address": address}

    def shutdown(self) -> None:
        self.down = True

    def remote(self, **options: Any) -> Any:
        def make(question: Evaluation) -> SimpleNamespace:
            self.actors.append(seeds := [])
            return SimpleNamespace(run=SimpleNamespace(remote=lambda seed: seeds.append(seed) or (id(seeds), seed)))

        return lambda runner: SimpleNamespace(remote=make)

    def wait(self, running: list[tuple[int, int]]) -> tuple[list, list]:
        return [running[-1]], running[:-1]

    def get(self, done: tuple[int, int]) -> int:
        if done[1] == self._dies_at:
            raise Died("worker")
        return done[1]


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch):
    def put(stand_in: StandIn | None) -> None:
        real = builtins.__import__

        def imported(name: str, *args: Any, **options: Any) -> Any:
            if name != "ray":
                return real(name, *args, **options)
            if stand_in is None:
                raise ImportError(name)
            return stand_in

        monkeypatch.delenv("RAY_ADDRESS", raising=False)
        monkeypatch.setattr(builtins, "__import__", imported)

    return put


def test_every_seed_is_run_once_by_no_more_actors_than_asked_for(use):
    ray = StandIn()
    use(ray)
    assert sorted(ray_episodes(QUESTION, range(10, 17), workers=3)) == list(range(10, 17))
    assert len(ray.actors) == 3 and sorted(seed for seeds in ray.actors for seed in seeds) == list(range(10, 17))
    assert ray.down and ray.options["address"] is None and ray.options["num_cpus"] == 3


def test_no_actor_is_started_for_nothing(use):
    ray = StandIn()
    use(ray)
    assert list(ray_episodes(QUESTION, [5], workers=3)) == [5] and len(ray.actors) == 1
    assert list(ray_episodes(QUESTION, [], workers=3)) == []


def test_a_cluster_that_is_named_is_used_as_it_is(use, monkeypatch: pytest.MonkeyPatch):
    ray = StandIn()
    use(ray)
    monkeypatch.setenv("RAY_ADDRESS", "ray://robots:10001")
    assert list(ray_episodes(QUESTION, [1], workers=2)) == [1]
    assert ray.options["address"] == "ray://robots:10001" and "num_cpus" not in ray.options


def test_a_worker_that_dies_is_told_and_the_others_finish_what_they_are_at(use):
    ray = StandIn(dies_at=2)
    use(ray)
    finished = []
    with pytest.raises(RuntimeError, match="finished episodes stay, start again"):
        for seed in ray_episodes(QUESTION, range(6), workers=3):
            finished.append(seed)
    given = sorted(seed for seeds in ray.actors for seed in seeds)
    assert sorted(finished) == [seed for seed in given if seed != 2] and len(given) < 6
    assert ray.down


def test_without_ray_the_error_says_what_to_install(use):
    use(None)
    with pytest.raises(RuntimeError, match=r"pip install 'sqap_vla\[ray\]'"):
        list(ray_episodes(QUESTION, [0], workers=2))


def test_what_another_way_of_running_finished_before_it_died_is_not_run_again(tmp_path: Path):
    asked: list[list[int]] = []

    def dies(question: Evaluation, seeds: list[int], workers: int) -> Iterator:
        asked.append(list(seeds))
        local = ray_workers.EpisodeRunner(question)
        yield local.run(seeds[0])
        local.close()
        raise RuntimeError("a worker has died")

    for _ in range(2):
        with pytest.raises(RuntimeError, match="a worker has died"):
            evaluate(QUESTION, tmp_path, run=dies)
    assert asked == [[0, 1, 2, 3], [1, 2, 3]]
    assert [result.seed for result in read_episodes(tmp_path)] == [0, 1]


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed: pip install 'sqap_vla[ray]'")
def test_two_workers_of_a_local_ray_give_the_episodes_of_this_process(tmp_path: Path):
    evaluate(QUESTION, tmp_path / "ray", workers=2, run=ray_episodes)
    evaluate(QUESTION, tmp_path / "here")
    here, there = (read_episodes(tmp_path / name) for name in ("here", "ray"))
    same = {"latency_ms": 0.0, "wall_s": 0.0}
    assert [replace(result, **same) for result in there] == [replace(result, **same) for result in here]
