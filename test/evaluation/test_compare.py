# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Two replays side by side: numbers by hand, matching by stamp, the page, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from sqap_vla.cli import main
from sqap_vla.evaluation.compare import mean_cosine, read_runs
from sqap_vla.evaluation.recorder import ReplayRecorder

FRAMES = 6


@pytest.fixture
def replay(make_info: Callable, make_record: Callable, tmp_path: Path) -> Callable[..., Path]:
    def write(
        name: str, change: Callable[[int, np.ndarray], None] = lambda step, actions: None, **info: object
    ) -> Path:
        with ReplayRecorder(tmp_path / name, make_info(**info), video=False) as recorder:
            for step in range(FRAMES):
                record = make_record(step)
                actions = record.actions.copy()
                if change is not None:
                    change(step, actions)
                recorder.add(make_record(step, actions=actions))
            recorder.finish()
        return tmp_path / name

    return write


def compared(out: Path) -> dict:
    return json.loads((out / "compare.json").read_text())


def shifted(step: int, actions: np.ndarray) -> None:
    """3 mm more in x, 4 mm in y, growing by row; 10 mrad of yaw; every second gripper the other way."""
    growth = np.arange(1, 17)
    actions[:, 0] += 0.003 * growth
    actions[:, 1] += 0.004 * growth
    actions[:, 5] -= 0.01
    if step % 2:
        actions[:, 6] = 1 - actions[:, 6]


def test_differences_are_those_that_were_made(replay: Callable, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    runs = [replay("dense", method="dense"), replay("sqap", shifted, precision="w4a4 full token")]
    assert main(["compare", *map(str, runs), "--out", str(tmp_path / "out")]) == 0
    result = compared(tmp_path / "out")["compared"][0]
    dimensions = {row["name"]: row for row in result["dimensions"]}
    assert dimensions["dx"]["mean_abs"] == pytest.approx(0.003)
    assert dimensions["dyaw"]["bias"] == pytest.approx(-0.01)
    assert dimensions["dz"]["max_abs"] == 0.0
    assert dimensions["dx"]["reference_std"] == pytest.approx(np.std(0.01 * np.arange(FRAMES) + 0.01))
    rows = result["by_row"]
    assert [rows[r]["translation_m"] for r in (0, 1, 15)] == pytest.approx([0.005, 0.010, 0.080])
    assert rows[15]["rotation_rad"] == pytest.approx(0.01)
    assert rows[15]["led_to_m"] == pytest.approx(0.005 * 16 * 17 / 2)  # rows are deltas, which add up
    assert 1.0 > rows[0]["cosine"] > rows[15]["cosine"]
    assert result["gripper_disagreement_percent"] == pytest.approx(50.0)
    assert result["frames"] == FRAMES
    assert compared(tmp_path / "out")["reference"] == "dense float32" and result["name"] == "sqap w4a4"
    assert "6 frames, 5.00 mm and 10.00 mrad from the reference" in capsys.readouterr().out


def test_a_run_is_itself(replay: Callable, tmp_path: Path) -> None:
    runs = [replay("one"), replay("two")]
    assert main(["compare", *map(str, runs), "--out", str(tmp_path / "out")]) == 0
    result = compared(tmp_path / "out")["compared"][0]
    assert result["cosine"]["translation"] == pytest.approx(1.0) and result["by_row"][15]["translation_m"] == 0.0
    assert result["gripper_disagreement_percent"] == 0.0


def test_frames_are_matched_by_their_stamps(replay: Callable, tmp_path: Path) -> None:
    dense, late = replay("dense", method="dense"), tmp_path / "late"
    replay("late", shifted)
    with np.load(late / "chunks.npz") as arrays:
        stamps, actions = arrays["stamps_ns"], arrays["actions"]
    order = np.array([5, 4, 3, 2, 1, 0])
    np.savez(late / "chunks.npz", stamps_ns=stamps[order], actions=actions[order])
    assert main(["compare", str(dense), str(late), "--out", str(tmp_path / "out")]) == 0
    assert compared(tmp_path / "out")["compared"][0]["by_row"][0]["translation_m"] == pytest.approx(0.005)


def test_latency_leaves_the_warm_up_out_and_counts_late_inferences(replay: Callable, tmp_path: Path) -> None:
    runs = [replay("dense", method="dense", step_s=0.012), replay("sqap")]
    assert main(["compare", *map(str, runs), "--out", str(tmp_path / "out")]) == 0
    dense, sqap = compared(tmp_path / "out")["latency"]
    assert (dense["frames"], dense["p50_ms"], dense["max_ms"]) == (5, 13.0, 15.0)  # 11 to 15 ms
    assert dense["missed_percent"] == pytest.approx(60.0) and sqap["missed_percent"] == 0.0


class Page(HTMLParser):
    """Tags must close in order; collects text and pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text, self.pictures = "", 0

    def handle_starttag(self, tag: str, attrs: list) -> None:
        if tag not in ("img", "meta"):
            self.open.append(tag)
        self.pictures += tag == "img" and dict(attrs)["src"].startswith("data:image/png;base64,iVBOR")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_is_one_file_with_its_pictures_and_names_are_text(replay: Callable, tmp_path: Path) -> None:
    runs = [
        replay("dense", method="dense", bag="<script>alert(1)</script>"),
        replay("a", shifted),
        replay("b", shifted),
    ]
    assert main(["compare", *map(str, runs), "--out", str(tmp_path / "out")]) == 0
    html = (tmp_path / "out" / "compare.html").read_text()
    page = Page()
    page.feed(html)
    assert page.pictures == 4 and not page.open
    assert "<script>alert(1)</script>" in page.text and "<script" not in html
    assert str(runs[1]) in page.text  # two runs of one method are told apart by their directories


def test_what_is_no_run_is_refused_with_a_remedy(
    replay: Callable, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    run, other = replay("run"), replay("other")
    assert main(["compare", str(run)]) == 1
    assert "one run is nothing to compare" in capsys.readouterr().err
    assert main(["compare", str(run), str(tmp_path)]) == 1
    assert "has no summary.json; give a directory that `sqap-vla replay --out` wrote" in capsys.readouterr().err
    (other / "chunks.npz").write_bytes(b"nothing")
    assert main(["compare", str(run), str(other)]) == 1
    assert "cannot be read" in capsys.readouterr().err


def test_runs_without_a_common_frame_are_refused(replay: Callable, tmp_path: Path) -> None:
    run, other = replay("run"), replay("other")
    with np.load(other / "chunks.npz") as arrays:
        np.savez(other / "chunks.npz", stamps_ns=arrays["stamps_ns"] + 1, actions=arrays["actions"])
    assert main(["compare", str(run), str(other), "--out", str(tmp_path / "out")]) == 1


def test_a_pickled_array_is_not_loaded(replay: Callable) -> None:
    run = replay("run")
    np.savez(run / "chunks.npz", stamps_ns=np.array([object()]), actions=np.zeros((1, 16, 7)))
    with pytest.raises(ValueError, match="cannot be read"):
        read_runs([run])


def test_cosine_leaves_out_what_has_no_direction() -> None:
    first = np.array([[1.0, 0, 0], [0, 0, 0], [0, 2, 0]])
    second = np.array([[2.0, 0, 0], [1, 0, 0], [0, -1, 0]])
    assert mean_cosine(first, second, 0.5) == pytest.approx(0.0)
    assert mean_cosine(first, second, 1.5) is None and mean_cosine(np.zeros((2, 3)), second[:2], 1e-9) is None
