# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""How sure a success rate is, and whether two of them differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from scipy.stats import binomtest


def wilson_interval(successes: int, episodes: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a success rate (E. B. Wilson, 1927). (0, 1) without episodes.

    Raises ValueError unless 0 <= successes <= episodes.
    """
    if not 0 <= successes <= episodes:
        raise ValueError(
            f"{successes} successes of {episodes} episodes; there cannot be more than episodes, nor fewer than 0"
        )
    if episodes == 0:
        return 0.0, 1.0
    interval = binomtest(successes, episodes).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


@dataclass(frozen=True)
class PairedComparison:
    """Two methods on the same episodes. only_first, only_second: episodes that one of them alone did. p_value: of
    McNemar's exact test (Q. McNemar, 1947): how likely a split as uneven is if neither is better."""

    episodes: int
    only_first: int
    only_second: int
    p_value: float


def compare_paired(first: Mapping[str, bool], second: Mapping[str, bool]) -> PairedComparison:
    """first, second: success by episode. Raises ValueError where they share no episode."""
    shared = first.keys() & second.keys()
    if not shared:
        raise ValueError("the two runs share no episode; evaluate both on the same task, scenario and seeds")
    only_first = sum(first[key] and not second[key] for key in shared)
    only_second = sum(second[key] and not first[key] for key in shared)
    split = only_first + only_second
    p_value = float(binomtest(only_first, split).pvalue) if split else 1.0
    return PairedComparison(len(shared), only_first, only_second, p_value)
