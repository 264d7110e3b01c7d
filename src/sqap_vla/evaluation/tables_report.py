# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""docs/results.md, from the episodes that are on disk: every cell is what was measured, or "-"."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from sqap_vla.evaluation.tables import (
    ABLATION,
    DENSE,
    METHODS,
    RATIOS,
    SQAP,
    TWIN,
    W4A4,
    Results,
    Variant,
    average,
    paired_with,
    rate,
    verdict,
)
from sqap_vla.sim import SCENARIOS

SCENARIO_TITLES = dict(zip(SCENARIOS, ("visual matching", "variant aggregation"), strict=True))
_HEAD = """# Results in closed loop

CogACT-Mini ([training](training.md)) on the built-in tabletop, every method on the same episodes: a seed is the same
scene, sentence and start for all of them. A cell is the success rate in percent, then episodes done of episodes run,
and the 95 % Wilson interval. In the rows *paper* stand the rates of the 7B model on SIMPLER's tasks, which ours mirror;
compare differences between rows, not the rates. "Against dense": episodes that this method alone did, and that dense
alone did, over all tasks, with McNemar's exact test; below 0.05 a difference is called one. Nothing is corrected for
the number of comparisons: among twenty, chance alone gives one. The simulator waits for the policy, so latency costs
nothing here.

The episodes, with seeds: [{rows}]({rows}).

Two rows say more of the small network than of the method. Its decoder has five layers, and most methods drop tokens
after the third, where what they hold has mostly been read: even random dropping costs little. EfficientVLA leaves out
one of the five layers and a quarter of each MLP, and so small a network has nothing to spare.

Made by `{command}` on {hardware}; started again, the same command does the episodes that are missing.
"""

_TWIN_TITLE = "5. A twin with outliers, visual matching"
_TWIN = """So small a decoder has hardly any outliers, and rotation little to do. The twin is the same policy after
changes of its weights that cancel: it computes the same, but a few channels are as large, against the others, as in
trained Llamas ([method](method.md)).
"""


def report(
    results: Results,
    command: str,
    hardware: str,
    head: str = _HEAD,
    twin: Results | None = None,
    rows: str = "results.csv",
) -> str:
    """head: how it begins; {command}, {hardware} and {rows}, the file of the episodes, are put in. twin: of the policy
    with outliers."""
    parts = [head.format(command=command, hardware=hardware, rows=rows)]
    for number, scenario in enumerate(SCENARIOS, 1):
        title = f"{number}. Methods, {SCENARIO_TITLES[scenario]}"
        parts += [by_task(results, title, METHODS, (scenario,))]
    parts += [_ratios(results), by_task(results, "4. What each part of the method adds", ABLATION, SCENARIOS)]
    lines = [line for scenario in SCENARIOS for line in findings(results, (*METHODS[1:], W4A4), scenario, paper=True)]
    lines += [line for scenario in SCENARIOS for line in findings(results, (SQAP,), scenario, paper=True, base=W4A4)]
    if twin:
        parts += [by_task(twin, _TWIN_TITLE, TWIN, SCENARIOS[:1], paper=False), _TWIN]
        lines += [f"With outliers: {line}" for line in findings(twin, TWIN[1:], SCENARIOS[0], paper=False)]
    parts += [_by_factor(results, (DENSE, SQAP)), _courses(results)]
    lines = lines or ["Nothing has been compared yet."]
    return "\n".join([*parts, "## What the tables say", "", *(f"- {line}" for line in lines), ""])


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"## {title}", "", f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows), ""])


def by_task(
    results: Results, title: str, variants: Sequence[Variant], scenarios: Sequence[str], paper: bool = True
) -> str:
    """A table of one row a variant and scenario. paper: with the paper's below it."""
    rows = []
    for variant in variants:
        for scenario in scenarios:
            name = variant.title if len(scenarios) == 1 else f"{variant.title}, {SCENARIO_TITLES[scenario]}"
            cells = [rate([r.success for r in results.of(scenario, variant, task)]) for task in results.titles]
            mean = average(results.all_of(scenario, variant), results.titles)
            rows.append([name, *cells, "-" if mean is None else f"{mean:.1f}", _paired(results, scenario, variant)])
            if paper:
                rows.append(["*paper*", *(f"{value:.1f}" for value in variant.paper[scenario]), ""])
    return _table(title, ["", *results.titles.values(), "average", "against dense"], rows)


