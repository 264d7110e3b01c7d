# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Losses and successes of a run, as a picture."""

from __future__ import annotations

import json
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

NO_LOSSES = ("step", "seconds", "frames", "success")


def plot_losses(log: Path, picture: Path) -> None:
    """log: log.jsonl of a run. picture: PNG to write."""
    entries = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    figure = Figure(figsize=(10, 6), layout="constrained")
    FigureCanvasAgg(figure)
    tested = any("success" in entry for entry in entries)
    losses, *others = figure.subplots(2 if tested else 1, 1, sharex=True, squeeze=False)[:, 0]
    names = dict.fromkeys(name for entry in entries for name in entry if name not in NO_LOSSES)
    for name in names:
        points = [(entry["step"], entry[name]) for entry in entries if name in entry]
        losses.plot(*zip(*points, strict=True), label=name, linewidth=1.2)
    losses.set_yscale("log")
    losses.set_ylabel("loss")
    losses.legend(frameon=False, ncols=5, fontsize=9)
    losses.set_xlabel("step")
    for success in others:
        _plot_success(success, entries)
    for axes in (losses, *others):
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(picture, dpi=110)


def _plot_success(success: Axes, entries: list[dict]) -> None:
    for family in dict.fromkeys(family for entry in entries for family in entry.get("success", {})):
        points = [
            (entry["step"], 100 * entry["success"][family]) for entry in entries if family in entry.get("success", {})
        ]
        success.plot(*zip(*points, strict=True), marker="o", markersize=3, label=family)
    success.set_ylabel("success on held-out seeds [%]")
    success.set_ylim(-2, 102)
    success.set_xlabel("step")
    if success.get_legend_handles_labels()[0]:
        success.legend(frameon=False, ncols=4, fontsize=9)
