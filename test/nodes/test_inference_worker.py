# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The thread that runs inference: newest frame only, alive after errors, ended when asked."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from sqap_vla.nodes.inference_worker import InferenceWorker

TIMEOUT_S = 20.0


class Slow:
    """An inference that begins, and ends when the test says so."""

    def __init__(self) -> None:
        self.ran: list[object] = []
        self.errors: list[Exception] = []
        self.begun = threading.Semaphore(0)
        self.done = threading.Semaphore(0)
        self.worker = InferenceWorker(self.run, self.fail)

    def run(self, frame: object) -> None:
        self.ran.append(frame)
        self.begun.release()
        assert self.done.acquire(timeout=TIMEOUT_S)
        if isinstance(frame, Exception):
            raise frame

    def fail(self, error: Exception) -> None:
        self.errors.append(error)

    def wait_begun(self) -> None:
        assert self.begun.acquire(timeout=TIMEOUT_S)


@pytest.fixture
def slow() -> Iterator[Slow]:
    slow = Slow()
    yield slow
    for _ in range(10):
        slow.done.release()
    assert slow.worker.stop(TIMEOUT_S)


def test_of_the_frames_that_come_meanwhile_only_the_newest_is_run(slow: Slow):
    slow.worker.submit(0)
    slow.wait_begun()
    for frame in range(1, 6):
        slow.worker.submit(frame)
    slow.done.release()
    slow.wait_begun()
    assert slow.ran == [0, 5]
    assert slow.worker.replaced == 4


def test_an_error_is_told_and_the_next_frame_runs(slow: Slow):
    error = RuntimeError("out of memory")
    slow.worker.submit(error)
    slow.wait_begun()
    slow.done.release()
    slow.worker.submit(1)
    slow.wait_begun()
    assert slow.errors == [error] and slow.ran == [error, 1]


def test_a_waiting_frame_can_be_forgotten(slow: Slow):
    slow.worker.submit(0)
    slow.wait_begun()
    slow.worker.submit(1)
    slow.worker.clear()
    slow.worker.submit(2)
    slow.done.release()
    slow.wait_begun()
    assert slow.ran == [0, 2] and slow.worker.replaced == 0


def test_it_tells_how_long_it_has_been_busy(slow: Slow):
    assert slow.worker.busy_s() == 0.0
    slow.worker.submit(0)
    slow.wait_begun()
    first_s = slow.worker.busy_s()
    assert 0.0 <= first_s <= slow.worker.busy_s()


def test_a_stop_ends_the_thread_after_the_running_frame_and_drops_the_waiting_one():
    slow = Slow()
    slow.worker.submit(0)
    slow.wait_begun()
    slow.worker.submit(1)
    assert not slow.worker.stop(0.05), "the first frame is still running"
    slow.done.release()
    assert slow.worker.stop(TIMEOUT_S)
    assert slow.ran == [0]


def test_an_idle_thread_ends_at_once_and_takes_nothing_more():
    slow = Slow()
    assert slow.worker.stop(TIMEOUT_S)
    slow.worker.submit(0)
    assert slow.worker.stop(TIMEOUT_S) and slow.ran == []
