# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""`sqap-vla replay`, offline: the same bytes every time, interpolated geometry, and one line for what is missing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from episode import FRAMES, START_NS, STEP_NS, bag, episode, garbage_at, pixel, transforms_around

from sqap_vla.cli import main
from sqap_vla.evaluation.bag import BagMessage
from sqap_vla.evaluation.bag_writer import write_bag
from sqap_vla.evaluation.step import StepRow, read_steps
from sqap_vla.pruning.selection import Reason

CONFIG = Path(__file__).parents[2] / "config" / "widowx.yaml"


class Replay:
    """The command line, with a checkpoint."""

    def __init__(self, checkpoint: Path, directory: Path) -> None:
        self.checkpoint, self.directory, self.count = checkpoint, directory, 0

    def arguments(self, path: Path, out: Path, *more: str) -> list[str]:
        return [
            "replay",
            str(path),
            "--checkpoint",
            str(self.checkpoint),
            "--config",
            str(CONFIG),
            "--out",
            str(out),
            *more,
        ]

    def __call__(self, path: Path, *more: str, status: int = 0) -> Path:
        """Runs it; the directory of its report."""
        self.count += 1
        out = self.directory / f"out{self.count}"
        assert main(self.arguments(path, out, *more)) == status
        return out

    def rows(self, path: Path, *more: str) -> list[StepRow]:
        return list(read_steps(self(path, *more) / "steps.csv"))


@pytest.fixture
def replay(small_checkpoint: Path, tmp_path: Path) -> Replay:
    return Replay(small_checkpoint, tmp_path)


