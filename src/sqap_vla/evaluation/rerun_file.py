# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""A replay as a recording for the Rerun viewer: frames, tokens, heat map, trajectory, times. `rerun replay.rrd`

Needs rerun-sdk, which is not installed with the package. Timelines: `frame` counts, `stamp` is the image's.

    camera/image, camera/overlay   the frame; the frame with kept tokens by reason and the ring
    camera/image/end_effector      projected end-effector, where it is known
    tokens/reason                  16x16: 0 dropped, then by reason
    tokens/times_kept              16x16: how often each token was kept so far
    chunk/path                     where the chunk would take the end-effector from where it is: x y z [m], base axes
    action/..., recorded/...       first action of the chunk, and the recorded one: m, rad, open fraction
    ms/...                         stage times; ms/deadline: one row of the chunk
    instruction                    the task in words
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np

from sqap_vla.evaluation.statistics import MOTION_DIMENSIONS
from sqap_vla.evaluation.step import StepRecord, stage_times
from sqap_vla.evaluation.summary import RunInfo
from sqap_vla.pruning.overlay import draw_overlay
from sqap_vla.pruning.selection import Reason

FILE = "replay.rrd"
GRID = 16
NAMES = (*(name for name, _ in MOTION_DIMENSIONS), "gripper_open")
DROPPED = (40, 40, 40)
COLORS = {
    Reason.ATTENTION: (230, 159, 0),
    Reason.RING: (213, 94, 0),
    Reason.FPS: (86, 180, 233),
    Reason.OTHER: (0, 158, 115),
}


def import_rerun() -> ModuleType:
    """The module rerun. Raises RuntimeError that says what to install."""
    try:
        import rerun
    except ImportError as error:
        raise RuntimeError(f"--rerun needs the Rerun SDK ({error}); install it: pip install rerun-sdk") from error
    return rerun


class RerunFile:
    """Writes `path` frame by frame. Raises RuntimeError without rerun-sdk."""

    def __init__(self, path: Path, info: RunInfo) -> None:
        self._rerun = import_rerun()
        self._info = info
        self._kept = np.zeros((GRID, GRID), np.float32)
        self._frame = 0
        self._stream = self._rerun.RecordingStream("sqap_vla", recording_id=None)
        self._stream.save(path)
        legend = [(0, "dropped", DROPPED), *((int(r) + 1, r.name.lower(), color) for r, color in COLORS.items())]
        self._log("tokens/reason", self._rerun.AnnotationContext(legend), static=True)
        self._log("run", self._rerun.TextDocument(_described(info), media_type="text/markdown"), static=True)
        self._log("ms/deadline", self._rerun.Scalars([1e3 * info.step_s]), static=True)

    def add(self, record: StepRecord, rgb: np.ndarray) -> None:
        """Appends a frame. rgb: uint8 [H, W, 3]."""
        rr = self._rerun
        self._stream.set_time("frame", sequence=self._frame)
        self._stream.set_time("stamp", timestamp=np.datetime64(record.stamp_ns, "ns"))
        self._frame += 1
        self._log("camera/image", rr.Image(rgb).compress(jpeg_quality=85))
        overlay = draw_overlay(rgb, record.selection, record.ring, [])
        self._log("camera/overlay", rr.Image(overlay).compress(jpeg_quality=85))
        pixel = [] if record.ring.pixel is None else [record.ring.pixel]
        self._log("camera/image/end_effector", rr.Points2D(pixel, radii=4.0, colors=[COLORS[Reason.RING]]))
        reasons = self._reasons(record)
        self._kept += reasons > 0
        self._log("tokens/reason", rr.SegmentationImage(reasons))
        self._log("tokens/times_kept", rr.Tensor(self._kept, dim_names=("row", "column")))
        path_m = np.vstack([np.zeros(3), np.cumsum(record.actions[:, :3], axis=0)])
        self._log("chunk/path", rr.LineStrips3D([path_m]))
        self._log_action("action", record.actions[0])
        if record.recorded_action is not None:
            self._log_action("recorded", record.recorded_action)
        for stage, value in stage_times(record).items():
            if value is not None:
                self._log(f"ms/{stage.removesuffix('_ms')}", rr.Scalars([value]))
        self._log("instruction", rr.TextLog(record.instruction))

    def close(self) -> None:
        """Everything is on disk afterwards. More than once does no harm."""
        self._stream.flush()
        self._stream.disconnect()

    def _reasons(self, record: StepRecord) -> np.ndarray:
        """uint8 [16, 16]: 0 dropped, reason + 1 kept."""
        reasons = np.zeros(GRID * GRID, np.uint8)
        reasons[record.selection.kept.numpy()] = record.selection.reason.numpy() + 1
        return reasons.reshape(GRID, GRID)

    def _log_action(self, where: str, action: np.ndarray) -> None:
        for name, value in zip(NAMES, action, strict=True):
            if np.isfinite(value):
                self._log(f"{where}/{name}", self._rerun.Scalars([float(value)]))

    def _log(self, where: str, what: object, static: bool = False) -> None:
        self._stream.log(where, what, static=static)


def _described(info: RunInfo) -> str:
    rows = {"bag": info.bag, "checkpoint": info.checkpoint, "method": info.method, "seed": info.seed, "mode": info.mode}
    return "\n".join(f"- {name}: {value}" for name, value in rows.items())
