# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Whatever goes wrong while writing: the old artifact survives, and the half-written one is removed."""

from __future__ import annotations

import errno
import itertools
import multiprocessing
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from artifact_files import assert_still

from sqap_vla.cogact.checkpoint import fingerprint
from sqap_vla.quantization import writer
from sqap_vla.quantization.artifact import load_artifact, verify_artifact, write_artifact
from sqap_vla.quantization.lock import directory_lock
from sqap_vla.quantization.manifest import ArtifactError
from sqap_vla.quantization.order import Recipe
from sqap_vla.quantization.shards import Progress

F32 = torch.float32


@pytest.mark.parametrize(
    "number, remedy",
    [
        (errno.ENOSPC, "the disk is full; free space"),
        (errno.EDQUOT, "quota is used up"),
        (errno.EIO, "make the directory writable"),
    ],
)
def test_a_write_that_fails(
    artifact: Path, checkpoint: Path, other_checkpoint: Path, monkeypatch, number: int, remedy: str
):
    """At every sync to the disk in turn, until one writing has none left to fail at."""
    old = verify_artifact(artifact)
    sync, outcomes, countdown = os.fsync, [], 0

    def failing_sync(descriptor: int) -> None:
        nonlocal countdown
        countdown -= 1
        if countdown == 0:
            raise OSError(number, os.strerror(number))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", failing_sync)
    for at in itertools.count(1):
        countdown = at
        try:
            new = write_artifact(other_checkpoint, artifact, Recipe(F32), other_checkpoint, max_shard_bytes=100_000)
            break
        except ArtifactError as error:
            assert remedy in str(error)
        now = verify_artifact(artifact)
        outcomes.append(now == old)
        load_artifact(artifact)
        if now == old:
            assert_still(artifact, checkpoint, old)
        else:  # the manifest took effect before the failure: the old files lie there still
            assert now.source.fingerprint == fingerprint(other_checkpoint)
            write_artifact(checkpoint, artifact, Recipe(F32))
            old = verify_artifact(artifact)
    assert_still(artifact, other_checkpoint, new)
    assert outcomes == [True] * (len(outcomes) - 1) + [False] and len(outcomes) > 5


def test_too_little_space_is_known_before_anything_is_written(
    artifact: Path, checkpoint: Path, other_checkpoint: Path, monkeypatch
):
    manifest = verify_artifact(artifact)
    monkeypatch.setattr(writer.shutil, "disk_usage", lambda path: SimpleNamespace(free=10**5))
    with pytest.raises(ArtifactError, match="has 0.00 GB free, the artifact takes .* free space"):
        write_artifact(other_checkpoint, artifact, Recipe(F32))
    assert_still(artifact, checkpoint, manifest)


def test_a_disk_that_is_full(artifact: Path, checkpoint: Path, other_checkpoint: Path, monkeypatch):
    """A real file system with room for one artifact and a half; only where this user may mount one."""
    small = artifact.parent / "small"
    small.mkdir()
    size = 3 * verify_artifact(artifact).size_bytes // 2
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(small)], capture_output=True, text=True
    )
    if mount.returncode:
        pytest.skip(f"this user cannot mount a tmpfs: {mount.stderr.strip()}")
    try:
        monkeypatch.setattr(writer, "SPARE_BYTES", -(10**9))  # the estimate lets it pass, the disk does not
        manifest = write_artifact(checkpoint, small / "a", Recipe(F32))
        with pytest.raises(ArtifactError, match="No space left on device; the disk is full"):
            write_artifact(other_checkpoint, small / "a", Recipe(F32))
        assert_still(small / "a", checkpoint, manifest)
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_limit_on_file_size(artifact: Path, checkpoint: Path, other_checkpoint: Path):
    manifest = verify_artifact(artifact)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(ArtifactError, match="files may not grow that large here"):
            write_artifact(other_checkpoint, artifact, Recipe(F32))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert_still(artifact, checkpoint, manifest)


