# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""A step of fixed shapes, and what it takes to replay it on CUDA without launching its kernels one by one.

A step is a function without arguments and result. It reads and writes tensors that live as long as it does, always the
same ones, never asks the device for a value and touches no host memory. On CUDA it is captured into a graph when it is
first called; elsewhere it runs as it is, so that the very same functions are tested there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

WARM_UP_RUNS = 3  # kernels are chosen, compiled and their tables uploaded before the capture


class CudaMarks:
    """For StageTimer: events on the current stream, and the milliseconds between two that were reached. They are made
    once: after `restart` the same ones are used again, so the times before must have been read by then.
    """

    def __init__(self, make: Callable[[], Any] = lambda: torch.cuda.Event(enable_timing=True)) -> None:
        self._make, self._events, self._used = make, [], 0

    def restart(self) -> None:
        self._used = 0

    def record(self) -> Any:
        if self._used == len(self._events):
            self._events.append(self._make())
        event = self._events[self._used]
        self._used += 1
        event.record()
        return event

    @staticmethod
    def elapsed_ms(earlier: Any, later: Any) -> float:
        return earlier.elapsed_time(later)


class CapturedStep:
    """run: the step. device: the CUDA device of its tensors; None runs it as it is. pool: memory that the graphs of one
    pipeline share, which are replayed one after another (torch.cuda.graph_pool_handle()); None is memory of its own,
    which goes with it.
    """

    def __init__(self, run: Callable[[], None], device: torch.device | None, pool: object | None = None) -> None:
        self._run, self._device, self._pool = run, device, pool
        self._graph: torch.cuda.CUDAGraph | None = None

    @property
    def captured(self) -> bool:
        return self._graph is not None

    def __call__(self) -> None:
        if self._device is None:
            self._run()
            return
        if self._graph is None:
            self._graph = self._capture()
        self._graph.replay()

    def _capture(self) -> torch.cuda.CUDAGraph:
        """Everything on one side stream: what is launched on another would not be part of the graph."""
        with torch.cuda.device(self._device):
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(WARM_UP_RUNS):
                    self._run()
            torch.cuda.current_stream().wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            # thread_local: another thread may load the next model while this one captures.
            with torch.cuda.graph(graph, pool=self._pool, stream=stream, capture_error_mode="thread_local"):
                self._run()
        return graph
