# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The overlay marks the tokens that were kept, in the colour of their reason, at their place; checked pixel
by pixel.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sqap_vla.pruning.overlay import REASON_COLORS, auto_scale, draw_overlay, token_edges, token_reasons
from sqap_vla.pruning.ring import Ring, empty_ring, pixel_to_token
from sqap_vla.pruning.selection import Reason, TokenSelection, keep_all

GRAY = 150


def gray_frame(width: int = 640, height: int = 480) -> np.ndarray:
    return np.full((height, width, 3), GRAY, np.uint8)


def selection_of(reasons: dict[int, Reason]) -> TokenSelection:
    kept = sorted(reasons)
    return TokenSelection(
        torch.tensor(kept, dtype=torch.int64), torch.tensor([reasons[t] for t in kept], dtype=torch.uint8)
    )


def token_center(token: int, width: int, height: int) -> tuple[int, int]:
    """Row and column of the pixel in the middle of a token."""
    rows, columns = token_edges(height), token_edges(width)
    t_v, t_u = divmod(token, 16)
    return int(rows[t_v] + rows[t_v + 1]) // 2, int(columns[t_u] + columns[t_u + 1]) // 2


@given(size=st.integers(16, 3000))
def test_a_pixel_is_drawn_in_the_token_that_the_method_assigns_it_to(size: int) -> None:
    edges = token_edges(size)
    for token in range(16):
        for pixel in (int(edges[token]), int(edges[token + 1]) - 1):
            assert pixel_to_token((pixel, 0), size, 16)[0] == token


@settings(max_examples=25, deadline=None)
@given(data=st.data(), size=st.sampled_from([(640, 480), (640, 512), (449, 333)]))
def test_kept_tokens_bear_their_reasons_tint_and_dropped_ones_are_dark(
    data: st.DataObject, size: tuple[int, int]
) -> None:
    width, height = size
    reasons = data.draw(st.dictionaries(st.integers(0, 255), st.sampled_from(list(Reason)), max_size=256))
    picture = draw_overlay(gray_frame(width, height), selection_of(reasons))
    for token in range(256):
        pixel = picture[token_center(token, width, height)].astype(float)
        if token not in reasons:
            assert pixel == pytest.approx([0.34 * GRAY] * 3, abs=1)
            continue
        share = 0.1 if reasons[token] == Reason.OTHER else 0.25
        color = np.array(REASON_COLORS[reasons[token]])
        assert pixel == pytest.approx((1 - share) * GRAY + share * color, abs=2)


def test_a_kept_token_is_framed_in_its_reasons_full_colour() -> None:
    picture = draw_overlay(gray_frame(), selection_of({17: Reason.FPS, 18: Reason.RING}))
    rows, columns = token_edges(480), token_edges(640)
    assert tuple(picture[rows[1], columns[1]]) == REASON_COLORS[Reason.FPS]
    assert tuple(picture[rows[1], columns[2]]) == REASON_COLORS[Reason.RING]
    assert tuple(picture[rows[1] + 10, columns[2] - 2]) == REASON_COLORS[Reason.FPS]
    assert picture[rows[1] - 1, columns[1]].tolist() == [51] * 3, "the dropped neighbour is left alone"


def test_the_reasons_differ_in_lightness_or_hue_for_colour_blind_eyes() -> None:
    # Deuteranopia and protanopia confuse red with green: what remains is lightness and blue against yellow
    # (opponent channel).
    colors = np.array([REASON_COLORS[r] for r in Reason], float)
    lightness = colors @ [0.299, 0.587, 0.114]
    blue_yellow = colors[:, 2] - colors[:, :2].mean(axis=1)
    for one in range(len(Reason)):
        for other in range(one):
            assert np.hypot(lightness[one] - lightness[other], blue_yellow[one] - blue_yellow[other]) > 40


def ring_around(t_u: int, t_v: int, pixel: tuple[float, float] | None) -> Ring:
    mask = np.zeros((16, 16), bool)
    mask[max(0, t_v - 2) : t_v + 3, max(0, t_u - 2) : t_u + 3] = True
    return Ring(mask.ravel(), ((t_u, t_v),), pixel, "")


