# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""FastV's selection against the original's, from its own attention rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sqap_vla.pruning.fastv import FastVSelector
from sqap_vla.pruning.selection import Reason, budget_from_ratio

REFERENCE = Path(__file__).parents[1] / "reference" / "g_fastv.npz"
NO_RING = torch.zeros(256, dtype=torch.bool)


@pytest.mark.parametrize("case", ["k1_r0.5", "k2_r0.5", "k2_r0.75", "k3_r0.25", "k3_r0.9"])
def test_the_original_keeps_the_same_tokens(case):
    with np.load(REFERENCE) as arrays:
        attention, kept = arrays[f"{case}_lasttok_attn_avg"], arrays[f"{case}_keep_indices"]
    budget = budget_from_ratio(float(case.split("_r")[1]))
    selection = FastVSelector().select(torch.from_numpy(attention[1:257]), NO_RING, budget, seed=0)
    text = [0, *range(257, len(attention))]
    assert sorted([*(1 + selection.kept).tolist(), *text]) == kept.tolist()


def test_ties_go_to_the_lowest_index_and_nan_goes_last():
    scores = torch.tensor([0.2, 0.5, torch.nan, 0.5, 0.5, 0.1])
    selection = FastVSelector().select(scores, NO_RING[:6], 2, seed=0)
    assert selection.kept.tolist() == [1, 3] and set(selection.reason.tolist()) == {int(Reason.ATTENTION)}
    assert FastVSelector().select(scores, NO_RING[:6], 5, seed=0).kept.tolist() == [0, 1, 3, 4, 5]


def test_the_ring_changes_nothing():
    scores = torch.rand(256, generator=torch.Generator().manual_seed(0))
    ring = NO_RING.clone()
    ring[:50] = True
    kept = [FastVSelector().select(scores, mask, 56, seed=0).kept.tolist() for mask in (NO_RING, ring)]
    assert kept[0] == kept[1] and not FastVSelector().needs_ring


def test_scores_are_needed():
    with pytest.raises(ValueError, match="scores is None"):
        FastVSelector().select(None, NO_RING, 56, seed=0)
