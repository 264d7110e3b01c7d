# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Writes an artifact directory so that a reader finds the old artifact or the new one, never a mixture.

New files get names of their own beside the old ones and are synced; then manifest.json is replaced in one
step; then what no manifest names any more is removed (a reader that has it mapped keeps it). Killed at any
moment, the directory holds a usable artifact if it did before, and the next writer clears away what was left.
While both lie there, the disk must hold both. One process writes at a time (flock on .lock, released by the
kernel when the process ends).
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import pickle
import re
import secrets
import shutil
from collections.abc import Callable, Iterable
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

import torch
from torch import Tensor

from sqap_vla.cogact.checkpoint import LoadedCheckpoint, fingerprint, load_checkpoint
from sqap_vla.cogact.sizes import sizes_of
from sqap_vla.cogact.layout import MODULES
from sqap_vla.cogact.prompt import Tokenizer
from sqap_vla.quantization.lock import directory_lock
from sqap_vla.quantization.manifest import (
    FLOAT_DTYPES,
    MANIFEST_NAME,
    ArtifactError,
    FileEntry,
    Manifest,
    Source,
    encode,
    read_manifest,
)
from sqap_vla.quantization.shards import Progress, TensorSpec, check_artifact, plan_shards, write_shard

logger = logging.getLogger(__name__)

MAX_SHARD_BYTES = 10**9
_SPARE_BYTES = 16 * 2**20  # beside the weights: manifest, tokenizer, headers
_OURS = re.compile(
    r"model-[0-9a-f]{8}-\d{5}-of-\d{5}\.safetensors|tokenizer-[0-9a-f]{8}|manifest-[0-9a-f]{8}\.tmp"
)
_REMEDIES = {
    errno.ENOSPC: "the disk is full; free space, or choose another directory (parameter artifact_dir)",
    errno.EDQUOT: "the disk quota is used up; free space, or choose another directory (parameter artifact_dir)",
    errno.EFBIG: "files may not grow that large here; raise the limit (ulimit -f), or choose another file system",
}
_OTHER_REMEDY = "make the directory writable, or choose another one (parameter artifact_dir)"


def specs_of(model: torch.nn.Module, dtype: torch.dtype) -> list[TensorSpec]:
    """What an artifact of this dtype stores of the model: every parameter, the action head in float32."""
    return [
        TensorSpec(name, torch.float32 if name.startswith("action_model.") else dtype, tuple(tensor.shape))
        for name, tensor in model.state_dict().items()
    ]


def dtype_name(dtype: torch.dtype) -> str:
    """float32 or bfloat16. Raises ArtifactError for any other."""
    name = str(dtype).removeprefix("torch.")
    if name not in FLOAT_DTYPES:
        raise ArtifactError(f"dtype is {name}; an artifact holds {' or '.join(FLOAT_DTYPES)}")
    return name


