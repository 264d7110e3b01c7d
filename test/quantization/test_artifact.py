# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Loading: the same model as from the checkpoint, memory-mapped; and preparing one for a node."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from artifact_files import flip_a_bit

from sqap_vla.cogact.checkpoint import fingerprint, load_checkpoint
from sqap_vla.cogact.errors import CheckpointError, TokenizerError
from sqap_vla.cogact.prompt import Tokenizer
from sqap_vla.quantization import artifact as module
from sqap_vla.quantization.artifact import (
    ArtifactError,
    default_artifact_dir,
    is_artifact,
    load_artifact,
    open_model,
    prepare_artifact,
    tokenizer_path,
    verify_artifact,
    write_artifact,
)
from sqap_vla.quantization.manifest import read_manifest
from sqap_vla.quantization.order import Recipe

F32, BF16 = torch.float32, torch.bfloat16


@pytest.mark.parametrize("dtype", [F32, BF16])
def test_an_artifact_holds_the_checkpoints_model(checkpoint: Path, tmp_path: Path, dtype: torch.dtype):
    write_artifact(checkpoint, tmp_path / "a", Recipe(dtype))
    ours, theirs = load_artifact(tmp_path / "a"), load_checkpoint(checkpoint, dtype=dtype)
    ours_state, theirs_state = ours.model.state_dict(), theirs.model.state_dict()
    assert list(ours_state) == list(theirs_state)
    for name, tensor in theirs_state.items():
        assert ours_state[name].dtype == tensor.dtype and torch.equal(ours_state[name], tensor), name
    assert not ours.model.training and not any(p.requires_grad for p in ours.model.parameters())
    assert (ours.config, ours.step) == (theirs.config, theirs.step)
    assert set(ours.statistics) == set(theirs.statistics)
    for key, statistics in theirs.statistics.items():
        for name in ("q01", "q99", "mask"):
            assert np.array_equal(getattr(ours.statistics[key], name), getattr(statistics, name))


def test_open_model_takes_either_kind(checkpoint: Path, made: Path):
    assert open_model(checkpoint, dtype=BF16).model.dtype == open_model(made, dtype=BF16).model.dtype == BF16
    assert open_model(checkpoint).model.dtype == F32, "on the CPU"
    assert open_model(made).model.dtype == BF16, "an artifact's own"
    assert is_artifact(made) and not is_artifact(checkpoint) and not is_artifact(made / "absent")


def test_another_precision_than_the_artifacts_is_refused(made: Path):
    with pytest.raises(ArtifactError, match="is bfloat16, asked for is float32; an artifact runs at its own precision"):
        open_model(made, dtype=F32)


def test_a_checkpoint_that_is_unusable_keeps_its_own_reason(tmp_path: Path):
    with pytest.raises(CheckpointError, match="is not a directory"):
        open_model(tmp_path / "absent")


def test_the_tokenizer_comes_along(checkpoint: Path, made: Path, tmp_path: Path):
    from_artifact, from_checkpoint = (Tokenizer.from_path(tokenizer_path(path)) for path in (made, checkpoint))
    assert from_artifact.encode("pick up the red cube") == from_checkpoint.encode("pick up the red cube")
    write_artifact(checkpoint, tmp_path / "bare", Recipe(F32))
    with pytest.raises(TokenizerError, match="must hold one tokenizer.json"):
        Tokenizer.from_path(tokenizer_path(tmp_path / "bare"))


MEASURE = """
import sys, torch
from sqap_vla.quantization.artifact import load_artifact

def anonymous_bytes():
    lines = dict(line.split(":") for line in open("/proc/self/status") if ":" in line)
    return sum(int(lines[key].split()[0]) * 1024 for key in ("RssAnon", "RssShmem"))

load_artifact(sys.argv[1])  # torch imports much on first use

start = anonymous_bytes()

loaded = load_artifact(sys.argv[2])

total = sum(float(p.float().abs().max()) for p in loaded.model.parameters())  # every page is read

print(anonymous_bytes() - start)
"""


def test_loading_copies_no_weights(
    made: Path, large_checkpoint: tuple[Path, int, int], tmp_path: Path, run_python: Callable[..., str]
):
    path, total_bytes, largest_bytes = large_checkpoint
    write_artifact(path, tmp_path / "a", Recipe(F32))
    assert int(run_python(MEASURE, made, tmp_path / "a")) < 2 * largest_bytes < total_bytes / 5


def test_a_reader_follows_a_writer_that_replaces_the_artifact(copy: Path, other_checkpoint: Path, monkeypatch):
    """The old shards are gone between reading the manifest and reading them."""
    read, calls = read_manifest, []

    def read_then_replace(directory: Path):
        manifest = read(directory)
        if not calls:
            calls.append(directory)
            write_artifact(other_checkpoint, copy, Recipe(F32))
        return manifest

    monkeypatch.setattr(module, "read_manifest", read_then_replace)
    assert load_artifact(copy).model.dtype == F32 and calls


def test_a_mapped_model_survives_its_replacement(copy: Path, other_checkpoint: Path):
    loaded = load_artifact(copy)
    before = {name: tensor.clone() for name, tensor in load_artifact(copy).model.state_dict().items()}
    write_artifact(other_checkpoint, copy, Recipe(BF16))
    assert all(torch.equal(tensor, before[name]) for name, tensor in loaded.model.state_dict().items())


# Preparing


def test_the_cache_is_keyed_by_content_and_dtype(checkpoint: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    prepared = prepare_artifact(checkpoint, dtype=BF16)
    assert prepared.directory == tmp_path / "sqap_vla" / "artifacts" / f"{fingerprint(checkpoint)}-bfloat16"
    assert [entry.name for entry in prepared.manifest.tokenizer] == ["tokenizer.json"], "the one beside the checkpoint"
    assert prepare_artifact(checkpoint, dtype=BF16) == prepared
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert default_artifact_dir("f", Recipe(F32)) == Path.home() / ".cache" / "sqap_vla" / "artifacts" / "f-float32"


def test_an_artifact_is_verified_as_it_is(copy: Path):
    assert prepare_artifact(copy).manifest == verify_artifact(copy)
    with pytest.raises(ArtifactError, match="asked for is float32"):
        prepare_artifact(copy, dtype=F32)
    flip_a_bit(copy)
    with pytest.raises(ArtifactError, match="it is damaged"):
        prepare_artifact(copy)


def test_an_unknown_unnorm_key_is_refused_before_anything_is_written(checkpoint: Path, copy: Path, tmp_path: Path):
    known = ", ".join(sorted(json.loads((checkpoint / "dataset_statistics.json").read_text())))
    for path in (checkpoint, copy):
        with pytest.raises(
            CheckpointError, match=f"unnorm_key 'bridge' is not in dataset_statistics.json; it has: {known}"
        ):
            prepare_artifact(path, tmp_path / "a", unnorm_key="bridge")
    assert not (tmp_path / "a").exists()
    prepare_artifact(checkpoint, tmp_path / "a", unnorm_key="bridge_orig")