@pytest.fixture(scope="module")
def whole(small_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of the episode as it is: raw images in mcap, sqap, seed 0."""
    directory = tmp_path_factory.mktemp("whole")
    return Replay(small_checkpoint, directory)(bag(directory / "bag"))


def summary(out: Path) -> dict:
    return json.loads((out / "summary.json").read_text())


def refusal(capsys: pytest.CaptureFixture) -> str:
    """The one line that says why."""
    (line,) = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("replay:")]
    assert line.startswith("sqap-vla replay: ")
    return line


def test_two_runs_give_the_same_bytes_and_another_seed_others(replay: Replay, tmp_path: Path, whole: Path):
    path = bag(tmp_path / "bag")
    first, second, other = (out / "steps.csv" for out in (whole, replay(path), replay(path, "--seed", "4")))
    assert first.read_bytes() == second.read_bytes() != other.read_bytes()
    assert len(list(read_steps(first))) == FRAMES


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_storage_and_lossless_compression_make_no_difference(replay: Replay, tmp_path: Path, whole: Path, storage: str):
    path = bag(tmp_path / "bag", storage=storage, transport="compressed")
    assert (replay(path) / "steps.csv").read_bytes() == (whole / "steps.csv").read_bytes()


@pytest.mark.parametrize("method, kept", [("dense", 256), ("random", 154), ("sqap", 154)])
def test_each_method_keeps_its_budget_under_its_reasons(replay: Replay, tmp_path: Path, method: str, kept: int):
    for row in replay.rows(bag(tmp_path / "bag"), "--method", method, "--set", "pruning_ratio=0.4"):
        assert len(row.kept) == kept
        assert sorted(index for tokens in row.by_reason.values() for index in tokens) == list(row.kept)
        assert bool(row.by_reason[Reason.RING]) == (method == "sqap")
        assert bool(row.by_reason[Reason.OTHER]) == (method != "sqap")


def test_the_hand_is_where_the_transforms_around_the_image_put_it(whole: Path):
    rows = list(read_steps(whole / "steps.csv"))
    for row in rows:
        assert row.stamp_ns not in transforms_around(row.stamp_ns), "the episode tests interpolation"
        np.testing.assert_allclose(row.pixel, pixel(row.stamp_ns), atol=1e-3)
        assert row.fallback == "" and row.inside
        u, v = row.pixel
        assert 16 * int(v / 48 * 16) + int(u / 64 * 16) in row.by_reason[Reason.RING]
    assert [row.stamp_ns for row in rows] == [START_NS + number * STEP_NS for number in range(FRAMES)]
    assert [row.recorded[0] for row in rows] == pytest.approx([0.01 * number for number in range(FRAMES)])


def test_the_report_is_complete(whole: Path):
    assert {"summary.json", "steps.csv", "report.md"} <= {path.name for path in whole.iterdir()}
    report = summary(whole)
    assert report["frames"] == FRAMES and report["skipped"]["frames"] == 0
    assert "tokens" in (whole / "report.md").read_text().lower()


@pytest.mark.parametrize(
    "missing, fallback",
    [("/camera/camera_info", "no_camera_info"), ("/tf_static", "no_camera_transform"), ("/tf", "no_camera_transform")],
)
def test_missing_geometry_is_a_fallback_in_every_row(replay: Replay, tmp_path: Path, missing: str, fallback: str):
    rows = replay.rows(bag(tmp_path / "bag", without=[missing]))
    assert [row.fallback for row in rows] == [fallback] * FRAMES
    assert all(row.pixel is None and len(row.kept) == 154 and not row.by_reason[Reason.RING] for row in rows)


def test_without_an_instruction_it_says_so_and_takes_one_from_the_command_line(
    replay: Replay, tmp_path: Path, whole: Path, capsys: pytest.CaptureFixture
):
    path = bag(tmp_path / "bag", without=["/instruction"])
    replay(path, status=1)
    assert "none of 6 images could be used: the instruction is empty" in refusal(capsys)
    given = replay(path, "--instruction", "pick up the red cube")
    assert (given / "steps.csv").read_bytes() == (whole / "steps.csv").read_bytes()


def test_a_garbage_frame_is_left_out_and_told(replay: Replay, tmp_path: Path, whole: Path):
    out = replay(bag(tmp_path / "bag", edit=garbage_at(2)))
    rows = list(read_steps(out / "steps.csv"))
    assert [(row.stamp_ns, row.kept, row.action) for row in rows] == [
        (row.stamp_ns, row.kept, row.action)
        for row in read_steps(whole / "steps.csv")
        if row.stamp_ns != START_NS + 2 * STEP_NS
    ]
    skipped = summary(out)["skipped"]
    assert skipped["frames"] == 1 and "image_encoding" in json.dumps(skipped)


def test_nothing_but_garbage_is_an_error(replay: Replay, tmp_path: Path, capsys: pytest.CaptureFixture):
    replay(bag(tmp_path / "bag", edit=garbage_at(*range(FRAMES))), status=1)
    assert "image encoding is 'rgb9'" in refusal(capsys)


def test_a_second_image_of_one_stamp_is_left_out(replay: Replay, tmp_path: Path):
    made = episode()
    second = next(message for message in made if message.topic == "/camera/image_raw")
    twice = sorted([*made, replace(second, stamp_ns=second.stamp_ns + 1_000_000)], key=lambda message: message.stamp_ns)
    out = replay(write_bag(tmp_path / "bag", twice))
    assert len(list(read_steps(out / "steps.csv"))) == FRAMES
    assert "image_out_of_order" in json.dumps(summary(out)["skipped"])


def test_a_recording_that_starts_over_is_read_again_from_there(replay: Replay, tmp_path: Path):
    """A clock that goes back: transforms of the first round must not hide those of the second."""
    back_ns = 100_000_000_000
    first = episode()
    second = [replace(msg, stamp_ns=msg.stamp_ns + 2 * back_ns) for msg in episode(shift_ns=-back_ns)]
    rows = replay.rows(write_bag(tmp_path / "bag", [*first, *second]))
    assert len(rows) == 2 * FRAMES
    assert [row.fallback for row in rows[:FRAMES]] == [""] * FRAMES
    assert [row.fallback for row in rows[-3:]] == [""] * 3


def no_image(number: int, message: BagMessage) -> None:
    return None


@pytest.mark.parametrize(
    "options, more, said",
    [
        ({"edit": no_image}, (), "has no topic '/camera/image_raw'; it has: /camera/camera_info"),
        ({}, ("--unnorm-key", "bridge"), "unnorm_key 'bridge' is not in dataset_statistics.json; it has: bridge_orig"),
        ({}, ("--tokenizer", "/nowhere/tokenizer.json"), "/nowhere/tokenizer.json"),
        ({}, ("--config", "/nowhere.yaml"), "parameter file /nowhere.yaml cannot be read"),
        ({}, ("--checkpoint", "/nowhere"), "/nowhere"),
    ],
)
def test_what_cannot_be_replayed_is_told_in_one_line(
    replay: Replay, tmp_path: Path, capsys: pytest.CaptureFixture, options: dict, more: tuple[str, ...], said: str
):
    replay(bag(tmp_path / "bag", **options), *more, status=1)
    assert said in refusal(capsys)


def test_a_path_that_is_no_bag_is_told_by_the_command(replay: Replay, tmp_path: Path):
    command = [sys.executable, "-m", "sqap_vla.cli", *replay.arguments(tmp_path / "nowhere", tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ), timeout=120)
    assert done.returncode == 1
    assert done.stderr.startswith(f"sqap-vla replay: bag '{tmp_path}/nowhere' does not exist")
    assert len(done.stderr.splitlines()) == 1
