# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Numbers of a replay: tokens, latency, and the distance of predicted from recorded actions.

Plain NumPy on plain arrays. Nothing here is NaN: frames without a recorded action, or with a value that is
not finite, are left out and counted. Gripper columns hold conventions, not quantities, so they are compared
as open or closed, not subtracted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sqap_vla.pruning.selection import Reason
from sqap_vla.runtime.actions import recorded_gripper_open
from sqap_vla.runtime.gripper import THRESHOLD

MOTION_DIMENSIONS = (
    ("dx", "m"),
    ("dy", "m"),
    ("dz", "m"),
    ("droll", "rad"),
    ("dpitch", "rad"),
    ("dyaw", "rad"),
)
GRIPPER = 6


@dataclass(frozen=True)
class DimensionError:
    """Predicted minus recorded, one dimension over the frames compared.

    None where no frame could be compared.
    """

    name: str
    unit: str
    frames: int
    mae: float | None
    rmse: float | None
    max_abs: float | None
    mean: float | None  # signed: a bias shows here


@dataclass(frozen=True)
class GripperAgreement:
    """Open or closed, predicted against recorded. Percent is None where no frame could be compared."""

    compared: int
    agreed: int
    percent: float | None
    predicted_open_recorded_closed: int
    predicted_closed_recorded_open: int
    not_compared: int  # no recorded action, or none yet that says open or closed


@dataclass(frozen=True)
class Percentiles:
    """Of the values kept after the warm-up frames, with linear interpolation between ranks.

    None where there are none.
    """

    count: int
    mean: float | None
    p50: float | None
    p95: float | None
    p99: float | None
    max: float | None


@dataclass(frozen=True)
class DeadlineMisses:
    """Inferences that took longer than one step of the chunk lasts."""

    step_ms: float
    count: int
    missed: int
    percent: float | None


def action_errors(predicted: np.ndarray, recorded: np.ndarray) -> list[DimensionError]:
    """Error of each motion dimension.

    predicted, recorded: [N, >=6], NaN where there is no recorded action.
    """
    errors = []
    for column, (name, unit) in enumerate(MOTION_DIMENSIONS):
        difference = predicted[:, column] - recorded[:, column]
        difference = difference[np.isfinite(difference)]
        size = np.abs(difference)
        errors.append(
            DimensionError(
                name,
                unit,
                len(size),
                *(
                    (
                        float(size.mean()),
                        float(np.sqrt(np.mean(size**2))),
                        float(size.max()),
                        float(difference.mean()),
                    )
                    if len(size)
                    else (None, None, None, None)
                ),
            )
        )
    return errors


def recorded_open_states(kind: str, numbers: Sequence[float | None]) -> list[float | None]:
    """Open fraction that a recording asks for at each frame, in the convention of `kind` (see
    runtime.actions).

    numbers: the raw gripper numbers, None where nothing was recorded. A number that holds (0 on the Google
    robot) keeps the state last asked for, because that is what the robot does with it; before the first
    command that says open or closed the state is unknown, None.
    """
    states: list[float | None] = []
    last: float | None = None
    for number in numbers:
        if number is None or not np.isfinite(number):
            states.append(None)
            continue
        asked = recorded_gripper_open(kind, number)
        last = last if asked is None else asked
        states.append(last)
    return states


def gripper_agreement(predicted_open: np.ndarray, recorded_open: Sequence[float | None]) -> GripperAgreement:
    """Agreement of two open fractions, each taken as open above 0.5.

    predicted_open: [N]. recorded_open: N fractions, None where the recording says nothing.
    """
    says = np.array([value is not None and np.isfinite(value) for value in recorded_open], bool) & np.isfinite(
        predicted_open
    )
    recorded = np.array([0.0 if value is None else value for value in recorded_open], np.float64)[says] > THRESHOLD
    predicted = predicted_open[says] > THRESHOLD
    agreed = int((recorded == predicted).sum())
    return GripperAgreement(
        compared=len(recorded),
        agreed=agreed,
        percent=100.0 * agreed / len(recorded) if len(recorded) else None,
        predicted_open_recorded_closed=int((predicted & ~recorded).sum()),
        predicted_closed_recorded_open=int((~predicted & recorded).sum()),
        not_compared=int((~says).sum()),
    )


def errors_by_chunk_row(
    stamps_ns: np.ndarray, chunks: np.ndarray, recorded: np.ndarray, step_s: float
) -> list[dict[str, float | int]]:
    """How fast a chunk goes stale: error of row j to the action recorded j steps after the image.

    stamps_ns: int64 [N]. chunks: [N, 16, 7]. recorded: [N, 7], NaN where there is none. The action j steps
    later is the one recorded nearest to that time, at most half a step away. Returns for each row with a
    frame to compare: row, frames, translation_mae_m and rotation_mae_rad (mean Euclidean length of the
    difference of the three components).
    """
    rows: list[dict[str, float | int]] = []
    known = np.flatnonzero(np.isfinite(recorded[:, :GRIPPER]).all(axis=1))
    if not len(known):
        return rows
    known = known[
        np.argsort(stamps_ns[known], kind="stable")
    ]  # a clock that jumped back must not break the search below
    times = stamps_ns[known]
    for row in range(chunks.shape[1]):
        wanted = stamps_ns + round(row * step_s * 1e9)
        after = np.clip(np.searchsorted(times, wanted), 0, len(times) - 1)
        before = np.maximum(after - 1, 0)
        nearest = np.where(np.abs(times[before] - wanted) <= np.abs(times[after] - wanted), before, after)
        found = np.abs(times[nearest] - wanted) <= 0.5e9 * step_s
        difference = chunks[found, row, :GRIPPER] - recorded[known[nearest[found]], :GRIPPER]
        difference = difference[np.isfinite(difference).all(axis=1)]
        if len(difference):
            rows.append(
                {
                    "row": row,
                    "frames": len(difference),
                    "translation_mae_m": float(np.linalg.norm(difference[:, :3], axis=1).mean()),
                    "rotation_mae_rad": float(np.linalg.norm(difference[:, 3:], axis=1).mean()),
                }
            )
    return rows


def percentiles(values_ms: Sequence[float | None], warm_up: int = 0) -> Percentiles:
    """Of `values_ms` without the first `warm_up` entries and without None."""
    values = np.array([value for value in values_ms[warm_up:] if value is not None], np.float64)
    if not len(values):
        return Percentiles(0, None, None, None, None, None)
    p50, p95, p99 = (float(p) for p in np.percentile(values, (50, 95, 99)))
    return Percentiles(len(values), float(values.mean()), p50, p95, p99, float(values.max()))


def deadline_misses(total_ms: Sequence[float | None], step_s: float, warm_up: int = 0) -> DeadlineMisses:
    """How many inferences, warm-up left out, took longer than `step_s`."""
    values = [value for value in total_ms[warm_up:] if value is not None]
    missed = sum(value > 1e3 * step_s for value in values)
    return DeadlineMisses(1e3 * step_s, len(values), missed, 100.0 * missed / len(values) if values else None)


def token_counts(kept: Sequence[Mapping[Reason, int]]) -> dict[str, dict[str, float]]:
    """Mean, min and max of the tokens kept per frame, in all and by reason. Empty without frames."""
    if not kept:
        return {}
    table = {"all": np.array([sum(counts.values()) for counts in kept])}
    table |= {reason.name.lower(): np.array([counts.get(reason, 0) for counts in kept]) for reason in Reason}
    return {name: {"mean": float(n.mean()), "min": int(n.min()), "max": int(n.max())} for name, n in table.items()}
