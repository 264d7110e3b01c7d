# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The closed-loop question on SIMPLER, for evaluate.py, and the runs of a benchmark in one directory.

DIR/SCENARIO/METHOD/TASK/   a run: run.json, episodes.csv, summary.json
DIR/results.md              the tables, with the paper's rows
"""

from __future__ import annotations

import functools
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch

from sqap_vla.evaluation.closed_loop import RobotSettings
from sqap_vla.evaluation.environment import hardware
from sqap_vla.evaluation.evaluate import Evaluation, evaluate, read_episodes
from sqap_vla.evaluation.simpler_world import SETTINGS, SimplerWorld, robot_of
from sqap_vla.evaluation.tables import COLUMNS, DENSE, METHODS, Results, Variant, run_directory
from sqap_vla.evaluation.tables_report import by_task, report
from sqap_vla.runtime.engine import Engine
from sqap_vla.runtime.method import make_method
from sqap_vla.simpler.benchmark import SCENARIOS, TASKS, SimplerEpisode, episodes
from sqap_vla.simpler.local_server import ServerSource

GOOGLE_ROBOT = dict(zip(TASKS[:4], COLUMNS, strict=True))  # title by task
WIDOWX = dict(zip(TASKS[4:], ("Spoon on towel", "Carrot on plate", "Stack cube", "Eggplant in basket"), strict=True))
REPORT = "results.md"
_HEAD = """# Results in SIMPLER

Every method on the same episodes of SIMPLER's evaluation. A cell is the success rate in percent, then episodes done of
episodes run, and the 95 % Wilson interval. In the rows *paper* stand the published rates. "Against dense": episodes
that this method alone did, and that dense alone did, over all tasks, with McNemar's exact test; below 0.05 a difference
is called one. The simulator waits for the policy, so latency costs nothing here.

Last written by `{command}` on {hardware}.
"""


@dataclass(frozen=True)
class SimplerEvaluation(Evaluation):
    """A seed is the number of an episode (simpler/benchmark.py). episodes: None asks for all of them from `seed` on.

    Raises ValueError as Evaluation does, without a server, and for episodes that the benchmark does not have.
    """

    TASKS: ClassVar[tuple[str, ...]] = TASKS
    ASIDE: ClassVar[tuple[str, ...]] = (*Evaluation.ASIDE, "server", "tokenizer")

    task: str = TASKS[0]
    episodes: int | None = None
    server: ServerSource | None = None
    device: str = "cpu"
    tokenizer: str | None = None
    make_options: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        if self.server is None:
            raise ValueError("no server; give simpler_python or the socket of one that runs")
        object.__setattr__(self, "make_options", self.server.make_options)
        if self.task in TASKS and self.episodes is None:
            object.__setattr__(self, "episodes", max(len(self._all()) - self.seed, 1))
        super().__post_init__()
        if self.seeds.stop > len(self._all()):
            raise ValueError(
                f"episodes {self.seed} to {self.seeds.stop - 1} of {self.task}, {self.scenario}: "
                f"the benchmark has {len(self._all())} there, numbered from 0"
            )

    @staticmethod
    def has(task: str, scenario: str) -> bool:
        """Whether the benchmark has such episodes."""
        return bool(episodes(task, scenario))

    def _all(self) -> tuple[SimplerEpisode, ...]:
        return episodes(self.task, self.scenario)

    def facts(self) -> dict[str, Any]:
        return {"env": "simpler", **super().facts()}

    @property
    def settings(self) -> RobotSettings:
        return SETTINGS[robot_of(self.task)]

    def open_world(self) -> SimplerWorld:
        return SimplerWorld(
            self.server.connect(), self.task, self.scenario, self._all(), self.instruction, self.max_steps
        )

    def open_engine(self) -> Engine:
        if self.device == "cpu":
            torch.set_num_threads(1)  # as on the tabletop; only a small network runs there
        what = (self.checkpoint, self.method, tuple(self.options.items()), robot_of(self.task))
        return _open_engine(*what, self.cfg_scale, self.device, self.tokenizer)

    def in_order(self, seeds: Sequence[int]) -> list[int]:
        """Scene by scene, since making one takes longer than starting an episode in it."""
        chosen = {seed: (self._all()[seed].env, repr(self._all()[seed].build)) for seed in seeds}
        return sorted(chosen, key=chosen.__getitem__)


@functools.lru_cache(maxsize=1)  # the next task of the same robot needs the same, which may take minutes to load
def _open_engine(
    checkpoint: str, method: str, options: tuple, robot: str, cfg_scale: float, device: str, tokenizer: str | None
) -> Engine:
    made = make_method(method, **dict(options))
    return SETTINGS[robot].open_engine(checkpoint, made, tokenizer=tokenizer, device=device, cfg_scale=cfg_scale)


def run_simpler(
    questions: Sequence[SimplerEvaluation], out: Path, workers: int = 1
) -> tuple[Path, list[dict[str, Any]]]:
    """Runs what is missing of every question into `out`, and writes the tables of all that is there: after each run, so
    that a long evaluation can be watched. Returns the tables' file and the summaries. Raises as `evaluate`."""
    summaries = []
    for question in questions:
        variant = Variant("", question.method, question.options)
        dense = run_directory(out, question.scenario, DENSE, question.task)
        shared = {result.seed for result in read_episodes(dense)} & set(question.seeds)
        against = dense if shared and variant.key != DENSE.key else None
        directory = run_directory(out, question.scenario, variant, question.task)
        summaries.append(evaluate(question, directory, workers, against))
        write_report(out)
    return out / REPORT, summaries


def write_report(out: Path) -> None:
    google = Results(out, GOOGLE_ROBOT)
    text = report(google, shlex.join(["sqap-vla", *sys.argv[1:]]), hardware(), _HEAD)
    widowx = by_task(
        Results(out, WIDOWX), "5. WidowX, visual matching: not in the paper", METHODS, SCENARIOS[:1], paper=False
    )
    (out / REPORT).write_text(f"{text}\n{widowx}", encoding="utf-8")
