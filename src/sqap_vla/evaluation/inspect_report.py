# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""A study as report.md for people and report.json for programs; both from the same content."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sqap_vla.evaluation.inspect_inputs import READERS
from sqap_vla.evaluation.inspect_plots import plot_agreement, plot_attention, plot_channels
from sqap_vla.evaluation.inspect_study import Study, VariantResult
from sqap_vla.evaluation.report import table

PICTURES = {"attention": "attention.png", "channels": "channels.png", "agreement": "agreement.png"}
TABLE_SIZES = (1, 4, 8, 16, 38, 77, 154)


def write_study(directory: Path, study: Study, about: Mapping[str, Any]) -> Path:
    """Pictures, report.json and report.md; returns the last. about: what was inspected, plain JSON values."""
    directory.mkdir(parents=True, exist_ok=True)
    plot_attention(directory / PICTURES["attention"], study)
    plot_channels(directory / PICTURES["channels"], study)
    plot_agreement(directory / PICTURES["agreement"], study)
    content = {"about": dict(about), **study_content(study)}
    (directory / "report.json").write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    report = directory / "report.md"
    report.write_text(study_markdown(content), encoding="utf-8")
    return report


def study_content(study: Study) -> dict[str, Any]:
    """Everything but the rasters. A figure that is not finite (nothing differs, or all is lost) is null."""
    return {
        "frames": len(study.frames),
        "score_layer": study.layer,
        "k": study.k,
        "top_k_sizes": list(study.sizes),
        "action_cosine_between_frames": study.distinct,
        "variants": [_variant(result, study) for result in study.results],
        "inputs": {
            name: {
                READERS[reader]: [
                    {"kurtosis": _finite(t.kurtosis), "outlier_ratio": _finite(t.outlier_ratio), "zeros": t.zeros}
                    for t in layers
                ]
                for reader, layers in tails.tails.items()
            }
            for name, tails in study.tails.items()
        },
    }


def study_markdown(content: Mapping[str, Any]) -> str:
    """Of what `study_content` gives, with `about` added."""
    layer, k = content["score_layer"], content["k"]
    shown = [size for size in content["top_k_sizes"] if size in TABLE_SIZES or size == k]
    parts = [
        "# Quantization and attention",
        "\n".join(f"- {name}: {value}" for name, value in content["about"].items()),
        "Every row is compared with the same network in float on the same frames.",
        "## Outputs",
        "Cognition feature and action chunk (before un-normalisation, same noise). "
        "SQNR: energy of the float values over that of the difference. " + _distinct(content),
        table(
            (
                "variant", "cognition SQNR [dB]", "cognition cosine", "action cosine", "worst frame",
                "action SQNR [dB]", f"top {k}", "rank correlation",
            ),
            [
                (
                    row["name"], _db(row["cognition_sqnr_db"]), f"{row['cognition_cosine']:.4f}",
                    f"{row['action_cosine']:.5f}", f"{row['worst_action_cosine']:.5f}", _db(row["action_sqnr_db"]),
                    f"{_overlap(row, content, layer, k):.2f}", f"{row['rank_correlation'][layer]:.3f}",
                )
                for row in content["variants"]
            ],
        ),
        "Granularity is that of the activations; weights have one scale for each output channel. "
        f"top {k}: share of the {k} tokens with the most attention in layer {layer} that are the same; it and the rank "
        "correlation (Spearman) are means over frames.",
        "## Observation 1: attention is scattered, and the top k stay",
        f"![Attention before and after quantization]({PICTURES['attention']})",
        f"Share of the top k in layer {layer} that are the same as in float:",
        table(
            ("variant", *(f"k = {size}" for size in shown)),
            [
                (row["name"], *(f"{_overlap(row, content, layer, size):.2f}" for size in shown))
                for row in content["variants"]
            ],
        ),
        f"![Agreement by k and by layer]({PICTURES['agreement']})",
        "## Observation 2: a few channels are large, and a rotation flattens them",
        f"![Magnitudes by channel]({PICTURES['channels']})",
        "Inputs of the decoder's linears in float, mean over layers and tokens. 3 is the kurtosis of normal values, "
        "4 to 6 their largest over their median magnitude. Zero: what is below half a step of four bits, one scale for "
        "each token.",
        table(
            ("rotation", *(f"{name}: kurtosis, ratio, zero" for name in READERS.values())),
            [
                (name, *(_tails(readers[reader]) for reader in READERS.values()))
                for name, readers in content["inputs"].items()
            ],
        ),
        "## By layer",
        "SQNR of the residual stream after each layer [dB]:",
        _by_layer(content, "stream_sqnr_db", ".1f"),
        f"Share of the top {k} that are the same:",
        _by_layer(content, "overlap", ".2f", content["top_k_sizes"].index(k)),
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def _variant(result: VariantResult, study: Study) -> dict[str, Any]:
    variant = result.variant
    return {
        "name": str(variant),
        "rotation": variant.rotation,
        "granularity": variant.granularity.value,
        "precision": variant.precision.value,
        "calibrated": variant.calibrated,
        "activation_clip": variant.config.activation_clip,
        "cognition_sqnr_db": _finite(result.cognition_sqnr_db),
        "cognition_cosine": result.cognition_cosine,
        "action_cosine": result.action_cosine,
        "worst_action_cosine": result.worst_action_cosine,
        "action_sqnr_db": _finite(result.action_sqnr_db),
        "stream_sqnr_db": [_finite(value) for value in result.stream_sqnr_db],
        "overlap": result.overlap.tolist(),
        "rank_correlation": result.rank_correlation.tolist(),
    }


def _overlap(row: Mapping[str, Any], content: Mapping[str, Any], layer: int, size: int) -> float:
    return row["overlap"][layer][content["top_k_sizes"].index(size)]


def _distinct(content: Mapping[str, Any]) -> str:
    value = content["action_cosine_between_frames"]
    if value is None:
        return "There is one frame, so what the actions owe to the picture is not known."
    return f"For scale: the float actions of two different frames have a cosine of {value:.5f}."


def _tails(layers: list[Mapping[str, float | None]]) -> str:
    def mean(key: str) -> float:
        return float(np.mean([math.nan if row[key] is None else row[key] for row in layers]))

    return f"{mean('kurtosis'):.1f}, {mean('outlier_ratio'):.1f}, {mean('zeros'):.0%}"


def _by_layer(content: Mapping[str, Any], key: str, form: str, column: int | None = None) -> str:
    rows = []
    for variant in content["variants"]:
        values = [value if column is None else value[column] for value in variant[key]]
        rows.append((variant["name"], *("-" if value is None else format(value, form) for value in values)))
    return table(("variant", *range(max(len(row) for row in rows) - 1)), rows)


def _db(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
