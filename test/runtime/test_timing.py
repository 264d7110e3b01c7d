# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Stage times and latency percentiles with a clock under control."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from sqap_vla.runtime.timing import LatencyWindow, StageTimer


class ManualClock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_stages_add_up_to_the_total():
    clock = ManualClock()
    timer = StageTimer(clock)
    for stage, seconds in (("vision", 0.010), ("llm", 0.020), ("other", 0.003), ("llm", 0.020)):
        clock.now_s += seconds
        timer.mark(stage)
    clock.now_s += 1.0  # after the last stage
    assert timer.stages_ms() == pytest.approx({"vision": 10, "llm": 40, "other": 3})
    assert timer.total_ms == pytest.approx(53)


def test_marks_of_a_device_are_read_when_asked_for():
    """As CUDA events: a mark has no time until the device has come by."""
    marks, reached_ms = [], {}

    def record() -> int:
        marks.append(len(marks))
        return marks[-1]

    timer = StageTimer(record, lambda earlier, later: reached_ms[later] - reached_ms[earlier])
    timer.mark("vision")
    timer.mark("llm")
    reached_ms |= {0: 1.0, 1: 5.0, 2: 25.0}
    assert (timer.stages_ms(), timer.total_ms) == ({"vision": 4.0, "llm": 20.0}, 24.0)


def test_percentiles_without_warm_up():
    window = LatencyWindow(size=200, warm_up=2)
    for latency_ms in (5000.0, 900.0):
        window.add(latency_ms)
    assert window.summary() is None
    for latency_ms in range(1, 102):
        window.add(latency_ms)
    summary = window.summary()
    assert (summary.count, summary.max_ms) == (101, 101)
    assert (summary.p50_ms, summary.p95_ms, summary.p99_ms) == (51, 96, 100)


def test_percentiles_interpolate_linearly():
    window = LatencyWindow()
    for latency_ms in (10.0, 20.0):
        window.add(latency_ms)
    assert window.summary().p95_ms == pytest.approx(19.5)


def test_the_window_forgets_the_oldest_and_reset_starts_again():
    window = LatencyWindow(size=3, warm_up=1)
    for latency_ms in (9.0, 1.0, 2.0, 3.0, 4.0):
        window.add(latency_ms)
    assert (window.summary().count, window.summary().p50_ms) == (3, 3.0)
    window.reset()
    window.add(9.0)
    assert window.summary() is None


def test_threads_lose_nothing():
    window = LatencyWindow(size=10_000, warm_up=100)
    threads = [threading.Thread(target=lambda: [window.add(1.0) for _ in range(1000)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert window.summary().count == 3900


def test_bad_values_are_refused():
    for wrong in (-1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="latency is"):
            LatencyWindow().add(wrong)
    for wrong in ({"size": 0}, {"warm_up": -1}):
        with pytest.raises(ValueError, match="must be >="):
            LatencyWindow(**wrong)
