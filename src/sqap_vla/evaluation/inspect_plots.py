# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Pictures of a study: attention over the frames, magnitudes by channel, agreement with the float network."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullLocator

from sqap_vla.evaluation.inspect_study import ROTATIONS, Study, Variant, VariantResult
from sqap_vla.evaluation.plots import new_figure, tidy
from sqap_vla.pruning.overlay import GRID
from sqap_vla.pruning.selection import rank_descending
from sqap_vla.quantization.metrics import rank_correlation, top_k_overlap
from sqap_vla.quantization.quantizer import Granularity, Precision

COLORS = dict(zip(ROTATIONS, ("#D55E00", "#E69F00", "#CC79A7", "#0072B2"), strict=True))  # Okabe and Ito's
NAMES = {
    "none": "not rotated",
    "none, norms folded": "norms folded only",
    "qk_input": "q, k inputs rotated",
    "full": "all rotated",
}
LIGHT, DARK = "#B8C4CE", "#1F3A52"
HEAT = "inferno"
PICTURE_WIDTH_PX = 448


def plot_attention(path: Path, study: Study) -> None:
    """A row for each frame: the picture, and the last token's attention over it in the score layer: before
    quantization, then in W4A4 under each rotation. One scale of colour in a row; the k tokens that the method would
    take are framed. As PNG.
    """
    columns = [("before quantization", None)]
    for name in ("none", "qk_input", "full"):
        result = study.result(Variant(name, Granularity.TOKEN))
        if result is not None:
            columns.append((f"W4A4, {NAMES[name]}", result))
    height_px, width_px = study.frames[0].rgb.shape[:2]
    cell = 2.9
    rows = len(study.frames)
    figure, grid = new_figure(
        cell * (len(columns) + 1), rows * (cell * height_px / width_px + 0.42) + 0.45, rows, len(columns) + 1
    )
    for row, frame in enumerate(study.frames):
        picture = _fit(frame.rgb)
        exact = study.float_outcome.attention[study.layer, row].float().cpu()
        # A few sinks may hold most of the attention; one of them must not make everything else black.
        top = float(np.quantile(exact.numpy(), 0.99))
        grid[row, 0].imshow(picture)
        for axes, (_, result) in zip(grid[row, 1:], columns, strict=True):
            scores = exact if result is None else result.attention[study.layer, row].float().cpu()
            _heat(axes, picture, scores.numpy(), top)
            _frame_tokens(axes, (rank_descending(scores) < study.k).numpy(), picture)
            if result is not None:
                overlap, rank = top_k_overlap(exact, scores, study.k), rank_correlation(exact, scores)
                axes.set_xlabel(f"top {study.k}: {overlap:.0%} the same, rank correlation {rank:.2f}", fontsize=8.5)
        for axes in grid[row]:
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_visible(False)
    for axes, title in zip(grid[0], ["frame", *(title for title, _ in columns)], strict=True):
        axes.set_title(title, fontsize=10.5)
    figure.suptitle(
        f"Attention of the last token, layer {study.layer}, mean over heads; framed: the {study.k} largest",
        fontsize=11.5, x=0.01, ha="left",
    )  # fmt: skip
    figure.savefig(path, dpi=110)


def plot_channels(path: Path, study: Study) -> None:
    """Magnitudes of what q_proj and k_proj read in the score layer, by channel, under each rotation; as PNG."""
    names = [name for name in ROTATIONS if name in study.tails]
    rows = -(-len(names) // 2)
    figure, grid = new_figure(11, 2.7 * rows + 0.5, rows, 2, sharex=True, sharey=True)
    for axes in grid.ravel()[len(names) :]:
        axes.axis("off")
    for axes, name in zip(grid.ravel(), names, strict=False):
        tails = study.tails[name]
        largest, median = tails.channels
        channels = np.arange(len(largest))
        axes.vlines(
            channels, 0, largest, color=LIGHT, linewidth=_line_width(len(channels)), label="largest of all tokens"
        )
        axes.vlines(channels, 0, median, color=DARK, linewidth=_line_width(len(channels)), label="median token")
        step = float(largest.max()) / 7
        axes.axhline(step, color="black", linewidth=0.9, linestyle="--", label="one step of four bits")
        figures = tails.tails["self_attn.k_proj"][study.layer]
        tidy(axes, NAMES[name], "magnitude")
        axes.set_title(
            f"{figures.zeros:.0%} rounds to zero, largest / median {figures.outlier_ratio:.1f}, "
            f"kurtosis {figures.kurtosis:.1f}",
            loc="right", fontsize=8.5, color="0.25",
        )  # fmt: skip
        axes.set_xlim(-0.01 * len(largest), 1.01 * len(largest))
        axes.set_ylim(bottom=0)
    for axes in grid[-1]:
        axes.set_xlabel("channel")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=9.5)
    figure.suptitle(f"Inputs of q_proj and k_proj, layer {study.layer}", fontsize=11.5, x=0.01, ha="left")
    figure.savefig(path, dpi=110)


