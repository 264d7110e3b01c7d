# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The paper's four tables on a benchmark, and a fifth on a policy with outliers: which runs they need, doing what is
missing of them.

A run is evaluate.py's: one task, scenario and method. Runs that several tables share are done once. A difference to
dense is called one only where McNemar's exact test, over all tasks together, says p < 0.05.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from sqap_vla.evaluation.closed_loop import EpisodeResult
from sqap_vla.evaluation.evaluate import Evaluation, evaluate, read_episodes
from sqap_vla.evaluation.outlier_twin import write_outlier_twin
from sqap_vla.evaluation.significance import PairedComparison, compare_paired, wilson_interval
from sqap_vla.sim import FAMILIES, SCENARIOS

COLUMNS = ("Pick", "Move near", "Open/close drawer", "Place in drawer")  # of the paper
TABLETOP = dict(zip(FAMILIES, COLUMNS, strict=True))  # title by task
LEVEL = 0.05


@dataclass(frozen=True)
class Variant:
    """A row or column: a method with options, and the paper's success rates in percent, by scenario: four tasks and
    their average, or the average alone."""

    title: str
    method: str
    options: dict[str, Any] = field(default_factory=dict)
    paper: dict[str, tuple[float, ...]] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Directory of its runs."""
        values = [f"{name}={value}" for name, value in sorted(self.options.items())]
        return "-".join([self.method, *values])


def _paper(matching: tuple[float, ...], aggregation: tuple[float, ...]) -> dict[str, tuple[float, ...]]:
    return dict(zip(SCENARIOS, (matching, aggregation), strict=True))


DENSE = Variant("dense", "dense", {}, _paper((91.3, 85.0, 71.8, 50.9, 74.8), (89.6, 80.8, 28.3, 46.6, 61.3)))
SQAP = Variant("SQAP W4A4", "sqap", {}, _paper((94.7, 85.5, 72.2, 64.8, 79.3), (92.8, 80.6, 27.2, 57.0, 64.4)))
W4A4 = Variant(
    "+ W4A4", "dense", {"precision": "w4a4"}, _paper((93.3, 83.9, 69.2, 40.7, 71.8), (87.5, 75.6, 26.7, 42.9, 58.2))
)
METHODS = (
    DENSE,
    Variant("random", "random", {}, _paper((9.7, 20.4, 53.5, 0.0, 20.9), (4.0, 16.1, 15.6, 0.0, 8.9))),
    Variant("FastV", "fastv", {}, _paper((92.6, 81.4, 69.8, 52.4, 74.1), (91.4, 78.6, 27.6, 50.6, 62.1))),
    Variant("VLA-Cache", "vla_cache", {}, _paper((92.0, 83.3, 70.5, 51.6, 74.4), (91.7, 79.3, 32.5, 45.8, 62.3))),
    Variant("EfficientVLA", "efficientvla", {}, _paper((95.3, 83.3, 70.3, 56.5, 76.4), (94.8, 77.6, 28.4, 51.9, 63.2))),
    SQAP,
)
RATIOS = (
    replace(W4A4, title="none"),
    Variant("0.3", "sqap", {"ratio": 0.3}, _paper((76.6,), (61.4,))),
    replace(SQAP, title="0.4"),
    Variant("0.5", "sqap", {"ratio": 0.5}, _paper((78.4,), (63.6,))),
    Variant("0.6", "sqap", {"ratio": 0.6}, _paper((76.9,), (61.2,))),
)
ABLATION = (
    DENSE,
    W4A4,
    Variant(
        "+ attention's top",
        "sqap",
        {"use_ring": False, "use_fps": False},
        _paper((91.7, 81.1, 65.4, 45.4, 70.9), (87.6, 74.3, 21.0, 46.0, 57.2)),
    ),
    Variant(
        "+ ring",
        "sqap",
        {"use_fps": False},
        _paper((92.0, 85.0, 69.2, 49.7, 74.0), (90.6, 75.6, 26.7, 48.7, 60.4)),
    ),
    replace(SQAP, title="+ farthest points"),
)
TWIN = (  # on a policy with outliers
    replace(DENSE, title="float"),
    Variant("W4A4, no rotation", "dense", {"precision": "w4a4", "rotation": "none"}),
    Variant("W4A4, only q and k rotated", "dense", {"precision": "w4a4", "rotation": "qk_input"}),
    replace(W4A4, title="W4A4, everything rotated"),
    replace(SQAP, title="SQAP W4A4, everything rotated"),
)
TABLES = (1, 2, 3, 4, 5)


@dataclass(frozen=True)
class Plan:
    """episodes: of each cell of the methods' tables. ablation_episodes: of the others. tables: which, 1 to 5."""

    checkpoint: Path
    episodes: int = 100
    ablation_episodes: int = 50
    seed: int = 0
    tables: tuple[int, ...] = TABLES

    def __post_init__(self) -> None:
        if self.episodes < 1 or self.ablation_episodes < 1 or not set(self.tables) <= set(TABLES):
            raise ValueError(
                f"episodes {self.episodes} and {self.ablation_episodes}, tables {self.tables}; at least one episode, "
                "and tables of 1 to 5"
            )

    def runs(self) -> list[tuple[str, Variant, int]]:
        """(scenario, variant, episodes) of tables 1 to 4, each once, what matters most first."""
        wanted: dict[tuple[str, str], tuple[str, Variant, int]] = {}
        for number, variants, scenarios, episodes in (
            (1, METHODS, SCENARIOS[:1], self.episodes),
            (2, METHODS, SCENARIOS[1:], self.episodes),
            (3, RATIOS, SCENARIOS, self.ablation_episodes),
            (4, ABLATION, SCENARIOS, self.ablation_episodes),
        ):
            for scenario in scenarios if number in self.tables else ():
                for variant in variants:
                    wanted.setdefault((scenario, variant.key), (scenario, variant, episodes))
        return list(wanted.values())


