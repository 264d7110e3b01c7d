# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Intervals and paired tests agree with their formulas and with textbook figures."""

from __future__ import annotations

from math import comb, sqrt

import pytest

from sqap_vla.evaluation.significance import compare_paired, wilson_interval


@pytest.mark.parametrize(("successes", "episodes"), [(0, 10), (10, 10), (87, 100), (1, 3)])
def test_wilson_interval_is_its_formula(successes: int, episodes: int) -> None:
    z, n, p = 1.959963984540054, episodes, successes / episodes
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    assert wilson_interval(successes, episodes) == pytest.approx((max(0.0, middle - half), min(1.0, middle + half)))


def test_no_episodes_say_nothing() -> None:
    assert wilson_interval(0, 0) == (0.0, 1.0)


def test_more_successes_than_episodes_are_refused() -> None:
    with pytest.raises(ValueError, match="11 successes of 10"):
        wilson_interval(11, 10)


def test_mcnemar_counts_what_one_alone_did() -> None:
    first = {str(seed): seed < 9 for seed in range(20)} | {"only here": True}
    second = {str(seed): seed < 2 for seed in range(20)}
    comparison = compare_paired(first, second)
    assert (comparison.episodes, comparison.only_first, comparison.only_second) == (20, 7, 0)
    assert comparison.p_value == pytest.approx(2 * comb(7, 0) / 2**7)


def test_equal_runs_do_not_differ() -> None:
    runs = {"1": True, "2": False}
    assert compare_paired(runs, runs).p_value == 1.0


def test_runs_without_a_shared_episode_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="share no episode"):
        compare_paired({"1": True}, {"2": True})
