# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""A step report survives the way through JSON to the last bit; other text is refused."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sqap_vla.evaluation.step import StepRecord, StepRow
from sqap_vla.evaluation.step_json import step_from_json, step_to_json
from sqap_vla.pruning.ring import Ring
from sqap_vla.pruning.selection import TokenSelection
from sqap_vla.runtime.types import StageTimes

FINITE = st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def records(draw: st.DrawFn) -> StepRecord:
    kept = sorted(draw(st.sets(st.integers(0, 255), min_size=1, max_size=256)))
    reasons = draw(st.lists(st.integers(0, 3), min_size=len(kept), max_size=len(kept)))
    mask = np.zeros(256, bool)
    mask[sorted(draw(st.sets(st.integers(0, 255), max_size=30)))] = True
    ring = Ring(
        mask=mask,
        centers=tuple(draw(st.lists(st.tuples(st.integers(0, 15), st.integers(0, 15)), max_size=3))),
        pixel=draw(st.none() | st.tuples(FINITE, FINITE)),
        fallback=draw(st.sampled_from(["", "no_camera_info", "outside_image"])),
    )
    return StepRecord(
        stamp_ns=draw(st.integers(0, 2**63 - 1)),
        actions=np.array(draw(st.lists(FINITE, min_size=112, max_size=112))).reshape(16, 7),
        selection=TokenSelection(torch.tensor(kept), torch.tensor(reasons, dtype=torch.uint8)),
        ring=ring,
        image_size=(draw(st.integers(1, 4096)), draw(st.integers(1, 4096))),
        instruction=draw(st.text()),
        fallback=ring.fallback,
        times=draw(st.none() | st.builds(StageTimes, *[FINITE] * 5)),
    )


@given(records())
def test_every_field_comes_back_bit_for_bit(record: StepRecord):
    again = step_from_json(step_to_json(record))
    assert again.actions.dtype == np.float64 and again.actions.tobytes() == record.actions.tobytes()
    assert again.selection.kept.dtype == torch.int64 and again.selection.reason.dtype == torch.uint8
    assert torch.equal(again.selection.kept, record.selection.kept)
    assert torch.equal(again.selection.reason, record.selection.reason)
    assert np.array_equal(again.ring.mask, record.ring.mask)
    for name in ("centers", "pixel", "fallback"):
        assert getattr(again.ring, name) == getattr(record.ring, name)
    for name in ("stamp_ns", "image_size", "instruction", "fallback", "times"):
        assert getattr(again, name) == getattr(record, name)
    assert StepRow.of(0, again).cells() == StepRow.of(0, record).cells()


def test_the_text_is_plain_json(make_record: Callable[..., StepRecord]):
    data = json.loads(step_to_json(make_record(3)))
    assert data["kept"] == list(range(3, 11))
    assert data["ring"]["mask"] == [3, 4]
    assert len(data["actions"]) == 16


@pytest.mark.parametrize(
    "text", ["", "{", "null", "[]", "5", "{}", '{"ring": null}', '{"ring": {"size": 1, "mask": [5]}}']
)
def test_other_text_is_refused(text: str):
    with pytest.raises(ValueError):
        step_from_json(text)


@pytest.mark.parametrize(
    "field, value",
    [
        ("actions", [[1.0] * 7]),
        ("actions", [["a"] * 7] * 16),
        ("kept", ["a"]),
        ("kept", [1, 1]),
        ("reason", [0]),
        ("times", {"total_ms": 1.0}),
        ("ring", []),
    ],
)
def test_a_field_that_does_not_fit_is_refused(make_record: Callable[..., StepRecord], field: str, value: object):
    data = json.loads(step_to_json(make_record(3)))
    data[field] = value
    with pytest.raises(ValueError):
        step_from_json(json.dumps(data))