def run_tables(plan: Plan, out: Path, workers: int) -> None:
    """Does every run that is missing or unfinished. Raises as `evaluate`."""
    for scenario, variant, episodes in plan.runs():
        _run(plan, plan.checkpoint, out, scenario, variant, episodes, workers)
    if 5 in plan.tables:
        twin = twin_directory(out)
        checkpoint = write_outlier_twin(plan.checkpoint, twin / "checkpoint")
        for variant in TWIN:
            _run(plan, checkpoint, twin, SCENARIOS[0], variant, plan.ablation_episodes, workers)


def _run(plan: Plan, checkpoint: Path, out: Path, scenario: str, variant: Variant, episodes: int, workers: int) -> None:
    for task in FAMILIES:
        question = Evaluation(str(checkpoint), task, scenario, variant.method, variant.options, episodes, plan.seed)
        evaluate(question, run_directory(out, scenario, variant, task), workers)


def twin_directory(out: Path) -> Path:
    """Where the twin's checkpoint and runs are."""
    return out / "outlier_twin"


def run_directory(out: Path, scenario: str, variant: Variant, task: str) -> Path:
    return out / scenario / variant.key / task


class Results:
    """What is finished in a directory of runs. titles: by task, in the order of the columns."""

    def __init__(self, out: Path, titles: Mapping[str, str] = MappingProxyType(TABLETOP)) -> None:
        self._out, self.titles = out, titles
        self._read = functools.cache(read_episodes)

    def of(self, scenario: str, variant: Variant, task: str) -> list[EpisodeResult]:
        return self._read(run_directory(self._out, scenario, variant, task))

    def all_of(self, scenario: str, variant: Variant) -> dict[str, bool]:
        """Success by task and seed."""
        return {
            f"{task}#{result.seed}": result.success
            for task in self.titles
            for result in self.of(scenario, variant, task)
        }


def rate(successes: Sequence[bool]) -> str:
    """Percent, with episodes and interval."""
    if not successes:
        return "-"
    done, episodes = sum(successes), len(successes)
    low, high = wilson_interval(done, episodes)
    return f"{100 * done / episodes:.0f} ({done}/{episodes}, {100 * low:.0f}-{100 * high:.0f})"


def average(success: Mapping[str, bool], tasks: Iterable[str]) -> float | None:
    """Mean over the tasks of their rates, in percent; None unless every task has episodes."""
    rates = []
    for task in tasks:
        own = [done for key, done in success.items() if key.startswith(f"{task}#")]
        if not own:
            return None
        rates.append(sum(own) / len(own))
    return 100 * sum(rates) / len(rates)


def paired_with(results: Results, scenario: str, variant: Variant, base: Variant = DENSE) -> PairedComparison | None:
    """The variant with another, over the episodes of all tasks that both did; None where there are none, and for the
    other itself."""
    own, other = results.all_of(scenario, variant), results.all_of(scenario, base)
    return compare_paired(own, other) if variant.key != base.key and own.keys() & other.keys() else None


def verdict(paired: PairedComparison) -> str:
    if paired.p_value >= LEVEL:
        return "no difference shown"
    return "better" if paired.only_first > paired.only_second else "worse"
