# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""One replayed frame: what the policy did with it, and its row in steps.csv.

steps.csv holds what depends on the inputs alone, so that two offline runs of one bag with one seed give the
same bytes; wall times go to timings.csv. Floats are written with repr, which reads back to the same float64.
Empty cells mean "there is none".

    step, stamp_ns              frame number from 0; stamp of the image [ns]
    ee_u_px, ee_v_px            projected end-effector in the full-size image
    ee_inside                   1 inside the image's borders, 0 outside
    kept                        all kept token indices (16 * t_v + t_u), ascending, separated by spaces
    kept_attention, kept_ring, kept_fps, kept_other
                                the same indices by reason, each under one
    a0..a6                      first action of the chunk: dx dy dz [m], droll dpitch dyaw [rad], gripper open
    fallback                    why the method ran without geometry
    r0..r6                      recorded action, in the recording's own gripper convention
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sqap_vla.pruning.ring import Ring
from sqap_vla.pruning.selection import Reason, TokenSelection
from sqap_vla.runtime.types import ACTION_DIM, CHUNK_STEPS, ActionChunk, Observation, StageTimes

REASON_COLUMNS: dict[str, Reason] = {
    "kept_attention": Reason.ATTENTION,
    "kept_ring": Reason.RING,
    "kept_fps": Reason.FPS,
    "kept_other": Reason.OTHER,
}
STEP_COLUMNS = (
    "step",
    "stamp_ns",
    "ee_u_px",
    "ee_v_px",
    "ee_inside",
    "kept",
    *REASON_COLUMNS,
    *(f"a{i}" for i in range(ACTION_DIM)),
    "fallback",
    *(f"r{i}" for i in range(ACTION_DIM)),
)
STAGES = ("preprocess_ms", "vision_ms", "llm_ms", "head_ms", "total_ms", "wall_ms")
TIMING_COLUMNS = ("step", "stamp_ns", *STAGES, "warm_up")


@dataclass(frozen=True, eq=False)
class StepRecord:
    """One inference of a replay.

    actions: float64 [16, 7], un-normalised chunk. selection: on the CPU. image_size: (width, height) of the
    frame [px]. times: None where they are not known. wall_ms: image handed over to chunk received, as the
    caller measured it. recorded_action: [7] as recorded, or None. Raises ValueError for other shapes.
    fallback: '' or a reason on one line.
    """

    stamp_ns: int
    actions: np.ndarray
    selection: TokenSelection
    ring: Ring
    image_size: tuple[int, int]
    instruction: str = ""
    fallback: str = ""
    times: StageTimes | None = None
    wall_ms: float | None = None
    recorded_action: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.actions.shape != (CHUNK_STEPS, ACTION_DIM):
            raise ValueError(f"actions has shape {self.actions.shape}; it must be [{CHUNK_STEPS}, {ACTION_DIM}]")
        if not self.fallback.isprintable():
            raise ValueError(
                f"fallback is {self.fallback!r}; it must be one line, such as no_camera_info"
            )  # csv does not quote "\r"
        if self.recorded_action is not None and self.recorded_action.shape != (ACTION_DIM,):
            raise ValueError(
                f"recorded_action has shape {self.recorded_action.shape}; it must be [{ACTION_DIM}], or None"
            )

    @classmethod
    def from_chunk(
        cls,
        chunk: ActionChunk,
        observation: Observation,
        recorded_action: Sequence[float] | None = None,
        wall_ms: float | None = None,
    ) -> StepRecord:
        """What the engine made of an observation."""
        height, width = observation.rgb.shape[:2]
        recorded = None if recorded_action is None else np.asarray(recorded_action, np.float64)
        return cls(
            stamp_ns=chunk.stamp_ns,
            actions=chunk.actions,
            selection=chunk.selection.cpu(),
            ring=chunk.ring,
            image_size=(width, height),
            instruction=observation.instruction,
            fallback=chunk.fallback,
            times=chunk.times,
            wall_ms=wall_ms,
            recorded_action=recorded,
        )

    @property
    def pixel_inside(self) -> bool | None:
        """Whether the projected end-effector is inside the image; None where it has no pixel."""
        if self.ring.pixel is None:
            return None
        return all(0 <= value < size for value, size in zip(self.ring.pixel, self.image_size, strict=True))


