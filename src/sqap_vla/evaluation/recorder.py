# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Writes what a replay leaves behind, frame by frame.

    steps.csv, timings.csv       a row per frame (columns: see step.py), on disk as soon as the frame is done
    overlay.mp4 or overlay.gif   every frame with its kept tokens
    overlay_strip.png            evenly spaced frames of it
    actions.png, latency.png     plots
    chunks.npz                   stamps_ns int64 [N] and the whole chunks, actions float64 [N, 16, 7]
    summary.json, report.md      written by finish(), as the four before

If the process dies, the finished rows of the two CSV files stay. steps.csv depends on bag, checkpoint, method
and seed alone.
"""

from __future__ import annotations

import csv
import json
import logging
import os
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import numpy as np

from sqap_vla.evaluation import environment, plots, report
from sqap_vla.evaluation.pictures import PictureStrip, VideoWriter
from sqap_vla.evaluation.step import STEP_COLUMNS, TIMING_COLUMNS, StepRecord, StepRow, timing_cells
from sqap_vla.evaluation.summary import RunInfo, Series, summarize
from sqap_vla.pruning.overlay import draw_overlay

logger = logging.getLogger(__name__)

MAX_EXAMPLES = 5
OUTPUTS = (
    "steps.csv",
    "timings.csv",
    "chunks.npz",
    "summary.json",
    "report.md",
    "overlay.mp4",
    "overlay.gif",
    "overlay_strip.png",
    "actions.png",
    "latency.png",
    "replay.rrd",
)


class ReplayRecorder:
    """One replay's output directory.

        with ReplayRecorder(out, info) as recorder:
            for ...:
                recorder.add(StepRecord.from_chunk(chunk, observation, recorded), observation.rgb)
        summary = recorder.finish()

    The directory is made; outputs of an earlier replay in it are removed. Raises OSError where it cannot be
    written. strip_frames: pictures in the strip. video: whether to write one.
    """

    def __init__(self, directory: Path | str, info: RunInfo, strip_frames: int = 8, video: bool = True) -> None:
        self.directory = Path(directory)
        self.info = info
        _clear(self.directory)
        self._records: list[StepRecord] = []
        self._skipped: Counter[str] = Counter()
        self._examples: list[dict[str, Any]] = []
        self._warnings: Counter[str] = Counter()
        self._strip = PictureStrip(strip_frames)
        self._video = VideoWriter(self.directory, "overlay", 1 / info.step_s) if video else None
        self._steps = _CsvFile(self.directory / "steps.csv", STEP_COLUMNS)
        self._timings = _CsvFile(self.directory / "timings.csv", TIMING_COLUMNS)

    def __enter__(self) -> ReplayRecorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        """Frames recorded so far."""
        return len(self._records)

    def add(self, record: StepRecord, rgb: np.ndarray | None = None) -> None:
        """Appends a frame. rgb: uint8 [H, W, 3] for the pictures; None leaves it out of them."""
        step = len(self._records)
        self._steps.write(StepRow.of(step, record).cells())
        self._timings.write(timing_cells(step, record, step < self.info.warm_up_frames))
        self._records.append(record)
        if rgb is not None:
            picture = draw_overlay(rgb, record.selection, record.ring, _text(step, record, self.info))
            self._strip.add(picture)
            if self._video is not None:
                self._video.add(picture)

    def skip(self, stamp_ns: int, reason: str, detail: str) -> None:
        """Notes a frame of the bag that could not be used."""
        self._skipped[reason] += 1
        if len(self._examples) < MAX_EXAMPLES:
            self._examples.append({"stamp_ns": stamp_ns, "reason": reason, "detail": detail})

    def warn(self, reason: str) -> None:
        """Notes a frame that was used although something was missing, such as a camera transform."""
        self._warnings[reason] += 1

    def close(self) -> None:
        """Closes the files. Done by finish() and by leaving the with block; more than once does no harm."""
        self._steps.close()
        self._timings.close()
        if self._video is not None:
            self._video.close()

    def finish(self, complete: bool = True, episodes: str = "") -> dict[str, Any]:
        """Writes pictures, summary.json and report.md, and returns the summary.

        complete: False where the bag was not read to its end. episodes: how a simulator's episodes ended, in words.
        """
        self.close()
        summary = {
            **summarize(self._records, self.info),
            "complete": complete,
            "episodes": episodes,
            "skipped": {
                "frames": self._skipped.total(),
                "by_reason": dict(self._skipped),
                "examples": self._examples,
            },
            "warnings": dict(self._warnings),
            "pictures": self._pictures(),
            "versions": environment.versions(),
            "hardware": environment.hardware(),
        }
        series = Series.of(self._records, self.info.gripper_kind)
        np.savez(self.directory / "chunks.npz", stamps_ns=series.stamps_ns, actions=series.chunks)
        text = json.dumps(summary, indent=2, allow_nan=False) + "\n"
        (self.directory / "summary.json").write_text(text, encoding="utf-8")
        (self.directory / "report.md").write_text(report.render(summary), encoding="utf-8")
        logger.info("wrote report of %d frames to %s", len(self), self.directory / "report.md")
        return summary

    def _pictures(self) -> dict[str, Any]:
        """Draws what can be drawn and names the files, relative to the directory; None for those that were
        not made.
        """
        series = Series.of(self._records, self.info.gripper_kind)
        actions = latency = None
        if self._records:
            actions = "actions.png"
            times_s = (series.stamps_ns - series.stamps_ns[0]) / 1e9
            plots.plot_actions(
                self.directory / actions, times_s, series.predicted, series.recorded, series.recorded_open
            )
        if any(value is not None for value in series.stages_ms["total_ms"]):
            latency = "latency.png"
            plots.plot_latency(self.directory / latency, series.stages_ms, self.info.step_s, self.info.warm_up_frames)
        strip = self._strip.save(self.directory / "overlay_strip.png")
        video = self._video.path if self._video is not None else None
        return {
            "overlay_strip": strip.name if strip else None,
            "strip_frames": self._strip.chosen(),
            "overlay_video": video.name if video else None,
            "video_codec": self._video.codec if video and self._video else None,
            "actions": actions,
            "latency": latency,
        }


def check_directory(directory: Path) -> None:
    """Whether a report can be written to `directory`, asked before a model is loaded. Makes nothing.

    Raises OSError.
    """
    existing = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise _unwritable(directory, f"{existing} is a file")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise _unwritable(directory, f"no permission to write to {existing}")


def _clear(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name in OUTPUTS:
            (directory / name).unlink(missing_ok=True)
    except OSError as error:
        raise _unwritable(directory, error.strerror or str(error)) from error


def _unwritable(directory: Path, why: str) -> OSError:
    return OSError(f"nothing can be written to the report's directory {directory} ({why}); choose another one")


class _CsvFile:
    """A CSV file whose rows are handed to the operating system one by one."""

    def __init__(self, path: Path, columns: tuple[str, ...]) -> None:
        self._file: TextIO = path.open("w", newline="", encoding="utf-8")
        self._writer = csv.writer(self._file, lineterminator="\n")
        self.write(columns)

    def write(self, cells: tuple[str, ...] | list[str]) -> None:
        self._writer.writerow(cells)
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def _text(step: int, record: StepRecord, info: RunInfo) -> tuple[str, str]:
    """The two lines under an overlay picture."""
    x, y, z, *_, gripper = record.actions[0]
    instruction = f" | {record.instruction}" if record.instruction else ""
    fallback = f" | {record.fallback}" if record.fallback else ""
    return (
        f"{step} | {info.method}{instruction}",
        f"dx {1e3 * x:+.1f} dy {1e3 * y:+.1f} dz {1e3 * z:+.1f} mm | gripper {gripper:.2f}{fallback}",
    )
