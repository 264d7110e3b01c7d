# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The episodes behind the tables as one CSV file, so that anybody can compute the tables, and other things, again."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from sqap_vla.evaluation.tables import ABLATION, METHODS, RATIOS, TWIN, Results, Variant
from sqap_vla.sim import SCENARIOS

COLUMNS = ("policy", "scenario", "method", "task", "seed", "varied", "success", "steps", "path_m", "jerk_m_s3")
SHIPPED, OUTLIER_TWIN = "shipped", "outlier twin"


def write_rows(file: Path, results: Results, twin: Results) -> int:
    """Writes a row for every episode; columns as in `EpisodeResult`, but for policy and method, with its options.
    No times: what else the machine did meanwhile would be in them. Returns how many."""
    rows = [*_rows(SHIPPED, results, _each_once(*METHODS, *RATIOS, *ABLATION)), *_rows(OUTLIER_TWIN, twin, TWIN)]
    with open(file, "w", newline="", encoding="utf-8") as lines:
        writer = csv.writer(lines, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(rows)
    return len(rows)


def _each_once(*variants: Variant) -> tuple[Variant, ...]:
    return tuple({variant.key: variant for variant in variants}.values())


def _rows(policy: str, results: Results, variants: tuple[Variant, ...]) -> Iterator[tuple]:
    for scenario in SCENARIOS:
        for variant in variants:
            for task in results.titles:
                for r in results.of(scenario, variant, task):
                    measured = (f"{r.path_m:.3f}", f"{r.jerk_m_s3:.2f}")
                    yield (policy, scenario, variant.key, task, r.seed, r.varied, int(r.success), r.steps, *measured)