@dataclass(frozen=True)
class StepRow:
    """A row of steps.csv in plain Python types; equal rows have equal text."""

    step: int
    stamp_ns: int
    pixel: tuple[float, float] | None
    inside: bool | None
    kept: tuple[int, ...]
    by_reason: dict[Reason, tuple[int, ...]]
    action: tuple[float, ...]
    fallback: str = ""
    recorded: tuple[float, ...] | None = None

    @classmethod
    def of(cls, step: int, record: StepRecord) -> StepRow:
        kept = record.selection.kept.numpy()
        reason = record.selection.reason.numpy()
        pixel = record.ring.pixel
        return cls(
            step=step,
            stamp_ns=int(record.stamp_ns),
            pixel=None if pixel is None else (float(pixel[0]), float(pixel[1])),
            inside=record.pixel_inside,
            kept=tuple(kept.tolist()),
            by_reason={r: tuple(kept[reason == r].tolist()) for r in REASON_COLUMNS.values()},
            action=tuple(record.actions[0].tolist()),
            fallback=record.fallback,
            recorded=None if record.recorded_action is None else tuple(record.recorded_action.tolist()),
        )

    def cells(self) -> list[str]:
        """The row's text, one per STEP_COLUMNS."""
        u, v = ("", "") if self.pixel is None else map(repr, self.pixel)
        inside = "" if self.inside is None else str(int(self.inside))
        indices = [
            " ".join(map(str, tokens)) for tokens in (self.kept, *(self.by_reason[r] for r in REASON_COLUMNS.values()))
        ]
        recorded = [""] * ACTION_DIM if self.recorded is None else list(map(repr, self.recorded))
        return [
            str(self.step),
            str(self.stamp_ns),
            u,
            v,
            inside,
            *indices,
            *map(repr, self.action),
            self.fallback,
            *recorded,
        ]

    @classmethod
    def parse(cls, cells: dict[str, str]) -> StepRow:
        """The row from its cells by column name. Raises ValueError for text that `cells` does not write."""

        def indices(column: str) -> tuple[int, ...]:
            return tuple(map(int, cells[column].split()))

        def floats(prefix: str) -> tuple[float, ...]:
            return tuple(float(cells[f"{prefix}{i}"]) for i in range(ACTION_DIM))

        return cls(
            step=int(cells["step"]),
            stamp_ns=int(cells["stamp_ns"]),
            pixel=(float(cells["ee_u_px"]), float(cells["ee_v_px"])) if cells["ee_u_px"] else None,
            inside=bool(int(cells["ee_inside"])) if cells["ee_inside"] else None,
            kept=indices("kept"),
            by_reason={reason: indices(column) for column, reason in REASON_COLUMNS.items()},
            action=floats("a"),
            fallback=cells["fallback"],
            recorded=floats("r") if cells["r0"] else None,
        )


def read_steps(path: Path | str) -> Iterator[StepRow]:
    """Rows of a steps.csv, in order. Raises ValueError for a file without its columns."""
    with Path(path).open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        missing = set(STEP_COLUMNS).difference(reader.fieldnames or ())
        if missing:
            raise ValueError(
                f"{path} lacks the columns {sorted(missing)}; give a steps.csv that `sqap-vla replay` wrote"
            )
        for cells in reader:
            yield StepRow.parse(cells)


def timing_cells(step: int, record: StepRecord, warm_up: bool) -> list[str]:
    """Row of timings.csv, one text per TIMING_COLUMNS; milliseconds with three decimals."""
    return [
        str(step),
        str(record.stamp_ns),
        *("" if ms is None else f"{ms:.3f}" for ms in stage_times(record).values()),
        str(int(warm_up)),
    ]


def stage_times(record: StepRecord) -> dict[str, float | None]:
    """Milliseconds by STAGES."""
    known = (
        {stage: getattr(record.times, stage) for stage in STAGES[:-1]} if record.times else dict.fromkeys(STAGES[:-1])
    )
    return {**known, "wall_ms": record.wall_ms}
