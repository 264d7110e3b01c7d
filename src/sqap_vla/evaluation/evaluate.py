# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Success over many episodes, in several processes; what is done is on disk as soon as it is done.

    run.json       what was asked; a directory belongs to one question
    episodes.csv   a row per finished episode (columns: EpisodeResult)
    summary.json   success rate and its interval, means over the episodes; written at the end

Started again with the same question, it does the episodes that are missing. A seed is the same episode for every
method, so two runs can be compared episode by episode (`against`).
"""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from tqdm import tqdm

from sqap_vla.cogact.checkpoint import fingerprint
from sqap_vla.evaluation.closed_loop import EpisodeResult, PolicyDriver, RobotSettings, World, run_episode
from sqap_vla.evaluation.environment import hardware, versions
from sqap_vla.evaluation.significance import compare_paired, wilson_interval
from sqap_vla.evaluation.tabletop_world import TabletopWorld
from sqap_vla.quantization.artifact import is_artifact
from sqap_vla.quantization.lock import directory_lock
from sqap_vla.runtime.engine import Engine
from sqap_vla.runtime.method import make_method
from sqap_vla.sim import FAMILIES, SCENARIOS, EnvironmentConfig, TabletopEnv

COLUMNS = tuple(f.name for f in fields(EpisodeResult))


@dataclass(frozen=True)
class Evaluation:
    """The question, on the tabletop. episodes: of seeds `seed` and those after it. options: of the method, as
    `make_method` takes them. instruction: '' says the episode's own; any other sentence is said to the policy whatever
    the episode's task is. max_steps: of an episode; None: the task's own time limit. ros: through the nodes, and the
    simulator does not wait (nodes/ros_episodes.py).

    Raises ValueError for an unknown task, scenario, method or option, and for fewer than one episode.
    """

    TASKS: ClassVar[tuple[str, ...]] = FAMILIES
    ASIDE: ClassVar[tuple[str, ...]] = ("episodes", "seed")  # what two runs of one question may differ in

    checkpoint: str
    task: str = "pick"
    scenario: str = "visual_matching"
    method: str = "sqap"
    options: dict[str, Any] = field(default_factory=dict)
    episodes: int = 100
    seed: int = 0
    cfg_scale: float = 1.5
    instruction: str = ""
    max_steps: int | None = None
    ros: bool = False

    def __post_init__(self) -> None:
        for name, value, known in (("task", self.task, self.TASKS), ("scenario", self.scenario, SCENARIOS)):
            if value not in known:
                raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(known)}")
        if self.episodes < 1 or self.seed < 0:
            raise ValueError(f"{self.episodes} episodes from seed {self.seed}; give at least one, and a seed from 0")
        make_method(self.method, **self.options)

    @property
    def seeds(self) -> range:
        return range(self.seed, self.seed + self.episodes)

    def facts(self) -> dict[str, Any]:
        """What makes two runs the same question: everything but how many episodes, and the weights' content."""
        facts = asdict(self) | {"checkpoint": Path(self.checkpoint).name, "weights": _fingerprint(self.checkpoint)}
        return {key: value for key, value in facts.items() if key not in self.ASIDE and (key != "ros" or value)}

    @property
    def settings(self) -> RobotSettings:
        """Of the robot that the episodes are of."""
        return RobotSettings()

    def open_world(self) -> World:
        """The world that the episodes happen in; for one process."""
        env = TabletopEnv(EnvironmentConfig(observe_rgb=False, max_steps=self.max_steps))
        return TabletopWorld(env, {"family": self.task, "scenario": self.scenario}, self.instruction or None)

    def open_engine(self) -> Engine:
        torch.set_num_threads(1)  # the network is small; processes, not threads, share the work
        method = make_method(self.method, **self.options)
        return self.settings.open_engine(self.checkpoint, method, cfg_scale=self.cfg_scale)

    def in_order(self, seeds: Sequence[int]) -> list[int]:
        """The order to run them in."""
        return list(seeds)


def _fingerprint(checkpoint: str) -> str:
    if is_artifact(checkpoint):
        return (
            json.loads((Path(checkpoint) / "manifest.json").read_text(encoding="utf-8"))
            .get("source", {})
            .get("fingerprint", "")
        )
    return fingerprint(checkpoint)


Episodes = Callable[[Evaluation, Sequence[int], int], Iterator[EpisodeResult]]
"""How episodes are run: of a question, these seeds, by so many workers, in the order in which they end."""


def evaluate(
    question: Evaluation, out: Path, workers: int = 1, against: Path | None = None, run: Episodes | None = None
) -> dict[str, Any]:
    """Runs what is missing and returns the summary. workers: processes. run: how; None: in processes of this machine.

    Raises ValueError where another process writes to `out`, where it holds another question's episodes or `against`
    none that are shared, RuntimeError where a process dies (finished episodes stay).
    """
    out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        try:
            stack.enter_context(directory_lock(out, 0.0, lambda: None))
        except TimeoutError as error:
            raise ValueError(f"another process writes to {out}; wait for it, or give another directory") from error
        return _evaluate(question, out, workers, against, run or local_episodes)


