# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""`sqap-vla compare RUN RUN...`: how far the later runs are from the first one."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from sqap_vla.evaluation import compare_page, compare_plots
from sqap_vla.evaluation.compare import compare, latency, read_runs
from sqap_vla.evaluation.recorder import check_directory

DESCRIPTION = (
    "Compares replays of one bag, frame by frame, with the first of them: action difference by dimension and by row of "
    "the chunk, cosine, gripper, latency. Writes compare.html (one file, with its pictures) and compare.json."
)
RUN_KEYS = ("bag", "checkpoint", "method", "method_parameters", "precision", "device", "dtype", "seed", "mode")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "runs", type=Path, nargs="+", metavar="RUN", help="directory that replay wrote; the first is the reference"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("out/compare"), help="directory for the page; default out/compare"
    )


def run(args: argparse.Namespace) -> str:
    """Writes the page; returns what to print. Raises ValueError or OSError."""
    if len(args.runs) < 2:
        raise ValueError("one run is nothing to compare; give two or more directories that `sqap-vla replay` wrote")
    check_directory(args.out)
    runs = read_runs(args.runs)
    reference, others = runs[0], runs[1:]
    result = {
        "reference": reference.name,
        "runs": [{"name": run.name, **{key: run.summary["run"][key] for key in RUN_KEYS}} for run in runs],
        "compared": [compare(reference, other) for other in others],
        "latency": [latency(run) for run in runs],
    }
    pictures = {
        "Inference time and deadline": compare_plots.plot_latency(runs),
        "First action over the recording": compare_plots.plot_actions(runs),
        "Difference by dimension": compare_plots.plot_dimensions(result["compared"]),
        "Where in the chunk it grows": compare_plots.plot_rows(result["compared"]),
    }
    args.out.mkdir(parents=True, exist_ok=True)
    page = args.out / "compare.html"
    page.write_text(compare_page.render(reference.name, result, pictures), encoding="utf-8")
    (args.out / "compare.json").write_text(json.dumps(result, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    return "\n".join([*(_line(other) for other in result["compared"]), f"page: {page}"])


def _line(other: dict) -> str:
    row = other["by_row"][0]
    return (
        f"{other['name']}: {other['frames']} frames, {1e3 * row['translation_m']:.2f} mm and "
        f"{1e3 * row['rotation_rad']:.2f} mrad from the reference, gripper disagrees in "
        f"{other['gripper_disagreement_percent']:.1f} %"
    )