def plot_agreement(path: Path, study: Study) -> None:
    """Against the float network, W4A4 by token under each rotation: overlap of the top k by k, the same and rank
    correlation by layer, and the error of the residual stream by layer; as PNG.
    """
    figure, grid = new_figure(11, 7.2, 2, 2)
    by_k, by_layer, rank, stream = grid.ravel()
    visual = study.float_outcome.attention.shape[-1]
    layers = np.arange(study.float_outcome.attention.shape[0])
    style = {"marker": "o", "markersize": 3, "linewidth": 1.4}
    for result in _by_token(study):
        color, label = COLORS[result.variant.rotation], NAMES[result.variant.rotation]
        if result.variant.precision is not Precision.W4A4:
            stream.plot(layers[:-1], result.stream_sqnr_db, color=color, label=f"{label}, W8A8", linestyle=":", **style)
            continue
        by_k.plot(study.sizes, result.overlap[study.layer], color=color, label=label, **style)
        by_layer.plot(layers, result.overlap[:, study.sizes.index(study.k)], color=color, **style)
        rank.plot(layers, result.rank_correlation, color=color, **style)
        stream.plot(layers[:-1], result.stream_sqnr_db, color=color, **style)
    by_k.plot(
        study.sizes,
        [size / visual for size in study.sizes],
        color="black",
        linewidth=0.9,
        linestyle="--",
        label="by chance",
    )
    by_k.set_xscale("log", base=2)
    by_k.xaxis.set_major_locator(FixedLocator([size for size in study.sizes if size not in (24, 54, 108, 205)]))
    by_k.xaxis.set_minor_locator(NullLocator())
    by_k.xaxis.set_major_formatter(lambda value, _: f"{value:.0f}")
    by_k.axvline(study.k, color="black", linewidth=0.8, alpha=0.35)
    by_layer.axhline(study.k / visual, color="black", linewidth=0.9, linestyle="--")
    by_layer.axvline(study.layer, color="black", linewidth=0.8, alpha=0.35)
    rank.axvline(study.layer, color="black", linewidth=0.8, alpha=0.35)
    tidy(by_k, f"Top k that stay, layer {study.layer}", "share of the k tokens")
    tidy(by_layer, f"Top {study.k} that stay", "share of the k tokens")
    tidy(rank, "Rank correlation of attention", "Spearman")
    tidy(stream, "Residual stream after each layer", "SQNR [dB]")
    by_k.set_xlabel("k")
    for axes in (by_k, by_layer):
        axes.set_ylim(0, 1.03)
    for axes in (by_layer, rank, stream):
        axes.set_xlabel("layer")
        axes.set_xlim(-0.4, layers[-1] + 0.4)
        axes.xaxis.get_major_locator().set_params(integer=True)
    handles, labels = by_k.get_legend_handles_labels()
    wider, wider_labels = stream.get_legend_handles_labels()
    figure.legend(
        handles + wider, labels + wider_labels, loc="outside lower center", ncols=4, frameon=False, fontsize=9.5
    )
    figure.suptitle("Agreement with the float network: W4A4, activations by token", fontsize=11.5, x=0.01, ha="left")
    figure.savefig(path, dpi=110)


def _by_token(study: Study) -> list[VariantResult]:
    return [
        result
        for result in study.results
        if result.variant.granularity is Granularity.TOKEN
        and result.variant.precision in (Precision.W4A4, Precision.W8A8)
        and not result.variant.calibrated
    ]


def _fit(rgb: np.ndarray) -> np.ndarray:
    height, width = rgb.shape[:2]
    size = (PICTURE_WIDTH_PX, max(1, round(height * PICTURE_WIDTH_PX / width)))
    return cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if width > PICTURE_WIDTH_PX else cv2.INTER_LINEAR)


def _heat(axes: Axes, picture: np.ndarray, scores: np.ndarray, top: float) -> None:
    """The picture in grey under the scores [256] of its tokens."""
    gray = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    height, width = gray.shape
    axes.imshow(gray, cmap="gray", vmin=-60, vmax=330)
    raster = scores.reshape(GRID, GRID)
    axes.imshow(
        raster, cmap=HEAT, vmin=0, vmax=top, alpha=0.62, extent=(-0.5, width - 0.5, height - 0.5, -0.5), aspect="auto"
    )
    axes.set_aspect("equal")


def _frame_tokens(axes: Axes, chosen: np.ndarray, picture: np.ndarray) -> None:
    """A line around the tokens [256] that are chosen, between them none."""
    raster = np.pad(chosen.reshape(GRID, GRID), 1)
    height, width = picture.shape[:2]
    for row, column in np.argwhere(raster[1:, :] != raster[:-1, :]):
        x = np.array([column - 1, column]) * width / GRID - 0.5
        axes.plot(x, [row * height / GRID - 0.5] * 2, color="#56B4E9", linewidth=1.1, solid_capstyle="projecting")
    for row, column in np.argwhere(raster[:, 1:] != raster[:, :-1]):
        y = np.array([row - 1, row]) * height / GRID - 0.5
        axes.plot([column * width / GRID - 0.5] * 2, y, color="#56B4E9", linewidth=1.1, solid_capstyle="projecting")


def _line_width(channels: int) -> float:
    """Neighbours just touch, a panel being about 360 points wide; a single one stays visible."""
    return max(0.9, 360 / channels)
