# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""A line when something begins, none for each frame of it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

from sqap_vla.nodes import edge_log
from sqap_vla.nodes.conversions import InputError
from sqap_vla.nodes.edge_log import EdgeLog
from sqap_vla.nodes.policy_status import PolicyFigures
from sqap_vla.pruning.ring import NO_CAMERA_INFO, empty_ring
from sqap_vla.pruning.selection import keep_all
from sqap_vla.runtime.types import ActionChunk, StageTimes


def test_a_kind_begins_when_it_was_not_seen_for_a_while(monkeypatch: pytest.MonkeyPatch):
    clock = SimpleNamespace(now_s=100.0)
    monkeypatch.setattr(edge_log, "time", SimpleNamespace(monotonic=lambda: clock.now_s))
    log = EdgeLog(quiet_s=10.0)
    told = []
    for seconds in (0, 1, 9, 18, 27, 38, 39):  # never quiet for more than 10 s until 38
        clock.now_s = 100.0 + seconds
        told.append(log.begins("a"))
    assert told == [True, False, False, False, False, True, False]
    assert log.begins("b")


def test_frames_of_two_publishers_in_turns_are_one_line():
    """Pinned: each good frame in between made the next refusal a new one, a line for every frame."""
    import numpy as np

    chunk = ActionChunk(
        actions=np.zeros((16, 7)),
        step_s=0.2,
        stamp_ns=1,
        selection=keep_all(256, "cpu"),
        ring=empty_ring(NO_CAMERA_INFO),
        times=StageTimes(1, 1, 1, 1, 4),
    )
    figures = PolicyFigures()
    told = []
    for _ in range(50):
        told.append(figures.rejected(InputError("image_out_of_order", "not newer")))
        told.append(bool(figures.finished(chunk, (InputError("camera_info_missing", "none"),), 1.0, 0.5)))
        figures.finished(chunk, (), 1.0, 0.5)
    assert sum(told) == 2
    assert figures.values()["input/rejected/image_out_of_order"] == "50"
