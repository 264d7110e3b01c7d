# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""`sqap-vla compress` as a user types it, and what the other commands make of its result."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sqap_vla.cli import main
from sqap_vla.cogact.random_checkpoint import write_random_checkpoint
from sqap_vla.evaluation import messages
from sqap_vla.evaluation.bag_writer import BagWriter
from sqap_vla.quantization.artifact import open_model, tokenizer_path
from sqap_vla.quantization.manifest import read_manifest


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_checkpoint(tmp_path_factory.mktemp("compress") / "checkpoint")


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve noisy frames, with an instruction."""
    path = tmp_path_factory.mktemp("compress") / "bag"
    random = np.random.default_rng(0)
    with BagWriter(path) as writer:
        writer.write(messages.string("/instruction", "pick up the red cube", 0))
        for index in range(12):
            picture = random.integers(0, 255, (48, 64, 3), np.uint8)
            writer.write(messages.image("/camera/image", picture, 10**8 * (index + 1), "camera"))
    return path


def test_it_makes_an_artifact_that_runs(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    out = tmp_path / "artifact"
    assert main(["compress", str(checkpoint), str(out)]) == 0
    line = capsys.readouterr().out
    assert line.startswith(f"{out}: w4a4 full token, 0.01 GB in 1 shards") and line.count("\n") == 1
    assert (tokenizer_path(out) / "tokenizer.json").is_file(), "the one beside the checkpoint"
    assert open_model(out).model.dtype == torch.float32


def test_every_choice_reaches_the_manifest(checkpoint: Path, tmp_path: Path):
    options = ["--preset", "paper", "--precision", "w4a8", "--group-size", "8", "--rule", "*.down_proj=w8a8"]
    more = ["--rotation", "full", "--granularity", "token", "--dtype", "bfloat16"]
    assert main(["compress", str(checkpoint), str(tmp_path / "a"), *options, *more]) == 0
    manifest = read_manifest(tmp_path / "a")
    assert str(manifest.quantization_config) == "w4a8 full token group 8 1 rules" and manifest.dtype == "bfloat16"
    assert main(["compress", str(checkpoint), str(tmp_path / "b"), "--precision", "bf16"]) == 0
    assert read_manifest(tmp_path / "b").quantization is None


def test_a_recording_calibrates(checkpoint: Path, bag: Path, tmp_path: Path):
    out = tmp_path / "a"
    command = ["compress", str(checkpoint), str(out), "--granularity", "channel", "--calibrate", str(bag)]
    assert main([*command, "--frames", "3"]) == 0
    first = read_manifest(out)
    assert first.quantization_config.granularity == "channel" and first.calibration
    assert main([*command, "--frames", "4"]) == 0
    assert read_manifest(out).calibration != first.calibration, "of other frames"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (
            ["--preset", "calibrated"],
            "needs calibration frames; make the artifact with sqap-vla compress --calibrate BAG",
        ),
        (["--group-size", "100"], "128 inputs do not divide into groups of 100"),
        (["--rule", "*.down=w4a4"], "matches no linear layer"),
        (["--rule", "down_proj"], "has no '='"),
        (["--calibrate", "BAG", "--preset", "calibrated", "--image-topic", "/other"], "/other"),
        (["--calibrate", "BAG", "--preset", "calibrated", "--frames", "0"], "it must be at least 1"),
        (["--calibrate", "BAG"], "needs none; leave them out"),
    ],
)
def test_a_refusal_is_one_line_and_leaves_nothing(
    checkpoint: Path, bag: Path, tmp_path: Path, capsys: pytest.CaptureFixture, arguments: list[str], reason: str
):
    arguments = [str(bag) if argument == "BAG" else argument for argument in arguments]
    assert main(["compress", str(checkpoint), str(tmp_path / "a"), *arguments]) == 1
    error = capsys.readouterr().err
    assert reason in error and error.count("\n") == 1
    assert not (tmp_path / "a").exists()


def test_an_artifact_is_not_compressed_again(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    assert main(["compress", str(checkpoint), str(tmp_path / "a")]) == 0
    assert main(["compress", str(tmp_path / "a"), str(tmp_path / "b")]) == 1
    assert "is an artifact already" in capsys.readouterr().err
