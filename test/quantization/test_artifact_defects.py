# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Every defect of an artifact is refused with its reason, and no byte raises anything but ArtifactError."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from artifact_files import first_shard, flip_a_bit
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sqap_vla.quantization.artifact import ArtifactError, load_artifact, tokenizer_path
from sqap_vla.quantization.manifest import encode, read_manifest


def truncate(directory: Path) -> None:
    os.truncate(first_shard(directory), 100)


def link_out(directory: Path) -> None:
    outside = directory.parent / "outside"
    first_shard(directory).rename(outside)
    first_shard(directory).symlink_to(outside)


def link_the_tokenizer_out(directory: Path) -> None:
    tokenizer = directory / read_manifest(directory).tokenizer_directory
    tokenizer.rename(directory.parent / "outside")
    tokenizer.symlink_to(directory.parent / "outside")


def swap_the_tokenizer(directory: Path) -> None:
    path = tokenizer_path(directory) / "tokenizer.json"
    path.write_bytes(path.read_bytes().replace(b"pick", b"kick"))


def change(**values: object) -> Callable[[Path], None]:
    """A manifest that is signed but wrong."""

    def apply(directory: Path) -> None:
        (directory / "manifest.json").write_bytes(encode(replace(read_manifest(directory), **values)))

    return apply


def drop_a_shard(directory: Path) -> None:
    change(shards=read_manifest(directory).shards[1:])(directory)


def claim_float32(directory: Path) -> None:
    change(dtype="float32")(directory)


@pytest.mark.parametrize(
    "damage, reason",
    [
        (truncate, "has 100 bytes, the manifest says .*; it is truncated or was changed"),
        (flip_a_bit, "has sha256 .*; it is damaged"),
        (lambda directory: first_shard(directory).unlink(), "cannot read .*No such file"),
        (link_out, "is not a regular file; an artifact holds no links"),
        (link_the_tokenizer_out, "is a link; an artifact holds none"),
        (swap_the_tokenizer, "tokenizer.json has sha256 .*; it is damaged"),
        (drop_a_shard, "lacks .* tensors of the model, first vision_backbone"),
        (claim_float32, "is BF16 .*; the model has F32"),
        (change(model_config={}), "model_config or norm_stats is not usable"),
        (change(model_config={"dino": 3}), "model_config or norm_stats is not usable"),
        (change(norm_stats={}), "model_config or norm_stats is not usable"),
        (
            change(norm_stats={"bridge_orig": {"action": {"q01": "x", "q99": []}}}),
            "'bridge_orig' is not usable",
        ),
        (
            lambda directory: (directory / "manifest.json").unlink(),
            "cannot read .*manifest.json: No such file",
        ),
    ],
)
def test_a_defect_is_refused_with_its_reason(copy: Path, damage: Callable[[Path], None], reason: str):
    damage(copy)
    with pytest.raises(ArtifactError, match=reason):
        load_artifact(copy)


def test_sizes_are_checked_even_without_checksums(copy: Path):
    load_artifact(copy, verify=False)
    truncate(copy)
    with pytest.raises(ArtifactError, match="truncated"):
        load_artifact(copy, verify=False)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), verify=st.booleans())
def test_changed_bytes_of_any_file_raise_nothing_else(made: Path, tmp_path: Path, data: st.DataObject, verify: bool):
    target = tmp_path / "fuzzed"
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(made, target)
    file = target / data.draw(st.sampled_from(["manifest.json", first_shard(made).name]))
    content = file.read_bytes()
    position = data.draw(st.integers(0, min(len(content) - 1, 5000)))
    patch = data.draw(st.binary(min_size=1, max_size=6))
    file.write_bytes(content[:position] + patch + content[position + len(patch) :])
    with contextlib.suppress(ArtifactError):
        load_artifact(target, verify=verify)
