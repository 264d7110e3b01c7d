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
import secrets
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

import torch

from sqap_vla.cogact.checkpoint import LoadedCheckpoint, load_checkpoint
from sqap_vla.cogact.checkpoint_files import fingerprint, open_weights
from sqap_vla.cogact.prompt import Tokenizer
from sqap_vla.cogact.sizes import sizes_of
from sqap_vla.quantization import generations
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
SPARE_BYTES = 16 * 2**20  # beside the weights: manifest, tokenizer, headers
_ELSEWHERE = "choose another directory (parameter artifact_dir)"
_REMEDIES = {
    errno.ENOSPC: f"the disk is full; free space, or {_ELSEWHERE}",
    errno.EDQUOT: f"the disk quota is used up; free space, or {_ELSEWHERE}",
    errno.EFBIG: f"files may not grow that large here; raise the limit (ulimit -f), or {_ELSEWHERE}",
}
_OTHER_REMEDY = f"make the directory writable, or {_ELSEWHERE}"


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


@dataclass(frozen=True)
class _Order:
    """What is to be written, and how. tokenizer: content of its files by name."""

    checkpoint: LoadedCheckpoint
    source: Source
    dtype: torch.dtype
    tokenizer: dict[str, bytes]
    max_shard_bytes: int
    progress: Callable[[Progress], None]

    def is_met_by(self, manifest: Manifest) -> bool:
        """Whether writing would give the same content again."""
        tokenizer = {name: hashlib.sha256(content).hexdigest() for name, content in self.tokenizer.items()}
        return (
            manifest.source.fingerprint == self.source.fingerprint
            and manifest.dtype == dtype_name(self.dtype)
            and {entry.name: entry.sha256 for entry in manifest.tokenizer} == tokenizer
        )


def write_artifact(
    checkpoint_dir: str | Path,
    out_dir: str | Path,
    dtype: torch.dtype,
    tokenizer: str | Path | None = None,
    progress: Callable[[Progress], None] = lambda progress: None,
    lock_timeout_s: float = 0.0,
    max_shard_bytes: int = MAX_SHARD_BYTES,
) -> Manifest:
    """Makes out_dir the artifact of a checkpoint; a sound one of the same content is left untouched.

    Holds no more than one tensor in memory. tokenizer: copied into the artifact. progress is called often; an
    exception that it raises ends the writing. lock_timeout_s: how long to wait for another process that
    writes there. Raises CheckpointError or TokenizerError where the source is unusable, ArtifactError where
    the artifact cannot be written; the artifact that was there is then still usable.
    """
    checkpoint_dir, out_dir = Path(checkpoint_dir), Path(out_dir)
    dtype_name(dtype)  # refused before anything is read
    checkpoint = load_checkpoint(checkpoint_dir, device="meta")  # checks everything, holds nothing
    source = Source(
        checkpoint_dir.resolve().name, checkpoint.weights.name, checkpoint.step, fingerprint(checkpoint_dir)
    )
    order = _Order(checkpoint, source, dtype, _tokenizer_files(tokenizer), max_shard_bytes, progress)
    if out_dir.resolve() == checkpoint_dir.resolve():
        raise ArtifactError(f"artifact directory {out_dir} is the checkpoint's own; {_ELSEWHERE}")
    manifest = _reusable(out_dir, order)  # needs no permission to write
    if manifest is not None:
        return manifest
    waiting = Progress("waiting for another process that writes the artifact", 0, 0)
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
        with directory_lock(out_dir, lock_timeout_s, lambda: progress(waiting)):
            return _reusable(out_dir, order) or _write(out_dir, order)  # another one may have written it
    except TimeoutError as error:
        raise ArtifactError(
            f"cannot write the artifact to {out_dir}: {error}; wait for it to end, or {_ELSEWHERE}"
        ) from error
    except OSError as error:
        raise ArtifactError(
            f"cannot write the artifact to {out_dir}: {error.strerror or error}; "
            f"{_REMEDIES.get(error.errno, _OTHER_REMEDY)}"
        ) from error


def _tokenizer_files(tokenizer: str | Path | None) -> dict[str, bytes]:
    """The files that a tokenizer consists of, by the names that `Tokenizer.from_path` looks for."""
    if tokenizer is None:
        return {}
    path = Tokenizer.from_path(tokenizer).path
    files = {"tokenizer.json": path.read_bytes()}
    config = path.with_name("tokenizer_config.json")
    return files | ({config.name: config.read_bytes()} if config.is_file() else {})