def write_artifact(
    checkpoint_dir: str | Path,
    out_dir: str | Path,
    dtype: torch.dtype,
    tokenizer: str | Path | None = None,
    progress: Callable[[Progress], None] = lambda progress: None,
    lock_timeout_s: float = 0.0,
    max_shard_bytes: int = MAX_SHARD_BYTES,
) -> Manifest:
    """Makes out_dir the artifact of a checkpoint; one that is there, is sound and has the same content is left untouched.

    Holds no more than one tensor in memory. tokenizer: copied into the artifact. progress is called often; an
    exception that it raises ends the writing. lock_timeout_s: how long to wait for another process that
    writes there. Raises CheckpointError or TokenizerError where the source is unusable, ArtifactError where
    the artifact cannot be written; the artifact that was there is then still usable.
    """
    checkpoint_dir, out_dir = Path(checkpoint_dir), Path(out_dir)
    checkpoint = load_checkpoint(checkpoint_dir, device="meta")  # checks everything, holds nothing
    source = Source(
        checkpoint_dir.resolve().name, checkpoint.weights.name, checkpoint.step, fingerprint(checkpoint_dir)
    )
    files = _tokenizer_files(tokenizer)
    wanted = (
        source.fingerprint,
        dtype_name(dtype),
        {name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
    )
    if out_dir.resolve() == checkpoint_dir.resolve():
        raise ArtifactError(f"artifact directory {out_dir} is the checkpoint's own; choose another one")
    manifest = _reusable(out_dir, wanted, progress)
    if manifest is None:
        try:
            out_dir.mkdir(parents=True, exist_ok=True)
            waiting = Progress("waiting for another process that writes the artifact", 0, 0)
            with directory_lock(out_dir, lock_timeout_s, lambda: progress(waiting)):
                # Another process may have written it while this one waited.
                manifest = _reusable(out_dir, wanted, progress) or _write(
                    checkpoint, source, out_dir, dtype, files, progress, max_shard_bytes
                )
        except TimeoutError as error:
            raise ArtifactError(
                f"cannot write the artifact to {out_dir}: {error}; wait for it to end, or choose another directory "
                "(parameter artifact_dir)"
            ) from error
        except OSError as error:
            raise ArtifactError(
                f"cannot write the artifact to {out_dir}: {error.strerror or error}; "
                f"{_REMEDIES.get(error.errno, _OTHER_REMEDY)}"
            ) from error
    return manifest


def _tokenizer_files(tokenizer: str | Path | None) -> dict[str, bytes]:
    """Content of the files that a tokenizer consists of, by the names that `Tokenizer.from_path` looks for."""
    if tokenizer is None:
        return {}
    path = Tokenizer.from_path(tokenizer).path
    config = path.with_name("tokenizer_config.json")
    return {"tokenizer.json": path.read_bytes()} | (
        {config.name: config.read_bytes()} if config.is_file() else {}
    )


def _reusable(
    out_dir: Path, wanted: tuple[str, str, dict[str, str]], progress: Callable[[Progress], None]
) -> Manifest | None:
    if not os.path.lexists(out_dir / MANIFEST_NAME):
        return None
    try:
        manifest = read_manifest(out_dir)
        found = (
            manifest.source.fingerprint,
            manifest.dtype,
            {entry.name: entry.sha256 for entry in manifest.tokenizer},
        )
        if found != wanted:
            return None
        check_artifact(out_dir, manifest, contents=True, progress=progress)
    except ArtifactError as error:
        logger.warning("the artifact on disk is not usable and is written again: %s", error)
        return None
    logger.info("artifact %s is up to date", out_dir)
    return manifest


def _write(
    checkpoint: LoadedCheckpoint,
    source: Source,
    out_dir: Path,
    dtype: torch.dtype,
    tokenizer: dict[str, bytes],
    progress: Callable[[Progress], None],
    max_shard_bytes: int,
) -> Manifest:
    specs = specs_of(checkpoint.model, dtype)
    total_bytes = sum(spec.size_bytes for spec in specs)
    _clear_interrupted(out_dir)
    free_bytes = shutil.disk_usage(out_dir).free
    if free_bytes < total_bytes + _SPARE_BYTES:
        raise ArtifactError(
            f"{out_dir} has {free_bytes / 1e9:.2f} GB free, the artifact takes {total_bytes / 1e9:.2f} GB beside "
            f"the old one; {_REMEDIES[errno.ENOSPC]}"
        )
    token = secrets.token_hex(4)
    try:
        shards = _write_shards(
            out_dir, token, specs, max_shard_bytes, _read_tensors(checkpoint.weights), progress
        )
        directory, entries = _write_tokenizer(out_dir, token, tokenizer)
        manifest = Manifest(
            source=source,
            dtype=dtype_name(dtype),
            model_config=sizes_of(checkpoint.config),
            norm_stats={
                key: {
                    "action": {
                        "q01": statistics.q01.tolist(),
                        "q99": statistics.q99.tolist(),
                        "mask": statistics.mask.tolist(),
                    }
                }
                for key, statistics in checkpoint.statistics.items()
            },
            shards=shards,
            tokenizer_directory=directory,
            tokenizer=entries,
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            tool_version=_tool_version(),
        )
        _write_file(out_dir / f"manifest-{token}.tmp", encode(manifest))
        _sync_directory(
            out_dir
        )  # the names of the shards are on the disk before the manifest that lists them
        os.replace(out_dir / f"manifest-{token}.tmp", out_dir / MANIFEST_NAME)
        _sync_directory(out_dir)
    except BaseException:
        _remove(path for path in _own_files(out_dir) if f"-{token}" in path.name)
        raise
    _remove(path for path in _own_files(out_dir) if path.name not in _named_by(manifest))
    logger.info("wrote %s: %.2f GB in %d shards", out_dir, manifest.size_bytes / 1e9, len(shards))
    return manifest


def _write_shards(
    out_dir: Path,
    token: str,
    specs: list[TensorSpec],
    max_shard_bytes: int,
    tensors: dict[str, Tensor],
    progress: Callable[[Progress], None],
) -> tuple[FileEntry, ...]:
    total_bytes, done_bytes = sum(spec.size_bytes for spec in specs), 0

    def written(size_bytes: int) -> None:
        nonlocal done_bytes
        done_bytes += size_bytes
        progress(Progress("writing weights", done_bytes, total_bytes))

    plan = plan_shards(specs, max_shard_bytes)
    return tuple(
        write_shard(
            out_dir / f"model-{token}-{number:05d}-of-{len(plan):05d}.safetensors",
            shard,
            tensors.__getitem__,
            written,
        )
        for number, shard in enumerate(plan, start=1)
    )


def _read_tensors(weights: Path) -> dict[str, Tensor]:
    """The checkpoint's tensors, memory-mapped; `load_checkpoint` has checked them a moment ago."""
    try:
        modules = torch.load(weights, map_location="cpu", mmap=True, weights_only=True)["model"]
        return {f"{module}.{key}": tensor for module in MODULES for key, tensor in modules[module].items()}
    except (RuntimeError, OSError, EOFError, LookupError, pickle.UnpicklingError) as error:
        raise ArtifactError(
            f"{weights} changed while it was read ({error}); leave it alone while it is converted"
        ) from error


def _write_tokenizer(out_dir: Path, token: str, files: dict[str, bytes]) -> tuple[str, tuple[FileEntry, ...]]:
    if not files:
        return "", ()
    directory = out_dir / f"tokenizer-{token}"
    directory.mkdir()
    entries = tuple(_write_file(directory / name, content) for name, content in files.items())
    _sync_directory(directory)
    return directory.name, entries


def _write_file(path: Path, content: bytes) -> FileEntry:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return FileEntry(path.name, len(content), hashlib.sha256(content).hexdigest())


def _named_by(manifest: Manifest) -> set[str]:
    return {manifest.tokenizer_directory, *(entry.name for entry in manifest.shards)}


def _own_files(out_dir: Path) -> list[Path]:
    """What a writer made here; files of anybody else are never touched."""
    return [path for path in out_dir.iterdir() if _OURS.fullmatch(path.name)]


def _clear_interrupted(out_dir: Path) -> None:
    """Removes what an interrupted writer left, so that it does not fill the disk; leaves all that an artifact may need."""
    try:
        kept = _named_by(read_manifest(out_dir))
    except ArtifactError as error:
        if os.path.lexists(out_dir / MANIFEST_NAME):
            if not _own_files(out_dir):
                raise ArtifactError(
                    f"{out_dir} holds a manifest.json that is not an artifact's ({error}); choose another "
                    "directory (parameter artifact_dir)"
                ) from error
            return  # damaged, or of another version: stays until the new one is complete
        kept = set()
    _remove(path for path in _own_files(out_dir) if path.name not in kept)


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        try:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        except OSError as error:
            logger.warning(
                "cannot remove %s: %s; it is no longer needed and may be deleted by hand",
                path,
                error.strerror,
            )


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _tool_version() -> str:
    try:
        return f"sqap_vla {metadata.version('sqap_vla')}"
    except metadata.PackageNotFoundError:  # run from the source tree
        return "sqap_vla (source tree)"
