# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Statistics against NumPy and against cases worked by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sqap_vla.evaluation import statistics
from sqap_vla.evaluation.step import StepRecord
from sqap_vla.evaluation.summary import RunInfo, Series
from sqap_vla.pruning.selection import Reason

moderate = st.floats(-10, 10, allow_subnormal=False)


@given(data=st.data(), frames=st.integers(1, 20))
def test_action_errors_equal_numpys_over_the_recorded_frames(data: st.DataObject, frames: int) -> None:
    predicted = data.draw(arrays(np.float64, (frames, 7), elements=moderate))
    recorded = data.draw(arrays(np.float64, (frames, 7), elements=moderate))
    missing = data.draw(arrays(bool, frames))
    recorded[missing] = np.nan
    for column, error in enumerate(statistics.action_errors(predicted, recorded)):
        difference = (predicted - recorded)[~missing, column]
        assert error.frames == len(difference)
        if len(difference) == 0:
            assert error.mae is error.rmse is error.max_abs is error.mean is None
            continue
        assert error.mae == pytest.approx(np.mean(np.abs(difference)))
        assert error.rmse == pytest.approx(np.sqrt(np.mean(difference**2)))
        assert error.max_abs == np.max(np.abs(difference))
        assert error.mean == pytest.approx(np.mean(difference), abs=1e-12)


def test_dimensions_are_named_with_their_units_and_the_gripper_is_not_subtracted() -> None:
    errors = statistics.action_errors(np.zeros((1, 7)), np.zeros((1, 7)))
    assert [(e.name, e.unit) for e in errors] == [
        ("dx", "m"),
        ("dy", "m"),
        ("dz", "m"),
        ("droll", "rad"),
        ("dpitch", "rad"),
        ("dyaw", "rad"),
    ]


def test_a_recorded_hold_keeps_the_state_last_commanded() -> None:
    states = statistics.recorded_open_states(
        "google_robot", [0.0, -1.0, 0.0, 0.0, 1.0, 0.0, None, float("nan"), 0.0, -1.0]
    )
    assert states == [None, 1.0, 1.0, 1.0, 0.0, 0.0, None, None, 0.0, 1.0]


def test_widowx_numbers_are_absolute() -> None:
    assert statistics.recorded_open_states("widowx", [1.0, -1.0, None, 1.0]) == [1.0, 0.0, None, 1.0]


def test_gripper_agreement_counts_each_kind_of_frame_once() -> None:
    agreement = statistics.gripper_agreement(np.array([1.0, 1.0, 0.0, 0.0, 1.0]), [1.0, 0.0, 1.0, 0.0, None])
    assert (agreement.compared, agreement.agreed, agreement.percent) == (4, 2, 50.0)
    assert (
        agreement.predicted_open_recorded_closed,
        agreement.predicted_closed_recorded_open,
        agreement.not_compared,
    ) == (1, 1, 1)
    assert statistics.gripper_agreement(np.zeros(2), [None, None]).percent is None


@given(values=st.lists(st.none() | st.floats(0, 1e5), max_size=40), warm_up=st.integers(0, 5))
def test_percentiles_equal_numpys_without_warm_up_frames(values: list[float | None], warm_up: int) -> None:
    result = statistics.percentiles(values, warm_up)
    kept = [value for value in values[warm_up:] if value is not None]
    assert result.count == len(kept)
    expected = np.percentile(kept, (50, 95, 99)) if kept else (None, None, None)
    assert (result.p50, result.p95, result.p99) == tuple(expected)


def test_a_deadline_is_missed_beyond_one_step() -> None:
    misses = statistics.deadline_misses([900.0, 199.0, 200.0, 200.1, None], 0.2, warm_up=1)
    assert (misses.count, misses.missed, misses.percent) == (3, 1, pytest.approx(100 / 3))


def test_later_chunk_rows_meet_the_action_recorded_at_their_time() -> None:
    stamps = np.arange(6) * 200_000_000
    recorded = np.zeros((6, 7))
    recorded[:, 0] = np.arange(6)
    chunks = np.zeros((6, 16, 7))
    chunks[:, :, 0] = np.arange(6)[:, None] + np.arange(16)  # a perfect forecast
    rows = statistics.errors_by_chunk_row(stamps, chunks, recorded, step_s=0.2)
    assert [(r["row"], r["frames"], r["translation_mae_m"]) for r in rows] == [(j, 6 - j, 0.0) for j in range(6)]


def test_images_faster_than_the_chunk_are_aligned_by_time_not_by_index() -> None:
    stamps = np.arange(12) * 100_000_000  # 10 Hz images, 5 Hz chunk rows
    recorded = np.zeros((12, 7))
    recorded[:, 3] = np.arange(12)
    recorded[5] = np.nan
    chunks = np.zeros((12, 16, 7))
    chunks[:, :, 3] = np.arange(12)[:, None] + 2 * np.arange(16)
    rows = {r["row"]: r for r in statistics.errors_by_chunk_row(stamps, chunks, recorded, step_s=0.2)}
    assert rows[1]["frames"] == 11, "stamps 0..9 shifted by two frames, and 10 half a step beyond the end"
    # Frames 3 and 10 find their neighbours within half a step: one recorded frame off each.
    assert rows[1]["rotation_mae_rad"] == pytest.approx(2 / 11)


def test_token_counts_are_over_frames_and_by_reason() -> None:
    counts = statistics.token_counts(
        [{Reason.RING: 25, Reason.FPS: 5}, {Reason.RING: 20, Reason.FPS: 10, Reason.OTHER: 3}]
    )
    assert counts["all"] == {"mean": 31.5, "min": 30, "max": 33}
    assert counts["ring"] == {"mean": 22.5, "min": 20, "max": 25}
    assert counts["attention"] == {"mean": 0.0, "min": 0, "max": 0}
    assert statistics.token_counts([]) == {}


def test_a_series_marks_frames_without_a_recorded_action(make_record: Callable[..., StepRecord]) -> None:
    series = Series.of([make_record(0), make_record(1, recorded_action=None, times=None)], "widowx")
    assert np.isnan(series.recorded[1]).all() and series.recorded_open == [0.0, None]
    assert series.stages_ms["vision_ms"] == [2.0, None]
    assert Series.of([], "widowx").predicted.shape == (0, 7)


@pytest.mark.parametrize(
    "change",
    [
        {"step_s": 0.0},
        {"step_s": float("nan")},
        {"gripper_kind": "claw"},
        {"mode": "dream"},
        {"warm_up_frames": -1},
    ],
)
def test_a_run_that_cannot_be_is_refused(make_info: Callable[..., RunInfo], change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        make_info(**change)
