# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The video can be played back, the strip is evenly spaced and bounded, the plots are drawn."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sqap_vla.evaluation import plots
from sqap_vla.evaluation.pictures import GIF_MAX_FRAMES, MP4_CODECS, PictureStrip, VideoWriter
from sqap_vla.evaluation.step import STAGES


def gray(level: int, width: int = 64, height: int = 48) -> np.ndarray:
    return np.full((height, width, 3), level, np.uint8)


@pytest.mark.parametrize("codecs", [MP4_CODECS, ("mp4v",)])
def test_a_video_plays_back_its_frames(tmp_path: Path, codecs: tuple[str, ...]) -> None:
    video = VideoWriter(tmp_path, "overlay", 5.0, codecs)
    for level in (20, 120, 220):
        video.add(gray(level))
    path = video.close()
    assert path == video.close() == tmp_path / "overlay.mp4" and video.codec in codecs
    played = cv2.VideoCapture(str(path))
    levels = [frame.mean() for ok, frame in iter(played.read, (False, None)) if ok]
    assert levels == pytest.approx([20, 120, 220], abs=6)
    assert played.get(cv2.CAP_PROP_FPS) == pytest.approx(5.0)


def test_without_an_encoder_the_video_becomes_a_gif(tmp_path: Path) -> None:
    video = VideoWriter(tmp_path, "overlay", 5.0, codecs=())
    for step in range(GIF_MAX_FRAMES + 5):
        video.add(gray(step))
    path = video.close()
    with Image.open(path) as gif:
        assert (path.name, video.codec, gif.n_frames, gif.info["duration"]) == (
            "overlay.gif",
            "gif",
            GIF_MAX_FRAMES,
            200,
        )
    assert not (tmp_path / "overlay.mp4").exists()


def test_odd_and_changing_sizes_do_not_break_a_video(tmp_path: Path) -> None:
    video = VideoWriter(tmp_path, "overlay", 3.0)
    video.add(gray(10, 65, 49))
    video.add(gray(200, 128, 96))
    played = cv2.VideoCapture(str(video.close()))
    assert [played.read()[1].shape for _ in range(2)] == [(48, 64, 3)] * 2


def test_no_frame_no_file(tmp_path: Path) -> None:
    assert VideoWriter(tmp_path, "overlay", 5.0).close() is None
    assert PictureStrip().save(tmp_path / "strip.png") is None
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="rate_hz"):
        VideoWriter(tmp_path, "overlay", 0.0)


@given(frames=st.integers(1, 600), count=st.integers(1, 10))
def test_the_strip_is_evenly_spaced_whatever_the_length(frames: int, count: int) -> None:
    strip = PictureStrip(count, picture_width_px=1)
    for _ in range(frames):
        strip.add(np.zeros((1, 1, 3), np.uint8))
    chosen = strip.chosen()
    assert chosen[0] == 0 and chosen == sorted(set(chosen)) and len(chosen) == min(frames, count)
    assert len(strip._kept) <= 8 * count
    if count > 1 and frames > count:
        even = np.linspace(0, chosen[-1], count)
        assert np.abs(even - chosen).max() <= max(0.5, (even[1] - even[0]) / 8)


def test_strip_pictures_stand_in_order_in_rows(tmp_path: Path) -> None:
    strip = PictureStrip(count=3, columns=2, picture_width_px=64)
    for level in (10, 60, 110):
        strip.add(gray(level))
    picture = np.asarray(Image.open(strip.save(tmp_path / "strip.png")))
    assert picture.shape == (2 * 48 + 6, 2 * 64 + 6, 3)
    assert [picture[24, 32, 0], picture[24, 102, 0], picture[78, 32, 0]] == [10, 60, 110]


def test_plots_are_drawn_with_gaps_in_the_data(tmp_path: Path) -> None:
    predicted = np.random.default_rng(0).normal(size=(5, 7))
    recorded = predicted.copy()
    recorded[2] = np.nan
    plots.plot_actions(tmp_path / "actions.png", np.arange(5.0), predicted, recorded, [1.0, None, 0.0, 0.0, 1.0])
    plots.plot_latency(tmp_path / "latency.png", {stage: [1.0, None, 3.0] for stage in STAGES}, 0.2, warm_up=1)
    for name in ("actions.png", "latency.png"):
        assert np.asarray(Image.open(tmp_path / name)).std() > 0
