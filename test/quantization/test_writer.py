# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Writing: re-use, repair, replacement in one step, and what happens to the old artifact when anything goes wrong."""
from __future__ import annotations

import errno
import multiprocessing
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from sqap_vla.cogact.checkpoint import fingerprint
from sqap_vla.cogact.errors import CheckpointError, TokenizerError
from sqap_vla.quantization import writer
from sqap_vla.quantization.artifact import load_artifact, verify_artifact, write_artifact
from sqap_vla.quantization.lock import directory_lock
from sqap_vla.quantization.manifest import ArtifactError, Manifest
from sqap_vla.quantization.shards import Progress

F32, BF16 = torch.float32, torch.bfloat16


def files_of(directory: Path) -> dict[str, tuple[int, int]]:
    """Inode and modification time of every file: equal where nothing was written."""
    return {str(path.relative_to(directory)): (path.stat().st_ino, path.stat().st_mtime_ns)
            for path in directory.rglob("*") if path.is_file()}


def expected_names(manifest: Manifest) -> set[str]:
    tokenizer = {manifest.tokenizer_directory} if manifest.tokenizer else set()
    return {"manifest.json", ".lock", *tokenizer, *(entry.name for entry in manifest.shards)}


def names_in(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


@pytest.fixture
def artifact(checkpoint: Path, tmp_path: Path) -> Path:
    write_artifact(checkpoint, tmp_path / "artifact", F32)
    return tmp_path / "artifact"


def assert_still(artifact: Path, checkpoint: Path, manifest: Manifest) -> None:
    """The artifact is the one of this manifest, complete, and nothing else lies there."""
    assert verify_artifact(artifact) == manifest
    assert manifest.source.fingerprint == fingerprint(checkpoint)
    load_artifact(artifact)
    assert names_in(artifact) == expected_names(manifest)


def test_the_same_checkpoint_and_dtype_is_not_written_again(artifact: Path, checkpoint: Path):
    before = files_of(artifact)
    write_artifact(checkpoint, artifact, F32)
    assert files_of(artifact) == before


@pytest.mark.parametrize("change", ["dtype", "checkpoint", "tokenizer"])
def test_another_content_replaces_the_old_files(artifact: Path, checkpoint: Path, other_checkpoint: Path, change: str):
    old = names_in(artifact)
    manifest = write_artifact(other_checkpoint if change == "checkpoint" else checkpoint, artifact,
                              BF16 if change == "dtype" else F32, checkpoint if change == "tokenizer" else None)
    assert names_in(artifact) == expected_names(manifest)
    assert old & names_in(artifact) == {"manifest.json", ".lock"}


def test_a_damaged_artifact_is_repaired(artifact: Path, checkpoint: Path):
    shard = next(artifact.glob("*.safetensors"))
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    write_artifact(checkpoint, artifact, F32)
    verify_artifact(artifact)
    (artifact / "manifest.json").write_bytes(b"{")
    manifest = write_artifact(checkpoint, artifact, F32)
    assert_still(artifact, checkpoint, manifest)


def test_shards_hold_at_most_the_given_size(checkpoint: Path, tmp_path: Path):
    manifest = write_artifact(checkpoint, tmp_path / "a", F32, max_shard_bytes=90_000)
    assert len(manifest.shards) > 3 and max(entry.size_bytes for entry in manifest.shards) < 100_000
    load_artifact(tmp_path / "a")


def test_progress_reaches_the_end_in_steps(checkpoint: Path, tmp_path: Path):
    told: list[Progress] = []
    write_artifact(checkpoint, tmp_path / "a", F32, progress=told.append)
    done = [progress.done_bytes for progress in told]
    assert done == sorted(done) and done[-1] >= told[-1].total_bytes > 0
    assert str(Progress("writing weights", 5 * 10**9, 10**10)) == "writing weights: 50 % of 10.00 GB"


def test_the_tokenizer_is_copied_with_its_configuration(checkpoint: Path, tmp_path: Path):
    shutil.copytree(checkpoint, tmp_path / "source")
    (tmp_path / "source" / "tokenizer_config.json").write_text('{"eos_token": "</s>"}')
    manifest = write_artifact(checkpoint, tmp_path / "a", F32, tokenizer=tmp_path / "source" / "tokenizer.json")
    assert [entry.name for entry in manifest.tokenizer] == ["tokenizer.json", "tokenizer_config.json"]


def test_an_unusable_source_leaves_no_trace(checkpoint: Path, tmp_path: Path):
    with pytest.raises(CheckpointError):
        write_artifact(tmp_path / "absent", tmp_path / "a", F32)
    with pytest.raises(TokenizerError):
        write_artifact(checkpoint, tmp_path / "a", F32, tokenizer=tmp_path / "absent")
    with pytest.raises(ArtifactError, match="dtype is float16; an artifact holds float32 or bfloat16"):
        write_artifact(checkpoint, tmp_path / "a", torch.float16)
    assert not (tmp_path / "a").exists()


def test_the_checkpoints_own_directory_is_refused(checkpoint: Path):
    with pytest.raises(ArtifactError, match="is the checkpoint's own; choose another"):
        write_artifact(checkpoint, checkpoint / "checkpoints" / "..", F32)


def test_files_of_others_are_never_touched(checkpoint: Path, other_checkpoint: Path, tmp_path: Path):
    (tmp_path / "model.safetensors").write_text("mine")
    (tmp_path / "model-00aa11bb-00001-of-00001.safetensors").write_text("left by a killed writer")
    write_artifact(checkpoint, tmp_path, F32)
    write_artifact(other_checkpoint, tmp_path, F32)
    assert (tmp_path / "model.safetensors").read_text() == "mine"
    assert not (tmp_path / "model-00aa11bb-00001-of-00001.safetensors").exists()


def test_a_manifest_of_something_else_is_not_overwritten(checkpoint: Path, tmp_path: Path):
    (tmp_path / "manifest.json").write_text('{"name": "a browser extension"}')
    with pytest.raises(ArtifactError, match="holds a manifest.json that is not an artifact's"):
        write_artifact(checkpoint, tmp_path, F32)
    assert (tmp_path / "manifest.json").read_text() == '{"name": "a browser extension"}'


# What goes wrong while writing: the old artifact survives, and the half-written one is removed

@pytest.mark.parametrize("number, remedy", [(errno.ENOSPC, "the disk is full; free space"), (errno.EDQUOT, "quota is used up"),
                                            (errno.EIO, "make the directory writable")])
@pytest.mark.parametrize("at", [1, 2, 5, 9])
def test_a_write_that_fails(artifact: Path, checkpoint: Path, other_checkpoint: Path, monkeypatch, number: int, remedy: str, at: int):
    manifest = verify_artifact(artifact)
    sync, calls = os.fsync, []

    def failing_sync(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == at:
            raise OSError(number, os.strerror(number))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", failing_sync)
    with pytest.raises(ArtifactError, match=remedy):
        write_artifact(other_checkpoint, artifact, F32, tokenizer=other_checkpoint, max_shard_bytes=100_000)
    assert_still(artifact, checkpoint, manifest)


def test_too_little_space_is_known_before_anything_is_written(artifact: Path, checkpoint: Path, other_checkpoint: Path, monkeypatch):
    manifest = verify_artifact(artifact)
    monkeypatch.setattr(writer.shutil, "disk_usage", lambda path: SimpleNamespace(free=10**5))
    with pytest.raises(ArtifactError, match="has 0.00 GB free, the artifact takes .* free space"):
        write_artifact(other_checkpoint, artifact, F32)
    assert_still(artifact, checkpoint, manifest)


def test_a_disk_that_is_full(artifact: Path, checkpoint: Path, other_checkpoint: Path, monkeypatch):
    """A real file system with room for one artifact and a half; only where this user may mount one."""
    small = artifact.parent / "small"
    small.mkdir()
    size = 3 * verify_artifact(artifact).size_bytes // 2
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(small)], capture_output=True, text=True)
    if mount.returncode:
        pytest.skip(f"this user cannot mount a tmpfs: {mount.stderr.strip()}")
    try:
        monkeypatch.setattr(writer, "_SPARE_BYTES", -10**9)  # the estimate lets it pass, the disk does not
        manifest = write_artifact(checkpoint, small / "a", F32)
        with pytest.raises(ArtifactError, match="No space left on device; the disk is full"):
            write_artifact(other_checkpoint, small / "a", F32)
        assert_still(small / "a", checkpoint, manifest)
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_limit_on_file_size(artifact: Path, checkpoint: Path, other_checkpoint: Path):
    manifest = verify_artifact(artifact)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(ArtifactError, match="files may not grow that large here"):
            write_artifact(other_checkpoint, artifact, F32)
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
        manifest = write_artifact(open_directory / checkpoint.name, artifact, F32)
    (artifact if exists else open_directory).chmod(0o555)
    try:
        with without_root(), pytest.raises(ArtifactError, match="Permission denied; make the directory writable, or choose"):
            write_artifact(open_directory / other_checkpoint.name, artifact, F32)
        if exists:
            assert_still(artifact, checkpoint, manifest)
            with without_root():
                assert write_artifact(open_directory / checkpoint.name, artifact, F32) == manifest  # re-use needs no permission
    finally:
        (artifact if exists else open_directory).chmod(0o755)


