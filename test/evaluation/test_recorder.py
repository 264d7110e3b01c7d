# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""What a replay leaves in its directory, also when it is cut short."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sqap_vla.evaluation.environment import cpu_model
from sqap_vla.evaluation.recorder import OUTPUTS, ReplayRecorder, check_directory
from sqap_vla.evaluation.report import CAVEAT, render, table
from sqap_vla.evaluation.step import StepRecord, StepRow, read_steps
from sqap_vla.evaluation.summary import RunInfo
from sqap_vla.pruning.ring import Ring, empty_ring
from sqap_vla.runtime.types import StageTimes

FRAMES = 5


@pytest.fixture(scope="module")
def replay(
    tmp_path_factory: pytest.TempPathFactory,
    make_info: Callable[..., RunInfo],
    make_record: Callable[..., StepRecord],
    frame: np.ndarray,
) -> Path:
    """Output of five frames: one without geometry, one beyond the image, one without a recorded action."""
    out = tmp_path_factory.mktemp("replay") / "out"
    info = make_info(method_parameters={"ratio": 0.4})
    special = {
        2: {"ring": empty_ring("no_camera_info"), "fallback": "no_camera_info"},
        3: {"ring": Ring(np.zeros(256, bool), (), (-4.0, 3.0), "outside_image"), "fallback": "outside_image"},
        4: {"recorded_action": None},
    }
    with ReplayRecorder(out, info, strip_frames=2) as recorder:
        for step in range(FRAMES):
            recorder.add(make_record(step, **special.get(step, {})), frame)
        recorder.skip(42, "encoding", "bayer_rggb8 | not supported")
        recorder.warn("camera_transform_missing")
    recorder.finish()
    return out


def test_every_output_is_written_and_named_in_the_summary(replay: Path) -> None:
    summary = json.loads((replay / "summary.json").read_text())
    optional = {"overlay.gif", "replay.rrd"}  # instead of the mp4; with --rerun
    assert {path.name for path in replay.iterdir()} == set(OUTPUTS) - optional
    pictures = summary["pictures"]
    assert [pictures[key] for key in ("overlay_strip", "overlay_video", "actions", "latency")] == [
        "overlay_strip.png",
        "overlay.mp4",
        "actions.png",
        "latency.png",
    ]


def test_a_simulators_report_says_how_its_episodes_ended(
    tmp_path: Path, make_info: Callable[..., RunInfo], make_record: Callable[..., StepRecord]
) -> None:
    with ReplayRecorder(tmp_path / "out", make_info(bag="the built-in tabletop")) as recorder:
        recorder.add(make_record(0), None)
    recorder.finish(episodes="6 of 8 succeeded")
    report = (tmp_path / "out" / "report.md").read_text()
    assert report.startswith("# Episodes on the built-in tabletop\n")
    assert "| episodes | 6 of 8 succeeded |" in report


def test_the_summary_holds_the_numbers_of_the_episode(replay: Path) -> None:
    summary = json.loads((replay / "summary.json").read_text())
    assert (summary["frames"], summary["complete"], summary["instructions"]) == (
        5,
        True,
        ["pick up the red cube"],
    )
    assert (summary["run"]["method"], summary["run"]["seed"], summary["run"]["checkpoint"]) == (
        "sqap",
        7,
        "tiny",
    )
    assert summary["tokens_kept"]["all"] == {"mean": 8.0, "min": 8, "max": 8}
    assert summary["fallbacks"] == {"no_camera_info": 1, "outside_image": 1}
    assert summary["ee_pixel"] == {"inside": 3, "outside": 1, "none": 1}
    assert summary["skipped"]["by_reason"] == {"encoding": 1} and summary["warnings"] == {"camera_transform_missing": 1}
    assert summary["latency"]["stages"]["vision_ms"]["p50"] == pytest.approx(4.5), "frames 1 to 4; frame 0 is warm-up"
    assert [error["mae"] for error in summary["action_error"]] == [pytest.approx(0.01)] * 6
    assert summary["action_error"][0]["frames"] == 4
    assert (
        summary["gripper"]["compared"],
        summary["gripper"]["agreed"],
        summary["gripper"]["not_compared"],
    ) == (4, 4, 1)
    assert summary["versions"]["torch"] and cpu_model() in summary["hardware"]


def test_the_report_says_what_was_run_and_links_files_that_exist(replay: Path) -> None:
    text = (replay / "report.md").read_text()
    for phrase in (
        "| method | sqap |",
        "| ratio | 0.4 |",
        "| seed | 7 |",
        "pick up the red cube",
        "no_camera_info 1",
        CAVEAT,
        "0 of 4 inferences",
        "| dx | m | 4 | 0.01000 |",
        "Agreement 100.0 % of 4 frames",
        "bayer_rggb8",
    ):
        assert phrase in text
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert sorted(links) == ["actions.png", "latency.png", "overlay.mp4", "overlay_strip.png"]
    assert all((replay / link).is_file() for link in links)


