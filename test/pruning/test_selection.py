# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Invariants of every selector, and SQAP against an independent selection in plain Python."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

from sqap_vla.pruning.fastv import FastVSelector
from sqap_vla.pruning.random_drop import RandomDropSelector
from sqap_vla.pruning.selection import Reason, TokenSelection, budget_from_ratio, keep_all
from sqap_vla.pruning.sqap import SqapSelector

N = 256
SELECTORS = [
    SqapSelector(),
    SqapSelector(attention_share=0.0),
    SqapSelector(attention_share=1.0),
    SqapSelector(use_ring=False),
    SqapSelector(use_attention=False),
    SqapSelector(use_fps=False),
    RandomDropSelector(),
    FastVSelector(),
]
NO_RING = torch.zeros(N, dtype=torch.bool)


@st.composite
def frames(draw, max_ratio: float = 0.9):
    """(scores, ring already cut to the budget, budget); scores have many ties."""
    ratio = draw(st.floats(0, max_ratio))
    budget = budget_from_ratio(ratio)
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    levels = draw(st.sampled_from([1, 3, 100, 10**6]))
    scores = torch.randint(0, levels, (N,), generator=generator).float() / levels
    ring = NO_RING.clone()
    ring[torch.randperm(N, generator=generator)[: draw(st.integers(0, budget))]] = True
    return scores, ring, budget


def apart(a: int, b: int) -> int:
    return (a % 16 - b % 16) ** 2 + (a // 16 - b // 16) ** 2


def sqap_by_hand(scores: list[float], ring: set[int], budget: int, share: float) -> dict[int, Reason]:
    by_score = sorted(range(N), key=lambda i: (-scores[i], i))
    top = by_score[: math.floor(share * budget)]
    outside_ring = [i for i in top if i not in ring]
    kept = {i: Reason.RING for i in ring}
    kept |= {i: Reason.ATTENTION for i in outside_ring[: budget - len(ring)]}  # the lowest scored yield
    nearest = {i: min((apart(i, j) for j in kept), default=10**6) for i in range(N)}
    while len(kept) < budget:
        choice = min((i for i in range(N) if i not in kept), key=lambda i: (-nearest[i], i))
        kept[choice] = Reason.FPS
        nearest = {i: min(distance, apart(i, choice)) for i, distance in nearest.items()}
    return kept


@settings(max_examples=40, deadline=None)
@given(frames(), st.sampled_from([0.0, 0.25, 0.6, 1.0]))
def test_sqap_equals_the_selection_by_hand(frame, share):
    scores, ring, budget = frame
    expected = sqap_by_hand(scores.tolist(), set(ring.nonzero().ravel().tolist()), budget, share)
    selection = SqapSelector(attention_share=share).select(scores, ring, budget, seed=0)
    assert dict(zip(selection.kept.tolist(), selection.reason.tolist(), strict=True)) == expected


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(SELECTORS), frames(), st.integers(0, 2**31))
def test_budget_exact_kept_unique_and_ascending_ring_always_kept(selector, frame, seed):
    scores, ring, budget = frame
    selection = selector.select(scores, ring, budget, seed)
    kept = selection.kept
    assert len(kept) == budget == sum(selection.counts().values())
    assert (kept.diff() > 0).all() and kept[0] >= 0 and kept[-1] < N
    if isinstance(selector, SqapSelector) and selector.use_ring:
        assert torch.equal(selection.by_reason(Reason.RING), ring.nonzero().ravel())
    split = torch.cat([selection.by_reason(reason) for reason in Reason])
    assert torch.equal(split.sort().values, kept)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(SELECTORS), frames(), st.integers(0, 2**31), st.integers(0, 2**31))
def test_result_depends_on_nothing_but_the_inputs(selector, frame, seed, other):
    scores, ring, budget = frame
    before = [argument.clone() for argument in (scores, ring)]
    first = selector.select(scores, ring, budget, seed)
    assert torch.equal(scores, before[0]) and torch.equal(ring, before[1])
    threads = torch.get_num_threads()
    random_state = torch.get_rng_state()
    torch.manual_seed(other)
    torch.set_num_threads(1 + threads % 2)
    selector.select(scores.flip(0), NO_RING, 1 + other % N, other)  # a call in between
    state_before = torch.get_rng_state()
    with torch.inference_mode():
        again = selector.select(scores.clone(), ring.clone(), budget, seed)
    state_after = torch.get_rng_state()
    torch.set_num_threads(threads)
    torch.set_rng_state(random_state)
    assert torch.equal(first.kept, again.kept) and torch.equal(first.reason, again.reason)
    assert torch.equal(state_before, state_after)  # and it leaves nothing behind


@settings(max_examples=40, deadline=None)
@given(frames(), st.sampled_from([lambda s: s * 8, lambda s: s - 4, lambda s: s.double().exp()]))
def test_only_the_order_of_the_scores_matters(frame, rescale):
    scores, ring, budget = frame
    selector = SqapSelector()
    selection, rescaled = (selector.select(s, ring, budget, 0) for s in (scores, rescale(scores)))
    assert torch.equal(selection.kept, rescaled.kept) and torch.equal(selection.reason, rescaled.reason)


