# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Wall times of the stages of one inference, and percentiles over the latest inferences. Milliseconds."""
from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np


class StageTimer:
    """Times named stages of one inference; one timer per inference, one thread.

    synchronize: called at both ends of a stage so that work queued on a device is counted where it was
    queued, e.g. torch.cuda.synchronize; None on the CPU.
    """

    def __init__(self, synchronize: Callable[[], None] | None = None,
                 clock_s: Callable[[], float] = time.perf_counter) -> None:
        self._synchronize = synchronize
        self._clock_s = clock_s
        self._stages_ms: dict[str, float] = {}
        self._start_s = self._now_s()
        self._end_s = self._start_s

    def _now_s(self) -> float:
        if self._synchronize is not None:
            self._synchronize()
        return self._clock_s()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time the body of the `with`. A name used again adds up; a body that raises is counted too."""
        start_s = self._now_s()
        try:
            yield
        finally:
            self._end_s = self._now_s()
            self._stages_ms[name] = self._stages_ms.get(name, 0.0) + 1e3 * (self._end_s - start_s)

    def stage_ms(self, name: str) -> float:
        """Time of a finished stage. Raises KeyError that lists the stages timed so far."""
        if name not in self._stages_ms:
            raise KeyError(f"stage {name!r} was not timed; timed were {', '.join(self._stages_ms) or 'none'}")
        return self._stages_ms[name]

    @property
    def total_ms(self) -> float:
        """From the making of the timer to the end of the last stage, gaps between stages included."""
        return 1e3 * (self._end_s - self._start_s)


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
