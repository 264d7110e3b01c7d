# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Writing: re-use, repair, replacement in one step, and how much memory it takes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from artifact_files import assert_still, expected_names, files_of, flip_a_bit, names_in

from sqap_vla.cogact.errors import CheckpointError, TokenizerError
from sqap_vla.quantization.artifact import load_artifact, verify_artifact, write_artifact
from sqap_vla.quantization.manifest import ArtifactError
from sqap_vla.quantization.order import Recipe
from sqap_vla.quantization.shards import Progress

F32, BF16 = torch.float32, torch.bfloat16


def test_the_same_checkpoint_and_dtype_is_not_written_again(artifact: Path, checkpoint: Path):
    before = files_of(artifact)
    write_artifact(checkpoint, artifact, Recipe(F32))
    assert files_of(artifact) == before


@pytest.mark.parametrize("change", ["dtype", "checkpoint", "tokenizer"])
def test_another_content_replaces_the_old_files(artifact: Path, checkpoint: Path, other_checkpoint: Path, change: str):
    old = names_in(artifact)
    manifest = write_artifact(
        other_checkpoint if change == "checkpoint" else checkpoint,
        artifact,
        Recipe(BF16 if change == "dtype" else F32),
        checkpoint if change == "tokenizer" else None,
    )
    assert names_in(artifact) == expected_names(manifest)
    assert old & names_in(artifact) == {"manifest.json", ".lock"}


def test_a_damaged_artifact_is_repaired(artifact: Path, checkpoint: Path):
    flip_a_bit(artifact)
    write_artifact(checkpoint, artifact, Recipe(F32))
    verify_artifact(artifact)
    (artifact / "manifest.json").write_bytes(b"{")
    manifest = write_artifact(checkpoint, artifact, Recipe(F32))
    assert_still(artifact, checkpoint, manifest)


def test_shards_hold_at_most_the_given_size(checkpoint: Path, tmp_path: Path):
    manifest = write_artifact(checkpoint, tmp_path / "a", Recipe(F32), max_shard_bytes=90_000)
    assert len(manifest.shards) > 3 and max(entry.size_bytes for entry in manifest.shards) < 100_000
    load_artifact(tmp_path / "a")


def test_progress_reaches_the_end_in_steps(checkpoint: Path, tmp_path: Path):
    told: list[Progress] = []
    write_artifact(checkpoint, tmp_path / "a", Recipe(F32), progress=told.append)
    done = [progress.done_bytes for progress in told]
    assert done == sorted(done) and done[-1] >= told[-1].total_bytes > 0
    assert str(Progress("writing weights", 5 * 10**9, 10**10)) == "writing weights: 50 % of 10.00 GB"


def test_the_tokenizer_is_copied_with_its_configuration(checkpoint: Path, tmp_path: Path):
    shutil.copytree(checkpoint, tmp_path / "source")
    (tmp_path / "source" / "tokenizer_config.json").write_text('{"eos_token": "</s>"}')
    manifest = write_artifact(checkpoint, tmp_path / "a", Recipe(F32), tokenizer=tmp_path / "source" / "tokenizer.json")
    assert [entry.name for entry in manifest.tokenizer] == ["tokenizer.json", "tokenizer_config.json"]


def test_an_unusable_source_leaves_no_trace(checkpoint: Path, tmp_path: Path):
    with pytest.raises(CheckpointError):
        write_artifact(tmp_path / "absent", tmp_path / "a", Recipe(F32))
    with pytest.raises(TokenizerError):
        write_artifact(checkpoint, tmp_path / "a", Recipe(F32), tokenizer=tmp_path / "absent")
    with pytest.raises(ArtifactError, match="dtype is float16; an artifact holds float32 or bfloat16"):
        write_artifact(checkpoint, tmp_path / "a", Recipe(torch.float16))
    assert not (tmp_path / "a").exists()


def test_the_checkpoints_own_directory_is_refused(checkpoint: Path):
    with pytest.raises(ArtifactError, match="is the checkpoint's own; choose another"):
        write_artifact(checkpoint, checkpoint / "checkpoints" / "..", Recipe(F32))


def test_files_of_others_are_never_touched(checkpoint: Path, other_checkpoint: Path, tmp_path: Path):
    (tmp_path / "model.safetensors").write_text("mine")
    (tmp_path / "model-00aa11bb-00001-of-00001.safetensors").write_text("left by a killed writer")
    write_artifact(checkpoint, tmp_path, Recipe(F32))
    write_artifact(other_checkpoint, tmp_path, Recipe(F32))
    assert (tmp_path / "model.safetensors").read_text() == "mine"
    assert not (tmp_path / "model-00aa11bb-00001-of-00001.safetensors").exists()


def test_a_manifest_of_something_else_is_not_overwritten(checkpoint: Path, tmp_path: Path):
    (tmp_path / "manifest.json").write_text('{"name": "a browser extension"}')
    with pytest.raises(ArtifactError, match="holds a manifest.json that is not an artifact's"):
        write_artifact(checkpoint, tmp_path, Recipe(F32))
    assert (tmp_path / "manifest.json").read_text() == '{"name": "a browser extension"}'


MEASURE = """
import sys, torch
from sqap_vla.quantization.artifact import write_artifact
from sqap_vla.quantization.order import Recipe

def anonymous_bytes():
    lines = dict(line.split(":") for line in open("/proc/self/status") if ":" in line)
    return sum(int(lines[key].split()[0]) * 1024 for key in ("RssAnon", "RssShmem"))

def note(progress):
    peak[0] = max(peak[0], anonymous_bytes())

write_artifact(sys.argv[3], sys.argv[2] + "-first", Recipe(torch.bfloat16))  # torch imports much on first use

start, peak = anonymous_bytes(), [0]

write_artifact(sys.argv[1], sys.argv[2], Recipe(torch.bfloat16), progress=note)

print(peak[0] - start)
"""


def test_memory_stays_near_the_largest_tensor(
    checkpoint: Path, large_checkpoint: tuple[Path, int, int], tmp_path: Path, run_python: Callable[..., str]
):
    """A model of a few hundred MB is converted with a few dozen MB of anonymous memory."""
    path, total_bytes, largest_bytes = large_checkpoint
    used_bytes = int(run_python(MEASURE, path, tmp_path / "a", checkpoint))
    assert used_bytes < 2 * largest_bytes + 40e6 < total_bytes / 2
