# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""EfficientVLA's visual tokens: key, task and diverse ones, counted and placed by hand."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sqap_vla.pruning.efficientvla import RelevanceDiversitySelector
from sqap_vla.pruning.selection import Reason

NO_RING = torch.zeros(8, dtype=torch.bool)


def at(degrees: list[float]) -> torch.Tensor:
    """Unit vectors in the plane, with lengths that must not matter."""
    angle = torch.deg2rad(torch.tensor(degrees))
    return torch.stack([angle.cos(), angle.sin()], dim=1) * torch.arange(1, len(degrees) + 1)[:, None]


def test_key_task_and_diverse_tokens():
    scores = torch.tensor([0.0, 0.9, 0.8, 0.5, 0.1, 0.2, 0.3, 0.4])
    features = at([170, 0, 10, 90, 100, 5, 12, 60])
    selector = RelevanceDiversitySelector(key_tokens=2, task_share=0.5)
    selection = selector.select(scores, NO_RING, 5, seed=0, features=features)
    # keys 1, 2 by score; floor(0.5 * 3) = 1 task token: 3; then the two farthest in angle from 0 and 10 degrees.
    assert selection.kept.tolist() == [0, 1, 2, 3, 4]
    assert selection.by_reason(Reason.ATTENTION).tolist() == [1, 2, 3]
    assert selection.by_reason(Reason.OTHER).tolist() == [0, 4]


def test_diversity_is_measured_from_the_nearest_key_token():
    scores = torch.tensor([0.9, 0.8, 0.3, 0.2])
    features = at([0, 180, 170, 90])  # 170 degrees is far from the first key and next to the second
    kept = RelevanceDiversitySelector(2, 0.0).select(scores, NO_RING[:4], 3, seed=0, features=features).kept
    assert kept.tolist() == [0, 1, 3]


def test_published_numbers_of_tokens():
    generator = torch.Generator().manual_seed(0)
    scores, features = torch.rand(256, generator=generator), torch.randn(256, 16, generator=generator)
    ring = torch.zeros(256, dtype=torch.bool)
    counts = RelevanceDiversitySelector().select(scores, ring, 112, seed=0, features=features).counts()
    assert counts[Reason.ATTENTION] == 4 + 54 and counts[Reason.OTHER] == 54


@given(
    n=st.integers(1, 40), data=st.data(), key_tokens=st.integers(1, 10), share=st.floats(0, 1), seed=st.integers(0, 99)
)
def test_any_budget_is_met_with_each_token_once(n, data, key_tokens, share, seed):
    budget = data.draw(st.integers(1, n))
    generator = torch.Generator().manual_seed(seed)
    scores, features = torch.rand(n, generator=generator), torch.randn(n, 3, generator=generator)
    selector = RelevanceDiversitySelector(key_tokens, share)
    kept = selector.select(scores, torch.zeros(n, dtype=torch.bool), budget, seed=0, features=features).kept.tolist()
    assert len(kept) == budget and kept == sorted(set(kept)) and set(kept) <= set(range(n))
    top = torch.argsort(scores, descending=True, stable=True)[: min(key_tokens, budget)].tolist()
    assert set(top) <= set(kept), "key tokens stay unconditionally"


def test_features_are_needed_one_for_each_token():
    with pytest.raises(ValueError, match=r"features has shape None; .* \[8, D\]"):
        RelevanceDiversitySelector().select(torch.rand(8), NO_RING, 4, seed=0)
    with pytest.raises(ValueError, match=r"features has shape \(7, 2\)"):
        RelevanceDiversitySelector().select(torch.rand(8), NO_RING, 4, seed=0, features=torch.rand(7, 2))


@pytest.mark.parametrize(
    ("wrong", "message"), [({"key_tokens": 0}, "key_tokens is 0"), ({"task_share": 1.5}, "task_share is 1.5")]
)
def test_bad_values_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        RelevanceDiversitySelector(**wrong)
