# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""What tests ask about the files of an artifact directory."""

from __future__ import annotations

from pathlib import Path

from sqap_vla.cogact.checkpoint import fingerprint
from sqap_vla.quantization.artifact import load_artifact, verify_artifact
from sqap_vla.quantization.manifest import Manifest, read_manifest


def files_of(directory: Path) -> dict[str, tuple[int, int]]:
    """Inode and modification time of every file: equal where nothing was written."""
    return {
        str(path.relative_to(directory)): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in directory.rglob("*")
        if path.is_file()
    }


def expected_names(manifest: Manifest) -> set[str]:
    tokenizer = {manifest.tokenizer_directory} if manifest.tokenizer else set()
    return {"manifest.json", ".lock", *tokenizer, *(entry.name for entry in manifest.shards)}


def names_in(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def assert_still(artifact: Path, checkpoint: Path, manifest: Manifest) -> None:
    """The artifact is the one of this manifest, complete, and nothing else lies there."""
    assert verify_artifact(artifact) == manifest
    assert manifest.source.fingerprint == fingerprint(checkpoint)
    load_artifact(artifact)
    assert names_in(artifact) == expected_names(manifest)


def first_shard(directory: Path) -> Path:
    return directory / read_manifest(directory).shards[0].name


def flip_a_bit(directory: Path) -> None:
    """Of the first shard; the file keeps its size."""
    content = bytearray(first_shard(directory).read_bytes())
    content[-3] ^= 4
    first_shard(directory).write_bytes(content)