@contextmanager
def without_root() -> Iterator[None]:
    """Permissions do not bind root; as 'nobody' they do."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that 'nobody' may enter too, which pytest's own are not."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        os.chmod(name, 0o755)
        yield Path(name)


@pytest.mark.parametrize("exists", [False, True])
def test_a_directory_without_permission(open_directory: Path, checkpoint: Path, other_checkpoint: Path, exists: bool):
    for path in (checkpoint, other_checkpoint):
        shutil.copytree(path, open_directory / path.name)
    artifact = open_directory / "artifact"
    if exists:
        manifest = write_artifact(open_directory / checkpoint.name, artifact, Recipe(F32))
    (artifact if exists else open_directory).chmod(0o555)
    try:
        with (
            without_root(),
            pytest.raises(ArtifactError, match="Permission denied; make the directory writable, or choose"),
        ):
            write_artifact(open_directory / other_checkpoint.name, artifact, Recipe(F32))
        if exists:
            assert_still(artifact, checkpoint, manifest)
            with without_root():
                assert (
                    write_artifact(open_directory / checkpoint.name, artifact, Recipe(F32)) == manifest
                )  # re-use needs no permission
    finally:
        (artifact if exists else open_directory).chmod(0o755)


def test_a_file_in_the_place_of_the_directory(checkpoint: Path, tmp_path: Path):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ArtifactError, match="cannot write the artifact to"):
            write_artifact(checkpoint, place, Recipe(F32))


def test_an_exception_of_the_caller_ends_the_writing(artifact: Path, checkpoint: Path, other_checkpoint: Path):
    class Enough(Exception):
        pass

    def stop(progress: Progress) -> None:
        if progress.done_bytes > progress.total_bytes // 2:
            raise Enough

    manifest = verify_artifact(artifact)
    with pytest.raises(Enough):
        write_artifact(other_checkpoint, artifact, Recipe(F32), progress=stop, max_shard_bytes=50_000)
    assert verify_artifact(artifact) == manifest
    load_artifact(artifact)
    write_artifact(other_checkpoint, artifact, Recipe(F32))  # of another shard size: begins anew, and tidies up
    assert_still(artifact, other_checkpoint, verify_artifact(artifact))


def test_a_second_writer_is_refused_or_waits(artifact: Path, other_checkpoint: Path):
    told: list[str] = []
    with directory_lock(artifact, 0.0, lambda: None):
        with pytest.raises(ArtifactError, match="another process held .* for 0 s; wait for it to end"):
            write_artifact(other_checkpoint, artifact, Recipe(F32))
        with pytest.raises(ArtifactError, match="for 0.05 s"):
            write_artifact(
                other_checkpoint, artifact, Recipe(F32), progress=lambda p: told.append(p.stage), lock_timeout_s=0.05
            )
    assert told and set(told) == {"waiting for another process that writes the artifact"}
    write_artifact(other_checkpoint, artifact, Recipe(F32))


def test_who_waited_uses_what_the_other_wrote(checkpoint: Path, tmp_path: Path):
    context = multiprocessing.get_context("spawn")
    with context.Pool(2) as pool:
        first, second = [
            pool.apply_async(write_artifact, (checkpoint, tmp_path / "a", Recipe(F32)), {"lock_timeout_s": 300.0})
            for _ in range(2)
        ]
        assert first.get(300) == second.get(300) == verify_artifact(tmp_path / "a")


def test_killed_at_any_moment_a_usable_artifact_remains(checkpoint: Path, other_checkpoint: Path, tmp_path: Path):
    script = Path(__file__).with_name("killed_writer.py")
    result = subprocess.run(
        [sys.executable, str(script), str(checkpoint), str(other_checkpoint), str(tmp_path / "a")],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert result.returncode == 0, result.stderr
    before, after = map(int, result.stdout.split())
    assert before > 15 and after >= 3, "writers were killed on both sides of the moment the manifest is replaced"
