# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Draws which visual tokens were kept, and why, on the camera frame.

The frame is cut into the model's 16x16 tokens: pixel column x belongs to token column floor(16 x / W), row y to floor(16 y / H),
because the model sees the whole frame squeezed to a square. Kept tokens keep their colours under a light tint and a frame in the
colour of their reason; dropped ones turn dark and grey. The white line encloses the ring that the method protects, the
crosshair is the projected end-effector; where that lies outside the frame, an arrow at the border points to it.
A panel below the image holds the legend with counts and the caller's text, so that no token is hidden behind writing.

Colours are Okabe and Ito's (Color Universal Design, 2008), which people with any common colour blindness can tell apart; hue is
backed by lightness: orange (ring) and sky blue (attention) are light, bluish green (FPS) is darker, kept for any other reason is yellow.

Invariants: the input is not changed; the same input gives the same bytes. About 1 ms for 640x480.
"""
from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np

from sqap_vla.pruning.ring import Ring
from sqap_vla.pruning.selection import Reason, TokenSelection

GRID = 16
REASON_COLORS: dict[Reason, tuple[int, int, int]] = {  # RGB
    Reason.RING: (230, 159, 0),
    Reason.ATTENTION: (86, 180, 233),
    Reason.FPS: (0, 158, 115),
    Reason.OTHER: (240, 228, 66),
}
REASON_LABELS: dict[Reason, str] = {
    Reason.RING: "ring", Reason.ATTENTION: "attention", Reason.FPS: "spread", Reason.OTHER: "kept",
}
_DROPPED = len(Reason)  # row of the look-up tables after the reasons
_TINT = 0.22  # share of the reason's colour in a kept token
_DROPPED_LIGHT = 0.34  # what is left of a dropped token's lightness
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_PANEL_COLOR = (24, 24, 28)
_TEXT_COLOR = (235, 235, 235)
_MIN_WIDTH_PX = 448  # below this the writing would not be legible; the frame is enlarged by a whole factor


def token_reasons(selection: TokenSelection, grid: int = GRID) -> np.ndarray:
    """uint8 [grid, grid]: the `Reason` of each token, len(Reason) where it was dropped."""
    reasons = np.full(grid * grid, _DROPPED, np.uint8)
    reasons[selection.kept.cpu().numpy()] = selection.reason.cpu().numpy()
    return reasons.reshape(grid, grid)


def token_edges(size_px: int, grid: int = GRID) -> np.ndarray:
    """int [grid + 1]: first pixel of each token along one side, and `size_px`; pixel x is in token floor(grid x / size_px)."""
    return -(-np.arange(grid + 1) * size_px // grid)


def auto_scale(width_px: int) -> int:
    """Whole factor that brings a frame of `width_px` to a width at which the legend is legible."""
    return max(1, -(-_MIN_WIDTH_PX // width_px))


def draw_overlay(rgb: np.ndarray, selection: TokenSelection, ring: Ring | None = None, text: Sequence[str] = (),
                 scale: int | None = None) -> np.ndarray:
    """The frame with its kept tokens by reason, the ring, the end-effector and a legend.

    rgb: uint8 [H, W, 3]. selection: kept tokens of the 16x16 grid. ring: None draws neither outline nor crosshair.
    text: lines for the panel, cut at its width. scale: whole factor of enlargement, None chooses 1 from a width of 448 px on.
    Returns uint8 [H*scale + panel, W*scale, 3]; the panel's height depends only on the width and the number of lines of text.
    Raises ValueError for an image of another type or shape, or one with fewer pixels than tokens along a side.
    """
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or min(rgb.shape[:2]) < GRID:
        raise ValueError(f"rgb is {rgb.dtype} {rgb.shape}; it must be uint8 [H, W, 3] with H and W of at least {GRID}")
    factor = auto_scale(rgb.shape[1]) if scale is None else scale
    if factor < 1:
        raise ValueError(f"scale is {scale}; it must be a whole number of at least 1, or None")
    if factor > 1:
        rgb = cv2.resize(rgb, None, fx=factor, fy=factor, interpolation=cv2.INTER_LINEAR)
    height, width = rgb.shape[:2]
    reasons = token_reasons(selection)
    canvas = np.empty((height + _panel_height(width, len(text)), width, 3), np.uint8)
    frame = canvas[:height]
    _paint_tokens(frame, rgb, reasons)
    if ring is not None:
        _outline_ring(frame, ring.mask)
        if ring.pixel is not None:
            # Pixel centres are whole numbers: enlarged by f, centre u goes to f (u + 1/2) - 1/2.
            _mark_end_effector(frame, tuple(factor * (p + 0.5) - 0.5 for p in ring.pixel))
    _write_panel(canvas[height:], reasons, text)
    return canvas


def _paint_tokens(frame: np.ndarray, rgb: np.ndarray, reasons: np.ndarray) -> None:
    """Tints kept tokens, darkens and greys dropped ones, frames the kept; `frame` is written. Both [H, W, 3]."""
    height, width = rgb.shape[:2]
    rows, columns = token_edges(height), token_edges(width)
    per_row, per_column = np.diff(rows), np.diff(columns)

    def per_pixel(table: np.ndarray) -> np.ndarray:
        """table [5, ...] by reason -> [H, W, ...]."""
        return np.repeat(np.repeat(table[reasons], per_column, axis=1), per_row, axis=0)

    colors = np.array([REASON_COLORS[r] for r in Reason] + [(0, 0, 0)], np.float64)
    keep = np.full((_DROPPED + 1, 3), round(255 * (1 - _TINT)), np.uint8)
    cv2.multiply(rgb, per_pixel(keep), frame, scale=1 / 255)
    cv2.add(frame, per_pixel((_TINT * colors).astype(np.uint8)), frame)
    gray = cv2.cvtColor(cv2.convertScaleAbs(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), alpha=_DROPPED_LIGHT), cv2.COLOR_GRAY2RGB)
    cv2.copyTo(gray, per_pixel(np.array([0] * _DROPPED + [255], np.uint8)), frame)
    for row, column in np.argwhere(reasons != _DROPPED).tolist():
        color = REASON_COLORS[Reason(int(reasons[row, column]))]
        corner = (int(columns[column]), int(rows[row]))
        cv2.rectangle(frame, corner, (int(columns[column + 1]) - 2, int(rows[row + 1]) - 2), color, 1)


def _outline_ring(frame: np.ndarray, mask: np.ndarray) -> None:
    """White line with a dark seam around the tokens of `mask` (bool [256])."""
    if not mask.any():
        return
    height, width = frame.shape[:2]
    tokens = mask.reshape(GRID, GRID).astype(np.uint8)
    area = np.repeat(np.repeat(tokens, np.diff(token_edges(width)), axis=1), np.diff(token_edges(height)), axis=0)
    contours, _ = cv2.findContours(area, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    thickness = max(1, round(width / 400))
    cv2.drawContours(frame, contours, -1, (0, 0, 0), thickness + 2)
    cv2.drawContours(frame, contours, -1, (255, 255, 255), thickness)


def _mark_end_effector(frame: np.ndarray, pixel: tuple[float, ...]) -> None:
    """Crosshair at `pixel` (u, v), or an arrow from the frame's inside towards it where it lies outside."""
    height, width = frame.shape[:2]
    size = np.array([width, height], np.float64)
    target = np.asarray(pixel, np.float64)
    length = max(8, round(width / 45))
    if not np.isfinite(target).all():
        return
    nearest = np.clip(target, 2.0, size - 3.0)
    inside = bool((target >= -0.5).all() and (target < size - 0.5).all())
    for color, thickness in (((0, 0, 0), max(4, round(width / 130))), ((255, 255, 255), max(1, round(width / 320)))):
        if inside:
            u, v = (int(round(x)) for x in target)
            gap = length // 3
            for du, dv in ((1, 0), (-1, 0), (0, 1), (0, -1)):
                cv2.line(frame, (u + gap * du, v + gap * dv), (u + length * du, v + length * dv), color, thickness, cv2.LINE_AA)
        else:
            way = (target - nearest) / np.linalg.norm(target - nearest)
            tail = nearest - 2.5 * length * way
            cv2.arrowedLine(frame, *(tuple(int(round(x)) for x in end) for end in (tail, nearest)), color, thickness, cv2.LINE_AA,
                            tipLength=0.35)
    if inside:
        cv2.circle(frame, (int(round(target[0])), int(round(target[1]))), max(1, round(width / 320)), (255, 255, 255), -1, cv2.LINE_AA)


