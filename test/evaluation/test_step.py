# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""steps.csv says exactly what the policy did, and reads back to the same values."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sqap_vla.evaluation.step import REASON_COLUMNS, STEP_COLUMNS, StepRecord, StepRow, read_steps
from sqap_vla.pruning.ring import Ring, empty_ring
from sqap_vla.pruning.selection import Reason, TokenSelection

numbers = st.floats(allow_nan=False)
sevens = st.tuples(*[numbers] * 7)


@st.composite
def rows(draw: st.DrawFn) -> StepRow:
    reasons = draw(st.dictionaries(st.integers(0, 255), st.sampled_from(list(Reason)), max_size=40))
    pixel = draw(st.none() | st.tuples(numbers, numbers))
    return StepRow(
        step=draw(st.integers(0, 10**6)),
        stamp_ns=draw(st.integers(0, 2**63 - 1)),
        pixel=pixel,
        inside=None if pixel is None else draw(st.booleans()),
        kept=tuple(sorted(reasons)),
        by_reason={r: tuple(sorted(t for t, why in reasons.items() if why == r)) for r in REASON_COLUMNS.values()},
        action=draw(sevens),
        recorded=draw(st.none() | sevens),
        fallback=draw(st.text(max_size=20).filter(str.isprintable)),
    )


@given(row=rows())
def test_a_row_reads_back_to_the_same_values(row: StepRow) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([STEP_COLUMNS, row.cells()])
    text.seek(0)
    assert [StepRow.parse(cells) for cells in csv.DictReader(text)] == [row]


def test_the_row_holds_the_columns_that_tools_rely_on(make_record: Callable[..., StepRecord]) -> None:
    cells = dict(zip(STEP_COLUMNS, StepRow.of(3, make_record(3)).cells(), strict=True))
    assert cells["stamp_ns"] == "1000000000600000000"
    assert (cells["ee_u_px"], cells["ee_v_px"], cells["ee_inside"]) == ("13.5", "20.25", "1")
    assert cells["kept"] == "3 4 5 6 7 8 9 10"
    assert (cells["kept_ring"], cells["kept_attention"], cells["kept_fps"], cells["kept_other"]) == (
        "3 4",
        "5 6 7",
        "8 9 10",
        "",
    )
    assert [float(cells[f"a{i}"]) for i in range(7)] == make_record(3).actions[0].tolist()
    assert (cells["fallback"], cells["r6"]) == ("", "1.0")


def test_what_there_is_none_of_is_empty(make_record: Callable[..., StepRecord]) -> None:
    record = make_record(0, ring=empty_ring("no_camera_info"), fallback="no_camera_info", recorded_action=None)
    cells = dict(zip(STEP_COLUMNS, StepRow.of(0, record).cells(), strict=True))
    assert cells["ee_u_px"] == cells["ee_v_px"] == cells["ee_inside"] == cells["r0"] == cells["r6"] == ""
    assert cells["fallback"] == "no_camera_info"


@pytest.mark.parametrize(
    ("pixel", "inside"),
    [((0.0, 0.0), True), ((95.9, 63.9), True), ((96.0, 5.0), False), ((5.0, -0.1), False)],
)
def test_a_pixel_is_inside_up_to_but_not_on_the_image_size(
    make_record: Callable[..., StepRecord], pixel: tuple[float, float], inside: bool
) -> None:
    assert make_record(0, ring=Ring(np.zeros(256, bool), (), pixel, "")).pixel_inside is inside


@given(kept=st.sets(st.integers(0, 255), min_size=1), data=st.data())
def test_every_kept_token_stands_under_exactly_one_reason(kept: set[int], data: st.DataObject) -> None:
    reason = torch.tensor([data.draw(st.sampled_from(list(Reason))) for _ in kept], dtype=torch.uint8)
    record = StepRecord(
        0, np.zeros((16, 7)), TokenSelection(torch.tensor(sorted(kept)), reason), empty_ring(""), (64, 48)
    )
    row = StepRow.of(0, record)
    assert row.kept == tuple(sorted(kept))
    assert tuple(sorted(token for tokens in row.by_reason.values() for token in tokens)) == row.kept


def test_wrong_shapes_are_refused(make_record: Callable[..., StepRecord]) -> None:
    with pytest.raises(ValueError, match="actions has shape"):
        make_record(0, actions=np.zeros((15, 7)))
    with pytest.raises(ValueError, match="recorded_action has shape"):
        make_record(0, recorded_action=np.zeros(8))
    with pytest.raises(ValueError, match="must be one line"):
        make_record(0, fallback="two\rlines")


def test_a_file_that_is_no_steps_csv_says_what_it_lacks(tmp_path: Path) -> None:
    path = tmp_path / "steps.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="lacks the columns.*stamp_ns"):
        list(read_steps(path))
