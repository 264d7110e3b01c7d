# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Plots of a replay: predicted against recorded actions, and latency.

Drawn with Matplotlib's Agg: no display, no global state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from sqap_vla.evaluation.statistics import GRIPPER, MOTION_DIMENSIONS

PREDICTED = "#0072B2"  # Okabe and Ito's blue and vermilion
RECORDED = "#D55E00"
STAGE_LABELS = {
    "preprocess_ms": "preprocess",
    "vision_ms": "vision",
    "llm_ms": "language model",
    "head_ms": "action head",
}
STAGE_COLORS = {"preprocess_ms": "#CC79A7", "vision_ms": "#56B4E9", "llm_ms": "#0072B2", "head_ms": "#E69F00"}


def new_figure(width: float, height: float, rows: int, columns: int, **options: object) -> tuple[Figure, np.ndarray]:
    """A figure of width x height inches and its axes [rows, columns]. options: those of Figure.subplots."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def tidy(axes: Axes, title: str, unit: str) -> None:
    """Title at the left, unit at the axis, a faint grid: how every plot here looks."""
    axes.set_title(title, loc="left", fontsize=10)
    axes.set_ylabel(unit)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def plot_actions(
    path: Path,
    times_s: np.ndarray,
    predicted: np.ndarray,
    recorded: np.ndarray,
    recorded_open: Sequence[float | None],
) -> None:
    """First action of each chunk and the recorded one, one panel per dimension, as PNG.

    times_s: [N] since the first frame. predicted, recorded: [N, 7], NaN where nothing was recorded.
    recorded_open: N open fractions, None where unknown. Where nothing was recorded, the legend says so by
    leaving it out.
    """
    figure, grid = new_figure(11, 8, 4, 2, sharex=True)
    panels = grid.ravel()
    style = {"marker": "o", "markersize": 2.5, "linewidth": 1.2}
    for column, (name, unit) in enumerate(MOTION_DIMENSIONS):
        # Translations fill the left column, rotations the right one.
        axes = panels[2 * (column % 3) + column // 3]
        axes.plot(times_s, predicted[:, column], color=PREDICTED, label="predicted", **style)
        if np.isfinite(recorded).any():
            axes.plot(times_s, recorded[:, column], color=RECORDED, label="recorded", **style)
        tidy(axes, name, unit)
    gripper = panels[6]
    gripper.step(times_s, predicted[:, GRIPPER], where="post", color=PREDICTED)
    known = np.array([np.nan if value is None else value for value in recorded_open], np.float64)
    gripper.step(times_s, known, where="post", color=RECORDED)
    gripper.set_ylim(-0.1, 1.1)
    tidy(gripper, "gripper (1 open, 0 closed)", "open")
    panels[7].axis("off")
    panels[7].legend(*panels[0].get_legend_handles_labels(), loc="center", frameon=False, fontsize=11)
    for axes in (panels[4], panels[5], gripper):
        axes.set_xlabel("time since the first frame [s]")
        axes.tick_params(labelbottom=True)
    figure.savefig(path, dpi=110)


def plot_latency(path: Path, stages_ms: Mapping[str, Sequence[float | None]], step_s: float, warm_up: int) -> None:
    """Stages of each inference stacked, warm-up frames hatched, and the time of one step as a line, as PNG.

    stages_ms: per stage, one value per frame; None is drawn as nothing. Stages beyond STAGE_COLORS are left
    out.
    """
    figure, grid = new_figure(11, 3.6, 1, 1)
    axes = grid[0, 0]
    bottom = np.zeros(max((len(values) for values in stages_ms.values()), default=0))
    for stage, color in STAGE_COLORS.items():
        heights = np.array([0.0 if value is None else value for value in stages_ms[stage]], np.float64)
        bars = axes.bar(
            np.arange(len(heights)),
            heights,
            bottom=bottom,
            color=color,
            width=0.9,
        )
        for bar in bars.patches[:warm_up]:
            bar.set(hatch="///", edgecolor="white", linewidth=0)
        bottom = bottom + heights
    deadline = axes.axhline(
        1e3 * step_s, color="black", linewidth=1, linestyle="--", label=f"one step, {1e3 * step_s:.0f} ms"
    )
    tidy(axes, "latency per frame" + (" (hatched: warm-up)" if warm_up else ""), "ms")
    axes.set_xlabel("frame")
    # Made by hand: from the bars it would take the first one's hatching.
    swatches = [Patch(color=color, label=STAGE_LABELS[stage]) for stage, color in STAGE_COLORS.items()]
    axes.legend(handles=[deadline, *swatches], frameon=False, ncols=5, fontsize=9, loc="upper right")
    axes.set_ylim(0, 1.25 * max(1e3 * step_s, float(bottom.max(initial=0.0))))
    figure.savefig(path, dpi=110)


def horizontal_stages(
    path: Path,
    title: str,
    names: Sequence[str],
    stages_ms: Mapping[str, tuple[Sequence[float], str]],
    labels: Sequence[str],
    memory_gb: Sequence[float],
) -> None:
    """Bars for each of several systems, as PNG: stages of an inference stacked on the left, memory on the right.

    stages_ms: stage -> one value for each name, and its colour. labels: what stands behind each bar.
    """
    figure = Figure(figsize=(11, 1.2 + 0.42 * len(names)), layout="constrained")
    FigureCanvasAgg(figure)
    latency, memory = figure.subplots(1, 2, sharey=True, width_ratios=(3, 1))
    rows = np.arange(len(names))
    left = np.zeros(len(names))
    for stage, (values, color) in stages_ms.items():
        latency.barh(rows, values, left=left, color=color, label=stage, height=0.7)
        left = left + np.asarray(values, np.float64)
    for row, label in enumerate(labels):
        latency.text(left[row], row, f" {label}", va="center", fontsize=8)
    latency.set_xlim(0, 1.25 * float(left.max()))
    latency.set_yticks(rows, names, fontsize=9)
    latency.invert_yaxis()
    latency.set_xlabel("median [ms]")
    latency.set_title(title, loc="left", fontsize=10)
    figure.legend(*latency.get_legend_handles_labels(), loc="outside lower left", ncols=4, frameon=False, fontsize=9)
    memory.barh(rows, memory_gb, color="#999999", height=0.7)
    for row, value in enumerate(memory_gb):
        memory.text(value, row, f" {value:.2g}", va="center", fontsize=8)
    memory.set_xlim(0, 1.25 * max(memory_gb))
    memory.set_xlabel("memory [GB]")
    for axes in (latency, memory):
        axes.grid(alpha=0.25, linewidth=0.6, axis="x")
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