def test_a_file_in_the_place_of_the_directory(checkpoint: Path, tmp_path: Path):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ArtifactError, match="cannot write the artifact to"):
            write_artifact(checkpoint, place, F32)


def test_an_exception_of_the_caller_ends_the_writing(artifact: Path, checkpoint: Path, other_checkpoint: Path):
    class Enough(Exception):
        pass

    def stop(progress: Progress) -> None:
        if progress.done_bytes > progress.total_bytes // 2:
            raise Enough

    manifest = verify_artifact(artifact)
    with pytest.raises(Enough):
        write_artifact(other_checkpoint, artifact, F32, progress=stop)
    assert_still(artifact, checkpoint, manifest)


def test_a_second_writer_is_refused_or_waits(artifact: Path, other_checkpoint: Path):
    told: list[str] = []
    with directory_lock(artifact, 0.0, lambda: None):
        with pytest.raises(ArtifactError, match="another process held .* for 0 s; wait for it to end"):
            write_artifact(other_checkpoint, artifact, F32)
        with pytest.raises(ArtifactError, match="for 0.05 s"):
            write_artifact(other_checkpoint, artifact, F32, progress=lambda p: told.append(p.stage), lock_timeout_s=0.05)
    assert told and set(told) == {"waiting for another process that writes the artifact"}
    write_artifact(other_checkpoint, artifact, F32)


