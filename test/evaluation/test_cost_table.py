# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""`sqap-vla inspect --costs`: a row for every method, the paper's figure beside it."""

from __future__ import annotations

import pytest

from sqap_vla.cli import main
from sqap_vla.cogact.config import official_config
from sqap_vla.evaluation.cost_table import CostQuestion, cost_rows
from sqap_vla.quantization.costs import Precision
from sqap_vla.runtime.method import METHODS, make_method
from sqap_vla.runtime.workload import workload


@pytest.fixture(scope="module")
def rows():
    return {(row.method, str(row.precision)): row for row in cost_rows(CostQuestion())}


def test_a_row_for_every_method_and_for_what_is_quantized(rows):
    assert list(rows) == [*((name, "fp16") for name in METHODS), ("dense", "W4A4"), ("sqap", "W4A4")]


@pytest.mark.parametrize(
    ("row", "paper", "within"),
    [
        (("dense", "fp16"), 100.0, 0.0),
        (("random", "fp16"), 58.5, 0.25),
        (("fastv", "fp16"), 42.0, 0.15),
        (("vla_cache", "fp16"), 80.1, 0.1),
        (("efficientvla", "fp16"), 45.1, 0.5),
        (("sqap", "W4A4"), 26.3, 0.2),
    ],
)
def test_the_defaults_come_to_the_paper_s_figures(rows, row, paper, within):
    assert rows[row].paper == paper
    assert rows[row].published_length == pytest.approx(paper, abs=within)


def test_only_the_paper_s_own_precision_has_its_figure(rows):
    assert rows["sqap", "fp16"].paper is None and rows["dense", "W4A4"].paper is None


def test_sixteen_bits_leave_no_quantized_rows():
    assert [row.method for row in cost_rows(CostQuestion(quantized=Precision()))] == list(METHODS)


def test_the_table_is_printed(capsys):
    assert main(["inspect", "--costs", "--text-tokens", "32"]) == 0
    out = capsys.readouterr().out
    assert "288 tokens" in out and all(name in out for name in METHODS)
    line = next(line for line in out.splitlines() if line.startswith("fastv"))
    assert line.split()[:7] == ["fastv", "fp16", "0.882", "42.1", "42.1", "42.1", "42.0"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to inspect was named"),
        (["--costs", "--text-tokens", "0"], "text_tokens is 0"),
        (["--costs", "--weight-bits", "0"], "bits must be from 1 to 16"),
        (["--costs", "--reused-tokens", "300"], "reused_tokens is 300"),
    ],
)
def test_bad_requests_are_refused_in_one_line(capsys, arguments, message):
    assert main(["inspect", *arguments]) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


class TestWorkload:
    BASE = official_config()

    def test_tokens_by_layer(self):
        assert workload(make_method("dense"), self.BASE, 25).computed == (281,) * 32
        assert workload(make_method("fastv"), self.BASE, 25).computed == (281,) * 2 + (81,) * 30
        assert (
            workload(make_method("sqap", ratio=0.5, prune_layer=4), self.BASE, 25).computed == (281,) * 4 + (153,) * 28
        )

    def test_reuse_leaves_keys_to_attend_to(self):
        work = workload(make_method("vla_cache"), self.BASE, 25, reused_tokens=60)
        assert (work.computed, work.attended) == ((281,) * 2 + (221,) * 30, (281,) * 32)
        assert work.carried_tokens == 281

    def test_layers_channels_and_head_of_efficientvla(self):
        work = workload(make_method("efficientvla"), self.BASE, 25)
        assert work.computed == (281,) * 2 + (137,) * 26
        assert (work.mlp_channels, work.head_steps, work.head_block_runs) == (8256, 10, 2)