def _evaluate(question: Evaluation, out: Path, workers: int, against: Path | None, run: Episodes) -> dict[str, Any]:
    _claim(out, question)
    _drop_torn_row(out / "episodes.csv")
    finished = {result.seed for result in read_episodes(out)}
    missing = question.in_order([seed for seed in question.seeds if seed not in finished])
    title = f"{question.method}, {question.task}"
    with open(out / "episodes.csv", "a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        if file.tell() == 0:
            writer.writeheader()
        for result in tqdm(run(question, missing, workers), title, len(missing), unit="episode", disable=None):
            writer.writerow(asdict(result))
            file.flush()
            os.fsync(file.fileno())
    summary = summarize(question, read_episodes(out), read_episodes(against) if against else None)
    partial = out / "summary.json.partial"
    partial.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    partial.replace(out / "summary.json")
    return summary


def _claim(out: Path, question: Evaluation) -> None:
    file, asked = out / "run.json", question.facts()
    if file.exists() and (before := json.loads(file.read_text(encoding="utf-8"))) != json.loads(json.dumps(asked)):
        differing = sorted(key for key in {*asked, *before} if before.get(key) != asked.get(key))
        raise ValueError(
            f"{out} holds episodes of another run (it differs in {', '.join(differing)}); give another directory"
        )
    file.write_text(json.dumps(asked, indent=1) + "\n", encoding="utf-8")


def read_episodes(directory: Path) -> list[EpisodeResult]:
    """The finished episodes of a run, by seed. A row that a crash cut short is left out."""
    file = directory / "episodes.csv"
    if not file.is_file():
        return []
    with open(file, newline="", encoding="utf-8") as lines:
        results = [_result(row) for row in csv.DictReader(line for line in lines if line.endswith("\n"))]
    return sorted({result.seed: result for result in results}.values(), key=lambda result: result.seed)


def _drop_torn_row(file: Path) -> None:
    """Cuts off what comes after the last end of a line, so that the next row does not continue it."""
    if file.is_file():
        content = file.read_bytes()
        file.write_bytes(content[: content.rfind(b"\n") + 1])


def _result(row: dict[str, str]) -> EpisodeResult:
    kinds = {"int": int, "float": float, "str": str, "bool": lambda text: text == "True"}
    return EpisodeResult(**{f.name: kinds[f.type](row[f.name]) for f in fields(EpisodeResult)})


def summarize(
    question: Evaluation, results: Sequence[EpisodeResult], against: Sequence[EpisodeResult] | None = None
) -> dict[str, Any]:
    """The content of summary.json. Means over successful episodes are None where there is none."""
    results = [result for result in results if result.seed in question.seeds]
    done = [result for result in results if result.success]
    latencies = [result.latency_ms for result in results]

    def mean(name: str) -> float | None:
        return float(np.mean([getattr(result, name) for result in done])) if done else None

    summary = {
        **asdict(question),
        "finished": len(results),
        "successes": len(done),
        "success_rate": len(done) / len(results) if results else None,
        "interval_95": list(wilson_interval(len(done), len(results))),
        "of_successes": {name: mean(name) for name in ("steps", "seconds", "path_m", "jerk_m_s3")},
        "latency_ms": {"mean": float(np.mean(latencies)), "p95": float(np.percentile(latencies, 95))}
        if results
        else None,
        "hardware": hardware(),
        "versions": versions(),
    }
    if against is not None:
        comparison = compare_paired(
            *({r.instruction + f"#{r.seed}": r.success for r in rows} for rows in (results, against))
        )
        summary["against"] = asdict(comparison)
    return summary


def local_episodes(question: Evaluation, seeds: Sequence[int], workers: int) -> Iterator[EpisodeResult]:
    """In this process, or in `workers` processes. Raises RuntimeError where one dies, and what an episode raises."""
    if workers <= 1 or len(seeds) <= 1:
        runner = EpisodeRunner(question)
        try:
            yield from map(runner.run, seeds)
        finally:
            runner.close()
        return
    context = multiprocessing.get_context("spawn")  # OpenGL and torch do not survive a fork
    with ProcessPoolExecutor(min(workers, len(seeds)), context) as pool:
        waiting = [pool.submit(_run_in_worker, question, seed) for seed in seeds]
        try:
            for future in as_completed(waiting):
                yield future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


class EpisodeRunner:
    """One process's world and model: the world first, which may be missing; the model may take minutes to load."""

    def __init__(self, question: Evaluation) -> None:
        self._world = question.open_world()
        try:
            self._driver = PolicyDriver(question.open_engine(), question.settings)
        except BaseException:
            self._world.close()
            raise

    def run(self, seed: int) -> EpisodeResult:
        return run_episode(self._world, self._driver, seed)

    def close(self) -> None:
        self._world.close()


_runner: EpisodeRunner | None = None  # of a worker process


def _run_in_worker(question: Evaluation, seed: int) -> EpisodeResult:
    global _runner
    if _runner is None:  # here and not when the process starts, so that what goes wrong is told as it is
        _runner = EpisodeRunner(question)
    return _runner.run(seed)
