# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Pictures of a comparison, as PNG in memory: divergence by dimension and by row of the chunk, and latency."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from sqap_vla.evaluation.compare import Run
from sqap_vla.evaluation.plots import tidy

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe and Ito's
REFERENCE_COLOR = "#555555"


def _figure(width: float, height: float, columns: int) -> tuple[Figure, Sequence[Any]]:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(1, columns, squeeze=False)[0]


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=110, format="png")
    return buffer.getvalue()


def color(index: int) -> str:
    return COLORS[index % len(COLORS)]


def plot_dimensions(compared: Sequence[Mapping[str, Any]]) -> bytes:
    """Mean (bar) and 95th percentile (tick) of the first action's difference, translation in mm, rotation in mrad."""
    figure, panels = _figure(11, 3.4, 2)
    for axes, columns, title, unit in (
        (panels[0], range(3), "difference of the translation", "mm"),
        (panels[1], range(3, 6), "difference of the rotation", "mrad"),
    ):
        width = 0.8 / len(compared)
        for index, run in enumerate(compared):
            places = np.arange(3) + (index - (len(compared) - 1) / 2) * width
            rows = [run["dimensions"][column] for column in columns]
            axes.bar(
                places, [1e3 * row["mean_abs"] for row in rows], 0.9 * width, color=color(index), label=run["name"]
            )
            axes.plot(places, [1e3 * row["p95_abs"] for row in rows], "_", color="black", markersize=9)
        axes.set_xticks(np.arange(3), [compared[0]["dimensions"][column]["name"] for column in columns])
        axes.set_ylim(bottom=0)
        tidy(axes, f"{title} (tick: 95 % below)", unit)
    panels[0].legend(frameon=False, fontsize=9)
    return _png(figure)


def plot_rows(compared: Sequence[Mapping[str, Any]]) -> bytes:
    """Where in the chunk the difference grows: mean length by row, and the gripper's disagreement."""
    figure, panels = _figure(11, 3.4, 3)
    for axes, key, factor, title, unit in (
        (panels[0], "translation_m", 1e3, "translation, by row of the chunk", "mm"),
        (panels[1], "rotation_rad", 1e3, "rotation, by row", "mrad"),
        (panels[2], "gripper_disagreement_percent", 1.0, "gripper disagrees, by row", "% of frames"),
    ):
        for index, run in enumerate(compared):
            rows = [row["row"] for row in run["by_row"]]
            values = [factor * row[key] for row in run["by_row"]]
            axes.plot(rows, values, marker="o", markersize=3, color=color(index), label=run["name"])
        axes.set_xlabel("row")
        axes.set_ylim(bottom=0)
        tidy(axes, title, unit)
    panels[0].legend(frameon=False, fontsize=9)
    return _png(figure)


def plot_latency(runs: Sequence[Run]) -> bytes:
    """Share of inferences that took at most so long, one line per run, and the time of one row."""
    figure, (axes,) = _figure(11, 3.4, 1)
    for index, run in enumerate(runs):
        warm_up = run.summary["latency"]["warm_up_frames"]
        times = np.sort([value for value in run.total_ms[warm_up:] if value is not None])
        shares = 100 * np.arange(1, len(times) + 1) / max(len(times), 1)
        line = REFERENCE_COLOR if index == 0 else color(index - 1)
        axes.step(times, shares, where="post", color=line, label=run.name)
    for deadline_ms in sorted({1e3 * run.summary["run"]["step_s"] for run in runs}):
        axes.axvline(deadline_ms, color="black", linestyle="--", linewidth=1, label=f"one row, {deadline_ms:.0f} ms")
    axes.set_xlabel("inference [ms]")
    axes.set_xlim(left=0)
    tidy(axes, "inferences that took at most so long", "%")
    axes.legend(frameon=False, fontsize=9)
    return _png(figure)