def _reusable(out_dir: Path, order: _Order) -> Manifest | None:
    if not os.path.lexists(out_dir / MANIFEST_NAME):
        return None
    try:
        manifest = read_manifest(out_dir)
        if not order.is_met_by(manifest):
            return None
        check_artifact(out_dir, manifest, contents=True, progress=order.progress)
    except ArtifactError as error:
        logger.warning("the artifact on disk is not usable and is written again: %s", error)
        return None
    logger.info("artifact %s is up to date", out_dir)
    return manifest


def _write(out_dir: Path, order: _Order) -> Manifest:
    generations.refuse_foreign(out_dir)
    generations.remove_unnamed(out_dir)  # what a killed writer left must not fill the disk
    specs = specs_of(order.checkpoint.model, order.dtype)
    _require_space(out_dir, sum(spec.size_bytes for spec in specs))
    token = secrets.token_hex(4)
    try:
        manifest = _write_files(out_dir, token, order, specs)
        generations.sync_directory(out_dir)  # names of the shards, before the manifest that lists them
        os.replace(out_dir / generations.manifest_name(token), out_dir / MANIFEST_NAME)
        generations.sync_directory(out_dir)
    except BaseException:
        generations.remove_unnamed(out_dir, token)
        raise
    generations.remove_unnamed(out_dir)
    logger.info("wrote %s: %.2f GB in %d shards", out_dir, manifest.size_bytes / 1e9, len(manifest.shards))
    return manifest


def _require_space(out_dir: Path, needed_bytes: int) -> None:
    free_bytes = shutil.disk_usage(out_dir).free
    if free_bytes < needed_bytes + SPARE_BYTES:
        raise ArtifactError(
            f"{out_dir} has {free_bytes / 1e9:.2f} GB free, the artifact takes {needed_bytes / 1e9:.2f} GB "
            f"beside the old one; {_REMEDIES[errno.ENOSPC]}"
        )


def _write_files(out_dir: Path, token: str, order: _Order, specs: list[TensorSpec]) -> Manifest:
    """Everything, the manifest under a name that does not take effect yet."""
    shards = _write_shards(out_dir, token, order, specs)
    tokenizer = _write_tokenizer(out_dir / generations.tokenizer_name(token), order.tokenizer)
    statistics = {
        key: {"action": {"q01": item.q01.tolist(), "q99": item.q99.tolist(), "mask": item.mask.tolist()}}
        for key, item in order.checkpoint.statistics.items()
    }
    manifest = Manifest(
        source=order.source,
        dtype=dtype_name(order.dtype),
        model_config=sizes_of(order.checkpoint.config),
        norm_stats=statistics,
        shards=shards,
        tokenizer_directory=generations.tokenizer_name(token) if tokenizer else "",
        tokenizer=tokenizer,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        tool_version=_tool_version(),
    )
    generations.write_file(out_dir / generations.manifest_name(token), encode(manifest))
    return manifest


def _write_shards(out_dir: Path, token: str, order: _Order, specs: list[TensorSpec]) -> tuple[FileEntry, ...]:
    tensors = open_weights(order.checkpoint.weights)  # mapped; load_checkpoint has checked it a moment ago
    plan = plan_shards(specs, order.max_shard_bytes)
    total_bytes, done_bytes = sum(spec.size_bytes for spec in specs), 0

    def written(size_bytes: int) -> None:
        nonlocal done_bytes
        done_bytes += size_bytes
        order.progress(Progress("writing weights", done_bytes, total_bytes))

    return tuple(
        write_shard(
            out_dir / generations.shard_name(token, number, len(plan)), shard, tensors.__getitem__, written
        )
        for number, shard in enumerate(plan, start=1)
    )


def _write_tokenizer(directory: Path, files: dict[str, bytes]) -> tuple[FileEntry, ...]:
    if not files:
        return ()
    directory.mkdir()
    entries = tuple(generations.write_file(directory / name, content) for name, content in files.items())
    generations.sync_directory(directory)
    return entries


def _tool_version() -> str:
    try:
        return f"sqap_vla {metadata.version('sqap_vla')}"
    except metadata.PackageNotFoundError:  # run from the source tree
        return "sqap_vla (source tree)"
