# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Pictures of a comparison, as PNG in memory: actions over time, divergence by dimension and by row of the
chunk, latency against the deadline."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sqap_vla.evaluation.compare import Run
from sqap_vla.evaluation.plots import new_figure, tidy
from sqap_vla.evaluation.statistics import GRIPPER, MOTION_DIMENSIONS
from sqap_vla.runtime.types import CHUNK_STEPS

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe and Ito's
REFERENCE_COLOR = "#555555"


def _figure(width: float, height: float, rows: int, columns: int, **options: object) -> tuple[Figure, Sequence[Any]]:
    figure, grid = new_figure(width, height, rows, columns, **options)
    return figure, grid.ravel()


def _png(figure: Figure, named: Axes) -> bytes:
    """named: the panel whose names stand above all of them, where no line can run through them."""
    handles, labels = named.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=4, frameon=False, fontsize=9)
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=110, format="png")
    return buffer.getvalue()


def color(index: int) -> str:
    """Of run number `index`; 0 is the reference."""
    return COLORS[(index - 1) % len(COLORS)] if index else REFERENCE_COLOR


def plot_actions(runs: Sequence[Run]) -> bytes:
    """First action of each chunk over time, one line per run and panel per dimension; the reference is dashed."""
    figure, panels = _figure(11, 7.6, 4, 2, sharex=True)
    start_ns = min(run.stamps_ns.min() for run in runs)
    for index, run in enumerate(runs):
        order = np.argsort(run.stamps_ns)
        times_s, actions = (run.stamps_ns[order] - start_ns) / 1e9, run.chunks[order, 0]
        style = {"color": color(index), "label": run.name, "linewidth": 1.3}
        style |= {} if index else {"linestyle": (0, (4, 2)), "zorder": 3}
        for column in range(6):
            panels[2 * (column % 3) + column // 3].plot(times_s, 1e3 * actions[:, column], **style)
        panels[6].step(times_s, actions[:, GRIPPER], where="post", **style)
    for column, (name, unit) in enumerate(MOTION_DIMENSIONS):
        tidy(panels[2 * (column % 3) + column // 3], name, f"m{unit}")
    panels[6].set_ylim(-0.1, 1.1)
    tidy(panels[6], "gripper (1 open, 0 closed)", "open")
    panels[7].axis("off")
    for axes in panels[5:7]:
        axes.set_xlabel("time since the first frame [s]")
        axes.tick_params(labelbottom=True)
    return _png(figure, panels[0])


def plot_dimensions(compared: Sequence[Mapping[str, Any]]) -> bytes:
    """Mean (bar) and 95th percentile (tick) of the first action's difference, translation in mm, rotation in mrad; the
    seventh is the gripper's disagreement."""
    figure, panels = _figure(11, 3.8, 1, 3, width_ratios=(3, 3, 1.4))
    width = 0.8 / len(compared)
    for axes, columns, title, unit in (
        (panels[0], range(3), "difference of the translation (tick: 95 % below)", "mm"),
        (panels[1], range(3, 6), "difference of the rotation (tick: 95 % below)", "mrad"),
    ):
        for index, run in enumerate(compared):
            places = np.arange(3) + (index - (len(compared) - 1) / 2) * width
            rows = [run["dimensions"][column] for column in columns]
            axes.bar(
                places, [1e3 * row["mean_abs"] for row in rows], 0.9 * width, color=color(index + 1), label=run["name"]
            )
            axes.plot(places, [1e3 * row["p95_abs"] for row in rows], "_", color="black", markersize=9)
        axes.set_xticks(np.arange(3), [compared[0]["dimensions"][column]["name"] for column in columns])
        axes.set_ylim(bottom=0)
        tidy(axes, title, unit)
    for index, run in enumerate(compared):
        panels[2].bar(index, run["gripper_disagreement_percent"], 0.9, color=color(index + 1))
    panels[2].set_xticks([])
    panels[2].set_ylim(0, max(10.0, 1.1 * max(run["gripper_disagreement_percent"] for run in compared)))
    tidy(panels[2], "gripper disagrees", "% of frames")
    return _png(figure, panels[0])


def plot_rows(compared: Sequence[Mapping[str, Any]]) -> bytes:
    """Where in the chunk the difference grows, by row."""
    figure, panels = _figure(11, 6.4, 2, 3)
    for axes, (key, factor, title, unit) in zip(
        panels,
        (
            ("translation_m", 1e3, "translation of a row, difference", "mm"),
            ("rotation_rad", 1e3, "rotation of a row, difference", "mrad"),
            ("cosine", 1.0, "translation of a row, cosine", ""),
            ("led_to_m", 1e3, "where the rows so far lead to, distance", "mm"),
            ("gripper_disagreement_percent", 1.0, "gripper disagrees", "% of frames"),
        ),
        strict=False,
    ):
        for index, run in enumerate(compared):
            rows = [row["row"] for row in run["by_row"]]
            values = [np.nan if row[key] is None else factor * row[key] for row in run["by_row"]]
            axes.plot(rows, values, marker="o", markersize=3, color=color(index + 1), label=run["name"])
        axes.set_xlabel("row of the chunk")
        axes.set_xticks(range(0, CHUNK_STEPS, 3))
        if key == "cosine":
            axes.set_ylim(top=1.02)
        else:
            axes.set_ylim(bottom=0)
        tidy(axes, title, unit)
    panels[5].axis("off")
    return _png(figure, panels[0])


def plot_latency(runs: Sequence[Run]) -> bytes:
    """Share of inferences that took at most so long, one line per run, and the time of one row."""
    figure, (axes,) = _figure(11, 3.6, 1, 1)
    for index, run in enumerate(runs):
        warm_up = run.summary["latency"]["warm_up_frames"]
        times = np.sort([value for value in run.total_ms[warm_up:] if value is not None])
        shares = 100 * np.arange(len(times) + 1) / max(len(times), 1)
        axes.step(np.append(times[:1], times), shares, where="post", color=color(index), label=run.name)
    for deadline_ms in sorted({1e3 * run.summary["run"]["step_s"] for run in runs}):
        axes.axvline(deadline_ms, color="black", linestyle="--", linewidth=1, label=f"one row, {deadline_ms:.0f} ms")
    axes.set_xlabel("inference [ms]")
    axes.set_xlim(left=0)
    axes.set_ylim(0, 102)
    tidy(axes, "inferences that took at most so long", "%")
    return _png(figure, axes)
