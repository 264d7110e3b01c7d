# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""What the Rerun file is told, frame by frame, and what is said where the SDK is missing.

Most of it with a recorder in the SDK's place, so that it runs everywhere; with the SDK itself where it is installed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from sqap_vla.cli import main
from sqap_vla.evaluation import rerun_file
from sqap_vla.evaluation.rerun_file import RerunFile


class Archetype:
    """Any of the SDK's: keeps what it was made of."""

    def __init__(self, *values: object, **options: object) -> None:
        self.values, self.options = values, options

    def compress(self, jpeg_quality: int) -> Archetype:
        return self


class Stream:
    def __init__(self, *_: object, **__: object) -> None:
        self.logged: list[tuple[str, Archetype]] = []
        self.times: list[dict] = []

    def save(self, path: Path) -> None:
        self.path = path

    def set_time(self, timeline: str, **value: object) -> None:
        self.times.append({timeline: value})

    def log(self, where: str, what: Archetype, static: bool = False) -> None:
        self.logged.append((where, what))

    def flush(self) -> None: ...

    def disconnect(self) -> None: ...


@pytest.fixture
def sdk(monkeypatch: pytest.MonkeyPatch) -> Stream:
    stream = Stream()
    names = [
        "AnnotationContext",
        "TextDocument",
        "Scalars",
        "Image",
        "Points2D",
        "SegmentationImage",
        "Tensor",
        "LineStrips3D",
        "TextLog",
    ]
    fake = SimpleNamespace(RecordingStream=lambda *_, **__: stream, **dict.fromkeys(names, Archetype))
    monkeypatch.setitem(sys.modules, "rerun", fake)
    return stream


def last(stream: Stream, where: str) -> object:
    return [what for name, what in stream.logged if name == where][-1].values[0]


def test_a_frame_is_told_with_tokens_actions_and_times(
    sdk: Stream, make_info: Callable, make_record: Callable, tmp_path: Path
) -> None:
    file, rgb = RerunFile(tmp_path / "replay.rrd", make_info()), np.zeros((64, 96, 3), np.uint8)
    for step in (0, 1):
        file.add(make_record(step), rgb)
    file.close()
    reasons = last(sdk, "tokens/reason")
    record = make_record(1)
    assert reasons.shape == (16, 16)
    assert np.flatnonzero(reasons).tolist() == record.selection.kept.tolist()
    assert reasons.ravel()[record.selection.kept.numpy()].tolist() == (record.selection.reason + 1).tolist()
    times_kept = last(sdk, "tokens/times_kept").ravel()
    assert times_kept[0] == 1 and times_kept[1] == 2 and times_kept[9] == 0
    path_m = last(sdk, "chunk/path")[0]
    assert path_m.shape == (17, 3) and np.allclose(path_m[-1], record.actions[:, :3].sum(axis=0))
    assert last(sdk, "action/dx") == [pytest.approx(0.02)] and last(sdk, "recorded/dx") == [pytest.approx(0.01)]
    assert last(sdk, "ms/total") == [11.0] and last(sdk, "ms/deadline") == [pytest.approx(200.0)]
    assert last(sdk, "camera/image/end_effector") == [(11.5, 20.25)]
    assert {"frame": {"sequence": 1}} in sdk.times


def test_without_the_sdk_it_says_what_to_install_before_anything_else(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "rerun", None)
    command = [
        "replay",
        str(tmp_path / "bag"),
        "--checkpoint",
        str(tmp_path),
        "--rerun",
        "--out",
        str(tmp_path / "out"),
    ]
    assert main(command) == 1
    assert "pip install rerun-sdk" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_sdk_itself_writes_the_file(make_info: Callable, make_record: Callable, tmp_path: Path) -> None:
    pytest.importorskip("rerun", reason="rerun-sdk is not installed; the test above has a recorder in its place")
    file = RerunFile(tmp_path / rerun_file.FILE, make_info())
    file.add(make_record(0), np.zeros((64, 96, 3), np.uint8))
    file.close()
    data = (tmp_path / rerun_file.FILE).read_bytes()
    assert data[:3] == b"RRF" and b"tokens/times_kept" in data