def test_without_recorded_actions_the_report_compares_nothing_and_still_shows_the_actions(
    tmp_path: Path, make_info: Callable[..., RunInfo], make_record: Callable[..., StepRecord]
) -> None:
    with ReplayRecorder(tmp_path, make_info(), video=False) as recorder:
        recorder.add(make_record(0, recorded_action=None))
    recorder.finish()
    text = (tmp_path / "report.md").read_text()
    assert "No frame has a recorded action to compare with." in text and "](actions.png)" in text
    assert CAVEAT not in text and "## Gripper" not in text


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_a_directory_that_cannot_be_made_is_refused_with_the_reason(
    tmp_path: Path, make_info: Callable[..., RunInfo], name: str
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"nothing can be written to .*file.*choose another one"):
        ReplayRecorder(tmp_path / name, make_info())
    with pytest.raises(OSError, match=r"file is a file\); choose another one"):
        check_directory(tmp_path / name)
    check_directory(tmp_path / "new" / "below")
    assert not (tmp_path / "new").exists()


def test_tables_stay_tables_whatever_their_cells_hold() -> None:
    lines = table(("a", "b"), [("x|y", "two\nlines")]).splitlines()
    assert lines[2] == "| x\\|y | two lines |" and len(lines) == 3


def test_steps_csv_is_the_same_bytes_however_long_the_frames_took(
    tmp_path: Path, make_info: Callable[..., RunInfo], make_record: Callable[..., StepRecord]
) -> None:
    for name, factor in (("one", 1.0), ("two", 3.7)):
        with ReplayRecorder(tmp_path / name, make_info(), video=False) as recorder:
            for step in range(FRAMES):
                recorder.add(make_record(step, times=StageTimes(*[factor] * 5), wall_ms=factor))
    assert (tmp_path / "one/steps.csv").read_bytes() == (tmp_path / "two/steps.csv").read_bytes()
    assert (tmp_path / "one/timings.csv").read_bytes() != (tmp_path / "two/timings.csv").read_bytes()


def test_finished_rows_are_on_disk_before_the_replay_ends(
    tmp_path: Path,
    make_info: Callable[..., RunInfo],
    make_record: Callable[..., StepRecord],
    frame: np.ndarray,
) -> None:
    with pytest.raises(RuntimeError, match="crash"), ReplayRecorder(tmp_path, make_info()) as recorder:
        for step in range(3):
            recorder.add(make_record(step), frame)
            assert list(read_steps(tmp_path / "steps.csv")) == [StepRow.of(s, make_record(s)) for s in range(step + 1)]
        raise RuntimeError("crash")
    assert len(list(read_steps(tmp_path / "steps.csv"))) == 3
    assert not (tmp_path / "summary.json").exists()


def test_timings_mark_warm_up_and_leave_unknown_times_empty(
    tmp_path: Path, make_info: Callable[..., RunInfo], make_record: Callable[..., StepRecord]
) -> None:
    with ReplayRecorder(tmp_path, make_info(), video=False) as recorder:
        recorder.add(make_record(0, times=None, wall_ms=12.5))
        recorder.add(make_record(1))
    rows = list(csv.DictReader((tmp_path / "timings.csv").open()))
    assert [(r["vision_ms"], r["wall_ms"], r["warm_up"]) for r in rows] == [
        ("", "12.500", "1"),
        ("3.000", "", "0"),
    ]


def test_a_new_replay_leaves_nothing_of_an_earlier_one(tmp_path: Path, make_info: Callable[..., RunInfo]) -> None:
    for name in (*OUTPUTS, "notes.txt"):
        (tmp_path / name).write_text("old")
    with ReplayRecorder(tmp_path, make_info()):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {"steps.csv", "timings.csv", "notes.txt"}


def test_a_replay_without_a_usable_frame_still_reports(tmp_path: Path, make_info: Callable[..., RunInfo]) -> None:
    recorder = ReplayRecorder(tmp_path, make_info())
    recorder.skip(1, "instruction_empty", "no instruction was published")
    summary = recorder.finish(complete=False)
    text = (tmp_path / "report.md").read_text()
    assert summary["frames"] == 0 and "stopped before the end" in text and "instruction_empty 1" in text
    assert render(summary) == text


def test_values_that_are_not_finite_never_reach_the_summary(
    tmp_path: Path, make_info: Callable[..., RunInfo], make_record: Callable[..., StepRecord]
) -> None:
    with ReplayRecorder(tmp_path, make_info(), video=False) as recorder:
        recorder.add(make_record(0, actions=np.full((16, 7), np.nan), recorded_action=np.full(7, np.nan)))
        recorder.add(make_record(1, recorded_action=np.array([np.inf, 0, 0, 0, 0, 0, np.nan])))
    recorder.finish()
    json.loads((tmp_path / "summary.json").read_text(), parse_constant=pytest.fail)
