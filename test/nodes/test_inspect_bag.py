# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""`sqap-vla inspect --attention BAG`, as a user types it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from episode import FRAMES, bag, garbage_at

from sqap_vla.cli import main
from sqap_vla.cogact.config import DecoderConfig, HeadConfig
from sqap_vla.cogact.random_checkpoint import demo_config, write_random_checkpoint
from sqap_vla.evaluation.inspect_study import all_variants
from sqap_vla.nodes.inspect_bag import evenly

CONFIG = Path(__file__).parents[2] / "config" / "widowx.yaml"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two layers of 32 channels."""
    decoder = DecoderConfig(192, 32, 48, 2, 2, 2)
    config = replace(demo_config(), decoder=decoder, head=HeadConfig(1, 32, 2, token_size=32))
    return write_random_checkpoint(tmp_path_factory.mktemp("inspect") / "checkpoint", config)


def inspect(checkpoint: Path, recording: Path, out: Path, *more: str) -> int:
    return main(
        [
            "inspect", "--attention", str(recording), "--checkpoint", str(checkpoint), "--config", str(CONFIG),
            "--out", str(out), "--set", "prune_layer=1", *more,
        ]
    )  # fmt: skip


def test_pictures_and_a_report_of_the_frames(checkpoint, tmp_path, capsys):
    recording = bag(tmp_path / "bag", edit=garbage_at(1))
    assert inspect(checkpoint, recording, tmp_path / "out", "--frames", "2", "--add-outliers") == 0
    assert capsys.readouterr().out == f"report: {tmp_path / 'out' / 'report.md'}\n"
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {"report.md", "report.json", "attention.png", "channels.png", "agreement.png"}
    content = json.loads((tmp_path / "out" / "report.json").read_text())
    assert content["about"]["frames"] == f"2 of {FRAMES - 1}; calibration on 2 others"
    assert content["about"]["outliers"].startswith("added")
    assert (content["score_layer"], content["k"]) == (0, 38)
    assert [row["name"] for row in content["variants"]] == [str(variant) for variant in all_variants()]


@pytest.mark.parametrize(
    ("options", "more", "message"),
    [
        ({"edit": garbage_at(*range(FRAMES))}, [], f"none of {FRAMES} images"),
        ({"without": ("/camera/image_raw",)}, [], "has no topic"),
        ({}, ["--frames", "0"], "frames is 0"),
        ({}, ["--set", "prune_layer=9"], "layer 8 of 2"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(checkpoint, tmp_path, capsys, options, more, message):
    assert inspect(checkpoint, bag(tmp_path / "bag", **options), tmp_path / "out", *more) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_an_artifact_has_no_float_weights_to_compare_with(checkpoint, tmp_path, capsys):
    assert main(["compress", str(checkpoint), str(tmp_path / "artifact")]) == 0
    assert inspect(tmp_path / "artifact", bag(tmp_path / "bag"), tmp_path / "out") == 1
    assert "give the checkpoint it was made from" in capsys.readouterr().err


def test_frames_are_spread_evenly():
    assert evenly(range(10), 4) == [0, 3, 6, 9]
    assert evenly(range(10), 1) == [0]
    assert evenly(range(3), 4) == [0, 1, 2]
