# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Farthest-point sampling against a brute-force search over plain integers."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sqap_vla.pruning.sampling import farthest_point_sampling


def brute_force(taken: set[int], candidates: set[int], count: int, grid: int) -> list[int]:
    def apart(a: int, b: int) -> int:
        return (a % grid - b % grid) ** 2 + (a // grid - b // grid) ** 2

    chosen: list[int] = []
    left = candidates - taken
    while len(chosen) < count and left:
        sources = taken | set(chosen)
        best = min(left, key=lambda i: (-min((apart(i, s) for s in sources), default=0), i))
        chosen.append(best)
        left = left - {best}
    return chosen + [-1] * (count - len(chosen))


def as_mask(indices: set[int], n: int) -> torch.Tensor:
    mask = torch.zeros(n, dtype=torch.bool)
    mask[list(indices)] = True
    return mask


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_order_of_choice_equals_brute_force(data):
    grid = data.draw(st.integers(1, 6))
    n = grid * grid
    tokens = st.sets(st.integers(0, n - 1))
    taken, candidates = data.draw(tokens), data.draw(tokens)
    count = data.draw(st.integers(0, n + 2))
    order = farthest_point_sampling(as_mask(taken, n), as_mask(candidates, n), count, grid)
    assert order.tolist() == brute_force(taken, candidates, count, grid)


def test_full_size_grid_equals_brute_force():
    generator = torch.Generator().manual_seed(0)
    taken = torch.rand(256, generator=generator) < 0.2
    order = farthest_point_sampling(taken, ~taken, 100)
    start = set(taken.nonzero().ravel().tolist())
    expected = brute_force(start, set(range(256)) - start, 100, 16)
    assert order.tolist() == expected


def test_from_nothing_it_starts_at_token_0_and_goes_to_the_corners():
    nothing = torch.zeros(256, dtype=torch.bool)
    assert farthest_point_sampling(nothing, ~nothing, 4).tolist() == [0, 255, 15, 240]


def test_a_longer_run_begins_with_the_shorter_one():
    taken = as_mask({17, 200}, 256)
    longer, shorter = (farthest_point_sampling(taken, ~taken, count) for count in (90, 30))
    assert torch.equal(longer[:30], shorter)


def test_wrong_arguments_are_refused():
    mask = torch.zeros(256, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"must be bool \[256\]"):
        farthest_point_sampling(mask[:255], mask, 3)
    with pytest.raises(ValueError, match="must be bool"):
        farthest_point_sampling(mask.float(), mask, 3)
    with pytest.raises(ValueError, match="count is -1"):
        farthest_point_sampling(mask, mask, -1)