def test_precedence_ring_attention_fps():
    scores = torch.arange(N, 0, -1).float()  # token 0 highest
    ring = NO_RING.clone()
    ring[[0, 1, 100]] = True
    selection = SqapSelector(attention_share=0.5).select(scores, ring, 12, seed=0)
    assert selection.by_reason(Reason.RING).tolist() == [0, 1, 100]
    assert selection.by_reason(Reason.ATTENTION).tolist() == [2, 3, 4, 5]  # of the top 6 two are in the ring
    assert len(selection.by_reason(Reason.FPS)) == 5
    assert selection.counts()[Reason.OTHER] == 0


def test_attention_yields_to_the_ring_lowest_scored_first():
    scores = torch.arange(N).float()  # token 255 highest
    ring = NO_RING.clone()
    ring[:8] = True
    selection = SqapSelector(attention_share=0.5).select(scores, ring, 10, seed=0)
    assert selection.kept.tolist() == [*range(8), 254, 255]


def test_nan_scores_rank_last_and_ties_go_to_the_lowest_index():
    scores = torch.full((N,), float("nan"))
    scores[[7, 50]] = torch.tensor([-1e30, -3.0])
    selection = SqapSelector(attention_share=1.0).select(scores, NO_RING, 3, seed=0)
    assert selection.kept.tolist() == [0, 7, 50]  # the two numbers, then the first NaN
    ties = SqapSelector(attention_share=1.0).select(torch.zeros(N), NO_RING, 4, seed=0)
    assert ties.kept.tolist() == [0, 1, 2, 3]


def test_without_fps_attention_fills_the_budget():
    scores = torch.arange(N).float()
    selection = SqapSelector(use_fps=False).select(scores, NO_RING, 5, seed=0)
    assert selection.kept.tolist() == [251, 252, 253, 254, 255]
    assert selection.counts()[Reason.ATTENTION] == 5


def test_without_attention_no_scores_are_needed():
    selector = SqapSelector(use_attention=False)
    assert not selector.needs_scores
    assert len(selector.select(None, NO_RING, 30, 0).kept) == 30
    assert SqapSelector().needs_scores and not RandomDropSelector().needs_scores


@pytest.mark.parametrize("selector", SELECTORS[:-1])
def test_nothing_in_the_selection_depends_on_data_for_its_shape(selector):
    """On fake tensors any read of a value (.item(), boolean indexing, nonzero) raises: what a CUDA graph
    demands too."""
    selector.select(torch.zeros(N), NO_RING, 154, 0)  # the cached distance table is a real tensor
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        scores, ring = mode.from_tensor(torch.zeros(N)), mode.from_tensor(NO_RING)
        assert selector.select(scores, ring, 154, 0).kept.shape == (154,)


def test_random_drop_is_uniform_and_differs_by_seed():
    kept = torch.stack([RandomDropSelector().select(None, NO_RING, 128, seed).kept for seed in range(400)])
    frequency = torch.bincount(kept.ravel(), minlength=N) / 400
    assert (frequency - 0.5).abs().max() < 0.13  # five standard deviations of 400 draws
    assert not torch.equal(kept[0], kept[1])


@pytest.mark.parametrize(("ratio", "kept"), [(0, 256), (0.4, 154), (0.5, 128), (0.9, 26), (0.75, 64)])
def test_budget_from_ratio(ratio, kept):
    assert budget_from_ratio(ratio) == kept


@pytest.mark.parametrize("ratio", [-0.1, 1.0, float("nan"), 0.999])
def test_a_ratio_that_keeps_nothing_is_refused(ratio):
    with pytest.raises(ValueError, match=str(ratio)):
        budget_from_ratio(ratio)


def test_keep_all():
    selection = keep_all(N, "cpu")
    assert selection.kept.tolist() == list(range(N)) and selection.counts()[Reason.OTHER] == N


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scores": None}, "needs them"),
        ({"scores": torch.zeros(255)}, r"floating point \(256,\)"),
        ({"scores": torch.zeros(N, dtype=torch.int64)}, "floating point"),
        ({"ring": torch.zeros(N)}, "must be bool"),
        ({"budget": 0}, "budget is 0"),
        ({"budget": 257}, "budget is 257"),
    ],
)
def test_wrong_select_arguments_are_refused(arguments, message):
    valid = {"scores": torch.zeros(N), "ring": NO_RING, "budget": 154, "seed": 0}
    with pytest.raises(ValueError, match=message):
        SqapSelector().select(**{**valid, **arguments})


def test_wrong_configurations_are_refused():
    for wrong in (
        {"attention_share": 1.1},
        {"attention_share": math.nan},
        {"grid": 0},
        {"use_attention": False, "use_fps": False},
    ):
        with pytest.raises(ValueError, match="attention|grid"):
            SqapSelector(**wrong)
    with pytest.raises(ValueError, match="ring has 255"):
        SqapSelector(use_attention=False).select(None, NO_RING[:255], 20, 0)
    with pytest.raises(ValueError, match="int64"):
        TokenSelection(torch.zeros(3), torch.zeros(3, dtype=torch.uint8))
    with pytest.raises(ValueError, match="uint8"):
        TokenSelection(torch.arange(3), torch.zeros(2, dtype=torch.uint8))
