# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""How far one run's actions are from another's on the same frames: compressed against dense, build against build.

Runs are directories that `sqap-vla replay` wrote. Frames are matched by the image's stamp. What is compared is the
chunks before ensemble and limits, so a difference is the network's own. Motion columns are subtracted; gripper columns
are compared as open or closed.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sqap_vla.evaluation.statistics import GRIPPER, MOTION_DIMENSIONS, deadline_misses, percentiles
from sqap_vla.evaluation.summary import SUMMARY_VERSION
from sqap_vla.runtime.gripper import THRESHOLD
from sqap_vla.runtime.types import ACTION_DIM, CHUNK_STEPS

# Shorter motions of one row have no direction worth comparing: the head's own noise turns them.
STILL_M, STILL_RAD = 1e-3, 2e-3


@dataclass(frozen=True, eq=False)
class Run:
    """One replay. stamps_ns int64 [N], strictly ascending or not; chunks [N, 16, 7]; total_ms: N times or None."""

    name: str
    summary: Mapping[str, Any]
    stamps_ns: np.ndarray
    chunks: np.ndarray
    total_ms: list[float | None]


def read_runs(directories: list[Path]) -> list[Run]:
    """The runs, each under a name of its own. Raises ValueError or OSError where one is none."""
    runs = [read_run(directory) for directory in directories]
    given = [run.name for run in runs]
    # Where methods are the same, the directories tell them apart.
    names = [
        f"{name} ({path})" if given.count(name) > 1 else name for name, path in zip(given, directories, strict=True)
    ]
    return [
        Run(name, run.summary, run.stamps_ns, run.chunks, run.total_ms) for name, run in zip(names, runs, strict=True)
    ]


def read_run(directory: Path) -> Run:
    """Raises ValueError or OSError that says what is missing and how to make it."""
    remedy = "give a directory that `sqap-vla replay --out` wrote"
    for name in ("summary.json", "chunks.npz", "timings.csv"):
        if not (directory / name).is_file():
            raise FileNotFoundError(f"{directory} has no {name}; {remedy}")
    try:
        summary = json.loads((directory / "summary.json").read_text(encoding="utf-8"))
        with np.load(directory / "chunks.npz", allow_pickle=False) as arrays:
            stamps_ns, chunks = arrays["stamps_ns"], arrays["actions"]
        with (directory / "timings.csv").open(newline="", encoding="utf-8") as file:
            total_ms = [float(row["total_ms"]) if row["total_ms"] else None for row in csv.DictReader(file)]
        if summary["version"] != SUMMARY_VERSION:
            raise ValueError(f"summary has version {summary['version']}, this program reads {SUMMARY_VERSION}")
        label = " ".join(
            [summary["run"]["method"], (summary["run"]["precision"] or summary["run"]["dtype"]).split()[0]]
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{directory} cannot be read ({error}); {remedy}") from error
    if chunks.shape != (len(stamps_ns), CHUNK_STEPS, ACTION_DIM) or len(total_ms) != len(stamps_ns):
        raise ValueError(
            f"{directory}: {len(stamps_ns)} stamps, chunks {chunks.shape}, {len(total_ms)} times; {remedy}"
        )
    return Run(label, summary, stamps_ns, chunks, total_ms)


def compare(reference: Run, other: Run) -> dict[str, Any]:
    """Plain JSON values, None where nothing could be compared.

    dimensions: of the first action. by_row: mean length of the difference of row r, in m and rad; of the difference of
    where rows 0 to r lead to, in m; mean cosine of the angle between the two; and how often the gripper disagrees.
    cosine: mean over frames, of the first action's translation and rotation.
    Raises ValueError where the runs share no frame.
    """
    _, ours, theirs = np.intersect1d(reference.stamps_ns, other.stamps_ns, return_indices=True)
    if not len(ours):
        raise ValueError(f"{reference.name} and {other.name} have no frame in common; compare replays of one bag")
    first, second = reference.chunks[ours], other.chunks[theirs]
    difference = second - first
    disagree = (first[:, :, GRIPPER] > THRESHOLD) != (second[:, :, GRIPPER] > THRESHOLD)  # [N, 16]
    return {
        "name": other.name,
        "frames": len(ours),
        "dimensions": [
            {
                "name": name,
                "unit": unit,
                "mean_abs": float(np.abs(difference[:, 0, column]).mean()),
                "p95_abs": float(np.percentile(np.abs(difference[:, 0, column]), 95)),
                "max_abs": float(np.abs(difference[:, 0, column]).max()),
                "bias": float(difference[:, 0, column].mean()),
                "reference_std": float(first[:, 0, column].std()),
            }
            for column, (name, unit) in enumerate(MOTION_DIMENSIONS)
        ],
        "cosine": {
            "translation": mean_cosine(first[:, 0, :3], second[:, 0, :3], STILL_M),
            "rotation": mean_cosine(first[:, 0, 3:6], second[:, 0, 3:6], STILL_RAD),
        },
        "gripper_disagreement_percent": 100.0 * float(disagree[:, 0].mean()),
        "by_row": [
            {
                "row": row,
                "translation_m": float(np.linalg.norm(difference[:, row, :3], axis=1).mean()),
                "rotation_rad": float(np.linalg.norm(difference[:, row, 3:6], axis=1).mean()),
                "led_to_m": float(np.linalg.norm(difference[:, : row + 1, :3].sum(axis=1), axis=1).mean()),
                "cosine": mean_cosine(first[:, row, :3], second[:, row, :3], STILL_M),
                "gripper_disagreement_percent": 100.0 * float(disagree[:, row].mean()),
            }
            for row in range(CHUNK_STEPS)
        ],
    }


def mean_cosine(first: np.ndarray, second: np.ndarray, still: float) -> float | None:
    """Mean cosine of the angle between vectors [N, 3]; frames in which one of them is shorter than `still` are left
    out."""
    lengths = np.linalg.norm(first, axis=1), np.linalg.norm(second, axis=1)
    moving = np.minimum(*lengths) >= still
    if not moving.any():
        return None
    return float(((first * second).sum(axis=1)[moving] / (lengths[0] * lengths[1])[moving]).mean())


def latency(run: Run) -> dict[str, Any]:
    """Of the inferences after the warm-up, and how many took longer than a row of the chunk lasts."""
    warm_up, step_s = run.summary["latency"]["warm_up_frames"], run.summary["run"]["step_s"]
    times, missed = percentiles(run.total_ms, warm_up), deadline_misses(run.total_ms, step_s, warm_up)
    return {
        "name": run.name,
        "frames": times.count,
        "p50_ms": times.p50,
        "p95_ms": times.p95,
        "max_ms": times.max,
        "deadline_ms": missed.step_ms,
        "missed_percent": missed.percent,
    }