def test_the_ring_is_outlined_and_the_end_effector_marked_at_its_pixel() -> None:
    plain = draw_overlay(gray_frame(), keep_all(256, "cpu"))
    picture = draw_overlay(gray_frame(), keep_all(256, "cpu"), ring_around(8, 8, (338.2, 251.7)))
    white = (picture == 255).all(axis=2)
    rows, columns = token_edges(480), token_edges(640)
    for row in (rows[6] + 5, rows[10] - 5):
        assert white[row, columns[6] - 2 : columns[6] + 3].any() and white[row, columns[11] - 3 : columns[11] + 3].any()
    changed = np.argwhere((picture != plain).any(axis=2))
    inner = changed[(abs(changed[:, 0] - 252) < 25) & (abs(changed[:, 1] - 338) < 25)]
    assert inner.mean(axis=0) == pytest.approx([252, 338], abs=1), "the crosshair is centred on (u, v) = (338, 252)"
    assert not white[rows[6] + 5 : rows[8] - 20, columns[8]].any(), "nothing else is white"


@pytest.mark.parametrize(
    ("pixel", "corner"),
    [((900.0, 240.0), (240, 620)), ((-50.0, 240.0), (240, 20)), ((320.0, -1e9), (20, 320))],
)
def test_an_end_effector_outside_the_image_is_pointed_at_from_the_border(
    pixel: tuple[float, float], corner: tuple[int, int]
) -> None:
    plain = draw_overlay(gray_frame(), keep_all(256, "cpu"))
    picture = draw_overlay(gray_frame(), keep_all(256, "cpu"), empty_ring("outside_image", pixel))
    changed = np.argwhere((picture != plain).any(axis=2))
    assert len(changed) and np.abs(changed.mean(axis=0) - corner).max() < 15


def test_a_small_frame_is_enlarged_until_its_legend_is_legible() -> None:
    assert [auto_scale(width) for width in (128, 224, 448, 640)] == [4, 2, 1, 1]
    picture = draw_overlay(gray_frame(224, 224), keep_all(256, "cpu"))
    assert picture.shape[1] == 448 and picture.shape[0] > 448
    marked = draw_overlay(gray_frame(224, 224), keep_all(256, "cpu"), ring_around(8, 8, (120.0, 120.0)), scale=1)
    assert marked.shape[1] == 224


def test_the_panels_height_does_not_depend_on_what_is_written() -> None:
    few, many = ({0: Reason.RING}, dict.fromkeys(range(200), Reason.FPS) | {200: Reason.ATTENTION})
    shapes = {
        draw_overlay(gray_frame(), selection_of(reasons), text=[text, "x"]).shape
        for reasons in (few, many)
        for text in ("", "a", "very long " * 100, "line\nbreak and ümlaut")
    }
    assert len(shapes) == 1


def test_the_input_is_left_alone_and_the_same_input_gives_the_same_picture() -> None:
    frame, selection, ring = gray_frame(), selection_of({5: Reason.RING}), ring_around(5, 0, (200.0, 10.0))
    first = draw_overlay(frame, selection, ring, ["text"])
    assert (frame == GRAY).all()
    assert np.array_equal(first, draw_overlay(frame, selection, ring, ["text"]))


def test_token_reasons_is_the_map_of_the_selection() -> None:
    reasons = token_reasons(selection_of({0: Reason.RING, 17: Reason.FPS}))
    assert (reasons[0, 0], reasons[1, 1], reasons[2, 2]) == (Reason.RING, Reason.FPS, len(Reason))


@pytest.mark.parametrize(
    "bad",
    [np.zeros((480, 640), np.uint8), np.zeros((480, 640, 3), np.float32), np.zeros((8, 640, 3), np.uint8)],
)
def test_an_image_of_another_kind_is_refused(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="must be uint8"):
        draw_overlay(bad, keep_all(256, "cpu"))
    with pytest.raises(ValueError, match="scale is 0"):
        draw_overlay(gray_frame(), keep_all(256, "cpu"), scale=0)
