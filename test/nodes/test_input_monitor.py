# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Rates that fall when messages stop, stamps that can be believed, and a clock that goes back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("rclpy", reason="needs ROS 2")

from sqap_vla.nodes import input_monitor
from sqap_vla.nodes.conversions import InputError
from sqap_vla.nodes.input_monitor import ClockWatch, InputMonitor, StampGate

SECOND = 1_000_000_000
NOW = 1_000 * SECOND


class Steady:
    """The steady clock, set by hand."""

    def __init__(self) -> None:
        self.now_s = 50.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def steady(monkeypatch: pytest.MonkeyPatch) -> Steady:
    clock = Steady()
    monkeypatch.setattr(input_monitor, "time", clock)
    return clock


def test_nothing_heard_has_no_age_and_no_rate(steady: Steady):
    monitor = InputMonitor()
    assert (monitor.age_s(), monitor.rate_hz(), monitor.last_stamp_ns, monitor.count) == (None, 0.0, None, 0)


def test_the_rate_is_the_mean_over_the_window_and_falls_in_silence(steady: Steady):
    monitor = InputMonitor(window=5)
    for number in range(20):
        steady.now_s += 0.5 if number < 10 else 0.1
        monitor.arrived(number)
    assert monitor.rate_hz() == pytest.approx(10.0)
    assert (monitor.count, monitor.last_stamp_ns) == (20, 19)
    steady.now_s += 3.6
    assert monitor.age_s() == pytest.approx(3.6)
    assert monitor.rate_hz() == pytest.approx(1.0)


def test_one_arrival_is_no_rate_and_two_at_once_no_division_by_zero(steady: Steady):
    monitor = InputMonitor()
    monitor.arrived()
    assert monitor.rate_hz() == 0.0
    monitor.arrived()
    assert monitor.rate_hz() == pytest.approx(1e6)


def refused(gate: StampGate, stamp_ns: int, now_ns: int = NOW) -> str:
    with pytest.raises(InputError) as caught:
        gate.check(stamp_ns, now_ns)
    return caught.value.reason


def test_fresh_stamps_in_order_pass():
    gate = StampGate(max_age_s=0.5, future_tolerance_s=0.1)
    for age_ns in (SECOND // 2, SECOND // 4, 0, -SECOND // 10):  # the bounds are inside
        gate.check(NOW - age_ns, NOW)


def test_each_bad_stamp_has_its_reason():
    gate = StampGate(max_age_s=0.5, future_tolerance_s=0.1)
    assert refused(gate, NOW - SECOND // 2 - 1_000_000) == "image_stale"
    assert refused(gate, NOW + SECOND // 10 + 1_000_000) == "stamp_in_future"
    assert refused(gate, 0) == refused(gate, -SECOND) == "stamp_missing"
    gate.check(NOW, NOW)
    assert refused(gate, NOW) == "image_out_of_order", "a second copy"
    assert refused(gate, NOW - 1) == "image_out_of_order"
    gate.check(NOW + 1, NOW)


def test_a_stamp_of_zero_is_missing_whatever_the_clock_says():
    """A clock that nobody publishes stands at zero, and so does a bag's image clock without stamps."""
    assert refused(StampGate(max_age_s=0.5, future_tolerance_s=0.1), 0, now_ns=0) == "stamp_missing"


def test_a_refused_stamp_does_not_shut_out_the_next_ones():
    gate = StampGate(max_age_s=0.5, future_tolerance_s=0.1)
    assert refused(gate, NOW + 10 * SECOND) == "stamp_in_future"
    gate.check(NOW, NOW)


def test_after_a_reset_an_older_stamp_passes():
    gate = StampGate(max_age_s=0.5, future_tolerance_s=0.1)
    gate.check(NOW, NOW)
    gate.reset()
    gate.check(NOW - SECOND, NOW - SECOND)


@given(st.lists(st.integers(-2 * SECOND, 2 * SECOND)), st.integers(0, SECOND), st.integers(0, SECOND))
def test_what_passes_is_fresh_and_strictly_rising(offsets_ns: list[int], max_age_ns: int, tolerance_ns: int):
    gate = StampGate(max_age_ns / 1e9, tolerance_ns / 1e9)
    passed = []
    for offset_ns in offsets_ns:
        try:
            gate.check(NOW + offset_ns, NOW)
        except InputError as error:
            assert error.reason in ("image_stale", "stamp_in_future", "image_out_of_order")
        else:
            passed.append(offset_ns)
    assert passed == sorted(set(passed))
    assert all(-max_age_ns <= offset_ns <= tolerance_ns for offset_ns in passed)


def test_a_clock_that_goes_back_is_told_once_per_jump():
    watch = ClockWatch()
    times = [0, 5, 5, 9, 3, 3, 4, 1, 10]
    assert [watch.jumped_back(now) for now in times] == [False, False, False, False, True, False, False, True, False]


def test_a_clock_that_stands_still_is_noticed_by_the_wall(steady: Steady):
    watch = ClockWatch()
    watch.jumped_back(5)
    steady.now_s += 2.0
    watch.jumped_back(5)
    assert watch.still_s() == 2.0
    watch.jumped_back(6)
    assert watch.still_s() == 0.0
    steady.now_s += 3.0
    watch.restart_still()
    assert watch.still_s() == 0.0
