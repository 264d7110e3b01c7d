# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""What was run, and the numbers of summary.json that follow from its frames."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from sqap_vla.evaluation import statistics
from sqap_vla.evaluation.step import STAGES, StepRecord, stage_times
from sqap_vla.runtime.gripper import GRIPPER_KINDS
from sqap_vla.runtime.types import ACTION_DIM, CHUNK_STEPS

SUMMARY_VERSION = 1


@dataclass(frozen=True)
class RunInfo:
    """What was run, as it goes into the report.

    bag, checkpoint: names or paths. mode: offline | live. gripper_kind: convention of the recorded gripper numbers.
    step_s: time of one row of the chunk. precision: how the decoder is quantized, '' where it is not. warm_up_frames:
    first frames left out of latency. method_parameters: whatever else defines the method, such as ratio or prune_layer;
    plain JSON values. note: what a reader must know first. Raises ValueError.
    """

    bag: str
    checkpoint: str
    method: str
    seed: int
    step_s: float
    gripper_kind: str
    mode: str = "offline"
    device: str = "cpu"
    dtype: str = "float32"
    precision: str = ""
    warm_up_frames: int = 1
    method_parameters: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""

    def __post_init__(self) -> None:
        if not self.step_s > 0:
            raise ValueError(f"step_s is {self.step_s}; it must be positive, such as 0.2")
        if self.gripper_kind not in GRIPPER_KINDS:
            raise ValueError(f"gripper_kind '{self.gripper_kind}' is not known; known are {', '.join(GRIPPER_KINDS)}")
        if self.mode not in ("offline", "live"):
            raise ValueError(f"mode is '{self.mode}'; it must be offline or live")
        if self.warm_up_frames < 0:
            raise ValueError(f"warm_up_frames is {self.warm_up_frames}; it must be 0 or more")


@dataclass(frozen=True, eq=False)
class Series:
    """The frames of a replay as arrays over time.

    stamps_ns: int64 [N]. chunks: [N, 16, 7]. recorded: [N, 7], NaN where nothing was recorded. recorded_open:
    N open fractions, None where unknown. stages_ms: per stage, N milliseconds or None.
    """

    stamps_ns: np.ndarray
    chunks: np.ndarray
    recorded: np.ndarray
    recorded_open: list[float | None]
    stages_ms: dict[str, list[float | None]]

    @property
    def predicted(self) -> np.ndarray:
        """First action of each chunk, [N, 7]."""
        return self.chunks[:, 0]

    @classmethod
    def of(cls, records: Sequence[StepRecord], gripper_kind: str) -> Series:
        frames, nothing = len(records), np.full(ACTION_DIM, np.nan)
        actions = [r.recorded_action for r in records]
        times = [stage_times(r) for r in records]
        numbers = [None if action is None else float(action[statistics.GRIPPER]) for action in actions]
        return cls(
            stamps_ns=np.array([r.stamp_ns for r in records], np.int64),
            chunks=np.array([r.actions for r in records], np.float64).reshape(frames, CHUNK_STEPS, ACTION_DIM),
            recorded=np.array([nothing if a is None else a for a in actions], np.float64).reshape(frames, ACTION_DIM),
            recorded_open=statistics.recorded_open_states(gripper_kind, numbers),
            stages_ms={stage: [ms[stage] for ms in times] for stage in STAGES},
        )


def summarize(records: Sequence[StepRecord], info: RunInfo) -> dict[str, Any]:
    """Everything in summary.json that depends on the frames: plain JSON values, no NaN."""
    series, warm_up = Series.of(records, info.gripper_kind), info.warm_up_frames
    inside = Counter(r.pixel_inside for r in records)
    return {
        "version": SUMMARY_VERSION,
        "run": asdict(info),
        "frames": len(records),
        "instructions": list(dict.fromkeys(r.instruction for r in records if r.instruction)),
        "fallbacks": dict(Counter(r.fallback for r in records if r.fallback)),
        "ee_pixel": {"inside": inside[True], "outside": inside[False], "none": inside[None]},
        "tokens_kept": statistics.token_counts([r.selection.counts() for r in records]),
        "latency": {
            "warm_up_frames": min(warm_up, len(records)),
            "stages": {s: asdict(statistics.percentiles(ms, warm_up)) for s, ms in series.stages_ms.items()},
        },
        "deadline": asdict(statistics.deadline_misses(series.stages_ms["total_ms"], info.step_s, warm_up)),
        "action_error": [asdict(error) for error in statistics.action_errors(series.predicted, series.recorded)],
        "error_by_chunk_row": statistics.errors_by_chunk_row(
            series.stamps_ns, series.chunks, series.recorded, info.step_s
        ),
        "gripper": asdict(statistics.gripper_agreement(series.predicted[:, statistics.GRIPPER], series.recorded_open)),
    }