def _font_scale(width: int) -> float:
    return min(0.9, max(0.38, width / 1400))


def _line_height(width: int) -> int:
    return round(40 * _font_scale(width))


def _panel_height(width: int, lines: int) -> int:
    return (1 + lines) * _line_height(width) + round(0.4 * _line_height(width))


def _write_panel(panel: np.ndarray, reasons: np.ndarray, text: Sequence[str]) -> None:
    """Legend with counts in the first line, `text` below it; `panel` [P, W, 3] is written."""
    panel[:] = _PANEL_COLOR
    width = panel.shape[1]
    line, font = _line_height(width), _font_scale(width)
    counts = np.bincount(reasons.ravel(), minlength=_DROPPED + 1)
    kept = int(counts[:_DROPPED].sum())
    entries = [(REASON_COLORS[r], f"{REASON_LABELS[r]} {counts[r]}") for r in Reason if counts[r]]
    entries.append(((95, 95, 95), f"dropped {counts[_DROPPED]}"))
    x, base = round(0.4 * line), line
    swatch = round(0.55 * line)
    for color, label in entries:
        cv2.rectangle(panel, (x, base - swatch), (x + swatch, base), color, -1)
        x += swatch + round(0.35 * line)
        x += _put(panel, label, (x, base), font) + round(0.8 * line)
    total = f"{kept}/{reasons.size} tokens"
    total_width = _text_width(total, font)
    if x + total_width + round(0.4 * line) <= width:
        _put(panel, total, (width - total_width - round(0.4 * line), base), font)
    for number, content in enumerate(text, start=2):
        _put(panel, _fit(content, font, width - line), (round(0.4 * line), number * line), font)


def _put(panel: np.ndarray, text: str, origin: tuple[int, int], font: float) -> int:
    """Writes `text` with its left end on the baseline at `origin`; returns its width in pixels."""
    cv2.putText(panel, text, origin, _FONT, font, _TEXT_COLOR, 1, cv2.LINE_AA)
    return _text_width(text, font)


@lru_cache(maxsize=4096)
def _text_width(text: str, font: float) -> int:
    return cv2.getTextSize(text, _FONT, font, 1)[0][0]


def _fit(text: str, font: float, width: int) -> str:
    """`text` on one line, in the Hershey font's ASCII, ending in '...' where it is wider than `width` pixels."""
    line = " ".join(text.split()).encode("ascii", "replace").decode("ascii")
    if _text_width(line, font) <= width:
        return line
    while line and _text_width(line + "...", font) > width:
        line = line[:-1]
    return line + "..."
