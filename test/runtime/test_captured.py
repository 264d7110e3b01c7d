# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""What of CUDA's steps and marks can be seen without a GPU."""

from __future__ import annotations

from sqap_vla.runtime.captured import CapturedStep, CudaMarks
from sqap_vla.runtime.timing import StageTimer


class Event:
    """As torch.cuda.Event: a record takes the place of the one before."""

    now_ms = 0.0

    def record(self) -> None:
        self.reached_ms = Event.now_ms

    def elapsed_time(self, later: Event) -> float:
        return later.reached_ms - self.reached_ms


def test_marks_are_made_once_and_tell_each_inference_its_own_times():
    made = []

    def make() -> Event:
        made.append(Event())
        return made[-1]

    marks = CudaMarks(make)
    for stages in ({"vision": 3.0}, {"vision": 4.0, "llm": 7.0, "head": 1.0}, {"vision": 5.0, "llm": 2.0}):
        marks.restart()
        timer = StageTimer(marks.record, marks.elapsed_ms)
        for stage, took_ms in stages.items():
            Event.now_ms += took_ms
            timer.mark(stage)
        assert timer.stages_ms() == stages
    assert len(made) == 4


def test_without_a_device_a_step_runs_as_it_is():
    ran = []
    step = CapturedStep(lambda: ran.append(1), None)
    step()
    step()
    assert ran == [1, 1] and not step.captured