def _paired(results: Results, scenario: str, variant: Variant) -> str:
    paired = paired_with(results, scenario, variant)
    if paired is None:
        return "-" if variant.key == DENSE.key else "not measured"
    counts = f"+{paired.only_first} -{paired.only_second} of {paired.episodes}"
    return f"{counts}, p = {paired.p_value:.2g}: {verdict(paired)}"


def _ratios(results: Results) -> str:
    """Columns may have different episodes, so below each stands what dense does on the same ones."""
    rows, variants = [], (*RATIOS, DENSE)
    for scenario in SCENARIOS:
        dense = results.all_of(scenario, DENSE)
        every = [results.all_of(scenario, variant) for variant in variants]
        same = [{key: dense[key] for key in own.keys() & dense.keys()} for own in every]
        for title, columns in ((SCENARIO_TITLES[scenario], every), ("dense, the same episodes", same)):
            means = [average(column, results.titles) for column in columns]
            rows.append([title, *("-" if mean is None else f"{mean:.1f}" for mean in means)])
        paper = [variant.paper[scenario][-1] for variant in variants]
        rows.append(["*paper*", *(f"{value:.1f}" for value in paper)])
    head = ["pruning ratio, W4A4", *(variant.title for variant in RATIOS), "dense"]
    return _table("3. Pruning ratio, averages over the tasks", head, rows)


def _by_factor(results: Results, variants: Sequence[Variant]) -> str:
    """Over all tasks, by what variant aggregation changed."""
    cells: dict[str, dict[str, list[bool]]] = {}
    for variant in variants:
        for task in results.titles:
            for result in results.of(SCENARIOS[1], variant, task):
                cells.setdefault(result.varied, {}).setdefault(variant.key, []).append(result.success)
    rows = [
        [factor, *(rate(row.get(variant.key, [])) for variant in variants)] for factor, row in sorted(cells.items())
    ]
    return _table("Variant aggregation, by what is changed", ["", *(variant.title for variant in variants)], rows)


def _courses(results: Results) -> str:
    """Means over the tasks' means, so that every task counts the same."""
    rows = []
    for scenario in SCENARIOS:
        for variant in METHODS:
            done = [[r for r in results.of(scenario, variant, task) if r.success] for task in results.titles]
            if not all(done):
                continue
            cells = [
                f"{fmean(fmean(getattr(result, name) for result in own) for own in done):.{digits}f}"
                for name, digits in (("seconds", 1), ("path_m", 2), ("jerk_m_s3", 1))
            ]
            rows.append([f"{variant.title}, {SCENARIO_TITLES[scenario]}", *cells])
    head = ["", "time [s]", "path [m]", "jerk, RMS [m/s³]"]
    return _table("How successful episodes went, means", head, rows)


def findings(
    results: Results, variants: Sequence[Variant], scenario: str, paper: bool, base: Variant = DENSE
) -> list[str]:
    """A plain sentence for each variant that was compared with `base`. paper: with the paper's difference."""
    lines = []
    for variant in variants:
        own, other = (results.all_of(scenario, each) for each in (variant, base))
        shared = own.keys() & other.keys()
        mean, before = (average({key: each[key] for key in shared}, results.titles) for each in (own, other))
        paired = paired_with(results, scenario, variant, base)
        if mean is None or before is None or paired is None:
            continue
        name = base.title.removeprefix("+ ")
        line = (
            f"{variant.title}, {SCENARIO_TITLES[scenario]}: {mean - before:+.1f} points against {name} here "
            f"({len(shared)} episodes, p = {paired.p_value:.2g}: {verdict(paired)})"
        )
        there = f", {variant.paper[scenario][-1] - base.paper[scenario][-1]:+.1f} in the paper" if paper else ""
        lines.append(f"{line}{there}.")
    return lines