def test_who_waited_uses_what_the_other_wrote(checkpoint: Path, tmp_path: Path):
    context = multiprocessing.get_context("spawn")
    with context.Pool(2) as pool:
        first, second = [pool.apply_async(write_artifact, (checkpoint, tmp_path / "a", F32), {"lock_timeout_s": 30.0})
                         for _ in range(2)]
        assert first.get(30) == second.get(30) == verify_artifact(tmp_path / "a")


def test_killed_at_any_moment_a_usable_artifact_remains(checkpoint: Path, other_checkpoint: Path, tmp_path: Path):
    script = Path(__file__).with_name("killed_writer.py")
    result = subprocess.run([sys.executable, str(script), str(checkpoint), str(other_checkpoint), str(tmp_path / "a")],
                            capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    before, after = map(int, result.stdout.split())
    assert before > 15 and after >= 3, "writers were killed on both sides of the moment the manifest is replaced"


MEASURE = """
import sys, torch
from sqap_vla.quantization.artifact import write_artifact
def anonymous_bytes():
    lines = dict(line.split(":") for line in open("/proc/self/status") if ":" in line)
    return sum(int(lines[key].split()[0]) * 1024 for key in ("RssAnon", "RssShmem"))
write_artifact(sys.argv[3], sys.argv[2] + '-first', torch.bfloat16)  # torch imports much of itself on first use
start, peak = anonymous_bytes(), [0]
def note(progress): peak[0] = max(peak[0], anonymous_bytes())
write_artifact(sys.argv[1], sys.argv[2], torch.bfloat16, progress=note)
print(peak[0] - start)
"""


def test_memory_stays_near_the_largest_tensor(checkpoint: Path, large_checkpoint: tuple[Path, int, int], tmp_path: Path,
                                              run_python: Callable[..., str]):
    """A model of a few hundred MB is converted with a few dozen MB of anonymous memory."""
    path, total_bytes, largest_bytes = large_checkpoint
    used_bytes = int(run_python(MEASURE, path, tmp_path / "a", checkpoint))
    assert used_bytes < 2 * largest_bytes + 40e6 < total_bytes / 2
