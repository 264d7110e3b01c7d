# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The ensemble against CogACT's outputs, and what ours adds: later rows, skipped steps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sqap_vla.runtime.ensemble import AdaptiveEnsemble

REFERENCE = np.load(Path(__file__).parents[1] / "reference" / "b_ensembler.npz")
POLICY_STEP = np.load(Path(__file__).parents[1] / "reference" / "b_policy_step.npz")


@pytest.mark.parametrize(
    ("horizon", "name", "dtype", "atol"),
    [
        (2, "out_h2", np.float64, 1e-12),
        (7, "out_h7", np.float64, 1e-12),
        (2, "out_h2_f32", np.float32, 1e-6),
        (7, "out_h7_f32", np.float32, 1e-6),
    ],
)
def test_row_0_equals_cogact(horizon, name, dtype, atol):
    ensemble = AdaptiveEnsemble(horizon)
    rows = [ensemble.update(chunk.astype(dtype))[0] for chunk in REFERENCE["chunks"]]
    assert rows[0].dtype == dtype
    np.testing.assert_allclose(rows, REFERENCE[name], rtol=0, atol=atol)


def test_reset_equals_cogact():
    ensemble = AdaptiveEnsemble(7)
    rows = []
    for step, chunk in enumerate(REFERENCE["chunks"]):
        if step == 5:
            ensemble.reset()
        rows.append(ensemble.update(chunk)[0])
    np.testing.assert_allclose(rows, REFERENCE["out_h7_reset_before5"], rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("robot", "horizon"),
    [("google_robot_ens", 2), ("widowx_bridge_ens", 7), ("google_robot_noens", 1), ("widowx_bridge_noens", 1)],
)
def test_policy_steps_equal_cogact(robot, horizon):
    ensemble = AdaptiveEnsemble(horizon)
    rows = np.array([ensemble.update(chunk)[0] for chunk in POLICY_STEP["chunks"]])
    parts = {"world_vector": slice(3), "rotation_delta": slice(3, 6), "open_gripper": slice(6, 7)}
    for name, columns in parts.items():
        np.testing.assert_allclose(rows[:, columns], POLICY_STEP[f"{robot}_raw_{name}"], rtol=0, atol=1e-12)


def ensemble_by_hand(history: list[tuple[int, np.ndarray]], step: int, row: int, alpha: float) -> np.ndarray:
    newest = history[-1][1][row]
    total, weights = np.zeros(7), 0.0
    for first, chunk in history:
        index = step + row - first
        if index < 16:
            old = chunk[index]
            cosine = old @ newest / (np.linalg.norm(old) * np.linalg.norm(newest) + 1e-7)
            total, weights = total + np.exp(alpha * cosine) * old, weights + np.exp(alpha * cosine)
    return total / weights


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 20), min_size=1, max_size=8), st.integers(1, 5), st.floats(0, 2), st.integers(0, 99))
def test_every_row_meets_the_predictions_for_its_step_whatever_steps_are_skipped(gaps, horizon, alpha, seed):
    generator = np.random.default_rng(seed)
    ensemble = AdaptiveEnsemble(horizon, alpha)
    history: list[tuple[int, np.ndarray]] = []
    step = 0
    for gap in gaps:
        step += gap
        chunk = generator.normal(size=(16, 7))
        history = [*history, (step, chunk)][-horizon:]
        expected = [ensemble_by_hand(history, step, row, alpha) for row in range(16)]
        np.testing.assert_allclose(ensemble.update(chunk, step), expected, atol=1e-12)


def test_chunks_that_agree_are_unchanged_however_they_are_spaced():
    timeline = np.random.default_rng(0).normal(size=(100, 7))
    ensemble = AdaptiveEnsemble(7)
    for step in (3, 4, 9, 9, 12, 40):
        np.testing.assert_allclose(ensemble.update(timeline[step : step + 16], step), timeline[step : step + 16])


def test_a_second_chunk_for_a_step_replaces_the_first():
    first, second = np.random.default_rng(1).normal(size=(2, 16, 7))
    ensemble = AdaptiveEnsemble(4)
    ensemble.update(first, 10)
    np.testing.assert_array_equal(ensemble.update(second, 10), AdaptiveEnsemble(4).update(second, 10))


def test_a_caller_may_reuse_its_array():
    chunks = REFERENCE["chunks"].copy()
    ensemble, buffer = AdaptiveEnsemble(2), np.empty((16, 7))
    for chunk, expected in zip(chunks, REFERENCE["out_h2"], strict=True):
        buffer[:] = chunk
        np.testing.assert_allclose(ensemble.update(buffer)[0], expected, atol=1e-12)


def test_bad_input_is_refused_and_leaves_the_history_alone():
    good = np.ones((16, 7))
    ensemble = AdaptiveEnsemble(3)
    ensemble.update(good, 5)
    for bad, message in (
        (np.full((16, 7), np.nan), "finite"),
        (np.ones((15, 7)), r"\[16, 7\]"),
        (np.ones((16, 7), dtype=int), "floating"),
    ):
        with pytest.raises(ValueError, match=message):
            ensemble.update(bad, 6)
    with pytest.raises(ValueError, match="before the last"):
        ensemble.update(good, 4)
    np.testing.assert_allclose(ensemble.update(good, 6), good)


def test_bad_configuration_is_refused():
    for arguments in ((0,), (2, np.nan)):
        with pytest.raises(ValueError, match="ensemble"):
            AdaptiveEnsemble(*arguments)
