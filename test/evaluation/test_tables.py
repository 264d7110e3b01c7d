# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The tables name the runs they need once each, say what was measured and nothing else."""

from __future__ import annotations

import csv
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from sqap_vla.cogact.checkpoint import load_checkpoint
from sqap_vla.cogact.preprocess import preprocess
from sqap_vla.cogact.prompt import Tokenizer
from sqap_vla.evaluation.closed_loop import EpisodeResult
from sqap_vla.evaluation.evaluate import COLUMNS
from sqap_vla.evaluation.outlier_twin import write_outlier_twin
from sqap_vla.evaluation.tables import ABLATION, DENSE, METHODS, RATIOS, SQAP, W4A4, Plan, Results, average
from sqap_vla.evaluation.tables_report import report
from sqap_vla.evaluation.tables_rows import write_rows
from sqap_vla.quantization.metrics import outlier_ratio
from sqap_vla.runtime.method import make_method
from sqap_vla.sim import FAMILIES, SCENARIOS
from sqap_vla.training.shipped import SHIPPED_POLICY


def write(out: Path, scenario: str, key: str, task: str, successes: list[bool]) -> None:
    directory = out / scenario / key / task
    directory.mkdir(parents=True)
    values = {name: {"int": 1, "float": 1.0, "str": "x", "bool": True}[kind] for name, kind in _kinds().items()}
    with open(directory / "episodes.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for seed, success in enumerate(successes):
            writer.writerow(asdict(EpisodeResult(**values | {"seed": seed, "success": success})))


def _kinds() -> dict[str, str]:
    from dataclasses import fields

    return {field.name: field.type for field in fields(EpisodeResult)}


def test_runs_that_tables_share_are_done_once():
    runs = Plan(SHIPPED_POLICY).runs()
    assert len(runs) == len({(scenario, variant.key) for scenario, variant, _ in runs})
    dense = [episodes for _, variant, episodes in runs if variant.key == DENSE.key]
    assert dense == [100, 100]  # although table 4 would be content with 50
    assert len(Plan(SHIPPED_POLICY, tables=(1,)).runs()) == len(METHODS)


@pytest.mark.parametrize("variant", [*METHODS, *RATIOS, *ABLATION], ids=lambda variant: variant.key)
def test_every_row_is_a_method_that_exists_and_has_the_papers_rates(variant):
    make_method(variant.method, **variant.options)
    assert set(variant.paper) == set(SCENARIOS)
    for rates in variant.paper.values():
        assert len(rates) in (1, 5)
        if len(rates) == 5:
            assert sum(rates[:4]) / 4 == pytest.approx(rates[4], abs=0.11)


def test_an_unfinished_table_says_so(tmp_path: Path):
    for task in FAMILIES:
        write(tmp_path, "visual_matching", DENSE.key, task, [True] * 9 + [False])
    text = report(Results(tmp_path), "sqap-vla tables", "a machine")
    assert "90 (9/10, 60-98)" in text and "90.0" in text
    assert "not measured" in text and "Nothing has been compared yet" in text


def test_a_difference_is_claimed_only_where_the_test_allows_it(tmp_path: Path):
    for task in FAMILIES:
        write(tmp_path, "visual_matching", DENSE.key, task, [True] * 10)
        write(tmp_path, "visual_matching", "random", task, [False] * 8 + [True] * 2)
        write(tmp_path, "visual_matching", SQAP.key, task, [False] + [True] * 9)
    results = Results(tmp_path)
    text = report(results, "sqap-vla tables", "a machine")
    assert "+0 -32 of 40, p = 4.7e-10: worse" in text
    assert "+0 -4 of 40, p = 0.12: no difference shown" in text
    assert average(results.all_of("visual_matching", SQAP), FAMILIES) == pytest.approx(90.0)
    assert "random, visual matching: -80.0 points against dense here (40 episodes, p = 4.7e-10: worse)" in text


def test_the_rows_give_the_table_again(tmp_path: Path):
    for task in FAMILIES:
        write(tmp_path, "visual_matching", DENSE.key, task, [True] * 9 + [False])
        write(tmp_path, "variant_aggregation", SQAP.key, task, [False, True])
        write(tmp_path / "twin", "visual_matching", SQAP.key, task, [True])
    file = tmp_path / "rows.csv"
    assert write_rows(file, Results(tmp_path), Results(tmp_path / "twin")) == 52
    with open(file, newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    assert len(rows) == 52 and {row["policy"] for row in rows} == {"shipped", "outlier twin"}
    dense = [row for row in rows if row["method"] == "dense" and row["task"] == "pick"]
    assert [int(row["seed"]) for row in dense] == list(range(10)) and sum(int(row["success"]) for row in dense) == 9


def test_variants_are_told_apart_by_what_was_changed(tmp_path: Path):
    for task in FAMILIES:
        write(tmp_path, "variant_aggregation", DENSE.key, task, [True, True, False])
    text = report(Results(tmp_path), "sqap-vla tables", "a machine")
    assert "| x | 67 (8/12, 39-86) | - |" in text.partition("by what is changed")[2]


def test_how_episodes_went_is_told_of_those_that_were_done(tmp_path: Path):
    for task in FAMILIES:
        write(tmp_path, "visual_matching", DENSE.key, task, [True, False])
        write(tmp_path, "visual_matching", SQAP.key, task, [False, False])
    text = report(Results(tmp_path), "sqap-vla tables", "a machine", rows="all.csv")
    went = text.partition("How successful episodes went")[2]
    assert "| dense, visual matching | 1.0 | 1.00 | 1.0 |" in went and "SQAP W4A4" not in went.partition("## ")[0]
    assert "[all.csv](all.csv)" in text


def test_the_whole_method_is_compared_with_four_bits_alone(tmp_path: Path):
    for task in FAMILIES:
        write(tmp_path, "variant_aggregation", W4A4.key, task, [False] * 4 + [True] * 2)
        write(tmp_path, "variant_aggregation", SQAP.key, task, [True] * 6)
    text = report(Results(tmp_path), "sqap-vla tables", "a machine")
    assert "SQAP W4A4, variant aggregation: +66.7 points against W4A4 here (24 episodes, p = 3.1e-05: better)" in text
    assert "+6.2 in the paper" in text


def test_a_plan_without_episodes_is_refused():
    with pytest.raises(ValueError, match="at least one episode"):
        Plan(SHIPPED_POLICY, episodes=0)


def test_the_twin_with_outliers_acts_as_the_policy_does(tmp_path: Path):
    twin = write_outlier_twin(SHIPPED_POLICY, tmp_path / "twin")
    rgb = np.random.default_rng(0).integers(0, 255, (224, 224, 3), dtype=np.uint8)
    noise = torch.randn(1, 16, 7, generator=torch.Generator().manual_seed(0))
    actions, largest = [], []
    for checkpoint in (SHIPPED_POLICY, twin):
        model = load_checkpoint(checkpoint, dtype=torch.float32).model
        ids = Tokenizer.from_path(checkpoint).encode("pick up the red cube")
        with torch.inference_mode():
            visual = model.encode_images(*(tower[None] for tower in preprocess(rgb)))
            down = model.decoder.layers[-2].mlp.down_proj
            down.register_forward_pre_hook(lambda _, args: largest.append(outlier_ratio(args[0].flatten(0, -2))))
            actions.append(model.sample_actions(model.cognition(visual, [ids]).cognition, noise))
    torch.testing.assert_close(actions[1], actions[0], atol=2e-3, rtol=0)
    assert largest[1] > 3 * largest[0]
