# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Wall times of the stages of one inference, and percentiles over the latest inferences. Milliseconds."""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


def _host_ms(earlier_s: float, later_s: float) -> float:
    return 1e3 * (later_s - earlier_s)


class StageTimer:
    """Times the stages of one inference, each from the mark before to its own; one timer per inference, one thread.

    record: takes a mark. elapsed_ms: the time between two of them. By default the host's clock; for work that is queued
    on a device, marks that the device takes itself (`CudaMarks` of captured.py), so that timing waits for nothing.
    Then times are to be read after the device is done.
    """

    def __init__(
        self,
        record: Callable[[], Any] = time.perf_counter,
        elapsed_ms: Callable[[Any, Any], float] = _host_ms,
    ) -> None:
        self._record, self._elapsed_ms = record, elapsed_ms
        self._marks: list[tuple[str, Any]] = [("", record())]

    def mark(self, stage: str) -> None:
        """The end of a stage. A name used again adds up."""
        self._marks.append((stage, self._record()))

    def stages_ms(self) -> dict[str, float]:
        """Time of each finished stage, in the order in which they first ended."""
        times_ms: dict[str, float] = {}
        for (_, start), (name, end) in itertools.pairwise(self._marks):
            times_ms[name] = times_ms.get(name, 0.0) + self._elapsed_ms(start, end)
        return times_ms

    @property
    def total_ms(self) -> float:
        """From the making of the timer to the last mark."""
        return self._elapsed_ms(self._marks[0][1], self._marks[-1][1])


@dataclass(frozen=True)
class LatencySummary:
    """Percentiles over `count` latencies."""

    count: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float


class LatencyWindow:
    """The latest `size` latencies after the first `warm_up`, which are left out. Safe to use from several
    threads.

    Percentiles interpolate linearly between ranks (numpy's default).
    Raises ValueError for a size below 1 or a negative warm-up.
    """

    def __init__(self, size: int = 200, warm_up: int = 0) -> None:
        if size < 1 or warm_up < 0:
            raise ValueError(f"size is {size} and warm_up {warm_up}; size must be >= 1, warm_up >= 0")
        self._warm_up = warm_up
        self._lock = threading.Lock()
        self._latencies_ms: deque[float] = deque(maxlen=size)
        self._left_to_skip = warm_up

    def add(self, latency_ms: float) -> None:
        """Raises ValueError for a latency that is negative or not finite."""
        if not (math.isfinite(latency_ms) and latency_ms >= 0):
            raise ValueError(f"latency is {latency_ms} ms; it must be finite and >= 0")
        with self._lock:
            if self._left_to_skip > 0:
                self._left_to_skip -= 1
            else:
                self._latencies_ms.append(float(latency_ms))

    def summary(self) -> LatencySummary | None:
        """None until something is left after the warm-up."""
        with self._lock:
            latencies_ms = list(self._latencies_ms)
        if not latencies_ms:
            return None
        p50, p95, p99 = (float(value) for value in np.percentile(latencies_ms, (50, 95, 99)))
        return LatencySummary(len(latencies_ms), p50, p95, p99, max(latencies_ms))

    def reset(self) -> None:
        """Start again, warm-up included, after the model was changed."""
        with self._lock:
            self._latencies_ms.clear()
            self._left_to_skip = self._warm_up
