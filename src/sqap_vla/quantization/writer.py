# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Writes an artifact directory so that a reader finds the old artifact or the new one, never a mixture.

New files get names of their own beside the old ones and are synced; then manifest.json is replaced in one
step; then what no manifest names any more is removed (a reader that has it mapped keeps it). Killed at any
moment, the directory holds a usable artifact if it did before. The next writer goes on from the last complete shard
where it writes the same content (journal.py), and clears it away where it does not. While both artifacts lie there, the
disk must hold both. One process writes at a time (flock on .lock, released by the kernel when the process ends).
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

from sqap_vla.cogact.checkpoint_files import open_weights
from sqap_vla.cogact.sizes import sizes_of
from sqap_vla.quantization import generations
from sqap_vla.quantization.conversion import TensorSource, build_shell, specs_of
from sqap_vla.quantization.journal import Journal
from sqap_vla.quantization.lock import directory_lock
from sqap_vla.quantization.manifest import (
    MANIFEST_NAME,
    ArtifactError,
    FileEntry,
    Manifest,
    encode,
    read_manifest,
)
from sqap_vla.quantization.order import Order, Recipe
from sqap_vla.quantization.shards import Progress, TensorSpec, check_artifact, plan_shards, write_shard
from sqap_vla.quantization.streamed import calibrate_streamed

logger = logging.getLogger(__name__)

MAX_SHARD_BYTES = 256 * 10**6  # what is done again at most after an interruption
SPARE_BYTES = 16 * 2**20  # beside the weights: manifest, tokenizer, headers
_ELSEWHERE = "choose another directory (parameter artifact_dir)"
_REMEDIES = {
    errno.ENOSPC: f"the disk is full; free space, or {_ELSEWHERE}",
    errno.EDQUOT: f"the disk quota is used up; free space, or {_ELSEWHERE}",
    errno.EFBIG: f"files may not grow that large here; raise the limit (ulimit -f), or {_ELSEWHERE}",
}
_OTHER_REMEDY = f"make the directory writable, or {_ELSEWHERE}"

OnProgress = Callable[[Progress], None]


def write_artifact(
    checkpoint_dir: str | Path,
    out_dir: str | Path,
    recipe: Recipe,
    tokenizer: str | Path | None = None,
    progress: OnProgress = lambda progress: None,
    lock_timeout_s: float = 0.0,
    max_shard_bytes: int = MAX_SHARD_BYTES,
) -> Manifest:
    """Makes out_dir the artifact of a checkpoint; a sound one of the same content is left untouched.

    Holds no more than one tensor and, where it quantizes, the integers of one shard in memory. tokenizer: copied into
    the artifact. progress is called often; an exception that it raises ends the writing, to be gone on with later.
    lock_timeout_s: how long to wait for another process that writes there. Raises CheckpointError or TokenizerError
    where the source is unusable, ArtifactError where it cannot be quantized in that way or the artifact cannot be
    written; the artifact that was there is then still usable.
    """
    checkpoint_dir, out_dir = Path(checkpoint_dir), Path(out_dir)
    order = Order.of(checkpoint_dir, recipe, tokenizer, max_shard_bytes)
    specs = _specs(order)  # refuses what does not fit, before anything is written
    if out_dir.resolve() == checkpoint_dir.resolve():
        raise ArtifactError(f"artifact directory {out_dir} is the checkpoint's own; {_ELSEWHERE}")
    manifest = _reusable(out_dir, order, progress)  # needs no permission to write
    if manifest is not None:
        return manifest
    waiting = Progress("waiting for another process that writes the artifact", 0, 0)
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
        with directory_lock(out_dir, lock_timeout_s, lambda: progress(waiting)):
            # Another one may have written it.
            return _reusable(out_dir, order, progress) or _write(out_dir, order, specs, progress)
    except TimeoutError as error:
        raise ArtifactError(
            f"cannot write the artifact to {out_dir}: {error}; wait for it to end, or {_ELSEWHERE}"
        ) from error
    except OSError as error:
        raise ArtifactError(
            f"cannot write the artifact to {out_dir}: {error.strerror or error}; "
            f"{_REMEDIES.get(error.errno, _OTHER_REMEDY)}"
        ) from error


def _specs(order: Order) -> list[TensorSpec]:
    recipe = order.recipe
    try:
        shell = build_shell(order.checkpoint.config, recipe.quantization)
    except ValueError as error:
        raise ArtifactError(f"quantization {recipe.quantization} does not fit this network: {error}") from error
    return specs_of(shell, recipe.dtype, quantized=recipe.quantization is not None)


def _reusable(out_dir: Path, order: Order, progress: OnProgress) -> Manifest | None:
    if not os.path.lexists(out_dir / MANIFEST_NAME):
        return None
    try:
        manifest = read_manifest(out_dir)
        if not order.is_met_by(manifest):
            return None
        check_artifact(out_dir, manifest, contents=True, progress=progress)
    except ArtifactError as error:
        logger.warning("the artifact on disk is not usable and is written again: %s", error)
        return None
    logger.info("artifact %s is up to date", out_dir)
    return manifest


def _write(out_dir: Path, order: Order, specs: list[TensorSpec], progress: OnProgress) -> Manifest:
    generations.refuse_foreign(out_dir)
    journal = Journal.resume(out_dir, order.digest)
    begun = {journal.path.name, *journal.done} if journal else set()
    generations.remove_unnamed(out_dir, keep=begun)  # what a killed writer left must not fill the disk
    if journal:
        generations.remove_unnamed(out_dir, journal.token, keep=begun)  # the shard that it was killed in
    done_bytes = sum(entry.size_bytes for entry in journal.done.values()) if journal else 0
    _require_space(out_dir, sum(spec.size_bytes for spec in specs) - done_bytes)
    journal = journal or Journal.begin(out_dir, order.digest)
    try:
        manifest = _write_files(out_dir, journal, order, specs, progress)
        generations.sync_directory(out_dir)  # names of the shards, before the manifest that lists them
        os.replace(out_dir / generations.manifest_name(journal.token), out_dir / MANIFEST_NAME)
        generations.sync_directory(out_dir)
    except (OSError, ArtifactError):
        # The disk, or the source: what lies there is in the way, or of no further use. An interruption leaves it.
        generations.remove_unnamed(out_dir, journal.token)
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


def _write_files(
    out_dir: Path, journal: Journal, order: Order, specs: list[TensorSpec], progress: OnProgress
) -> Manifest:
    """Everything, the manifest under a name that does not take effect yet."""
    shards = _write_shards(out_dir, journal, order, specs, progress)
    tokenizer = _write_tokenizer(out_dir / generations.tokenizer_name(journal.token), order.tokenizer)
    statistics = {
        key: {"action": {"q01": item.q01.tolist(), "q99": item.q99.tolist(), "mask": item.mask.tolist()}}
        for key, item in order.checkpoint.statistics.items()
    }
    manifest = Manifest(
        **order.manifest_fields(),
        model_config=sizes_of(order.checkpoint.config),
        norm_stats=statistics,
        shards=shards,
        tokenizer_directory=generations.tokenizer_name(journal.token) if tokenizer else "",
        tokenizer=tokenizer,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )
    generations.write_file(out_dir / generations.manifest_name(journal.token), encode(manifest))
    return manifest


def _write_shards(
    out_dir: Path, journal: Journal, order: Order, specs: list[TensorSpec], progress: OnProgress
) -> tuple[FileEntry, ...]:
    plan = plan_shards(specs, order.max_shard_bytes)
    total_bytes = sum(spec.size_bytes for spec in specs)
    done_bytes = ahead_bytes = 0  # ahead: made, told of, and not written yet

    def made(size_bytes: int) -> None:
        """To quantize a layer takes seconds, to write it nothing."""
        nonlocal done_bytes, ahead_bytes
        done_bytes += size_bytes
        ahead_bytes += size_bytes
        progress(Progress("writing weights", done_bytes, total_bytes))

    def written(size_bytes: int) -> None:
        nonlocal done_bytes, ahead_bytes
        told = min(size_bytes, ahead_bytes)
        ahead_bytes -= told
        done_bytes += size_bytes - told
        progress(Progress("writing weights", done_bytes, total_bytes))

    source = _source(order, progress, made)
    entries = []
    for number, shard in enumerate(plan, start=1):
        name = generations.shard_name(journal.token, number, len(plan))
        if name in journal.done:
            written(sum(spec.size_bytes for spec in shard))
        else:
            journal.note(write_shard(out_dir / name, shard, source.__getitem__, written))
        entries.append(journal.done[name])
    return tuple(entries)


def _source(order: Order, progress: OnProgress, made: Callable[[int], None]) -> TensorSource:
    """Where the tensors come from, calibrated where that is needed. Raises ArtifactError."""
    tensors = open_weights(order.checkpoint.weights)  # mapped; load_checkpoint has checked it a moment ago
    config, recipe = order.checkpoint.config, order.recipe
    statistics = None
    try:
        if recipe.frames is not None:
            progress(Progress(f"calibrating on {len(recipe.frames)} frames", 0, 0))
            statistics = calibrate_streamed(tensors, config, recipe.quantization, recipe.frames.run)
        return TensorSource(tensors, config, recipe.quantization, statistics, made)
    except ValueError as error:
        raise ArtifactError(f"cannot calibrate on these frames: {error}") from error


def _write_tokenizer(directory: Path, files: dict[str, bytes]) -> tuple[FileEntry, ...]:
    if not files:
        return ()
    directory.mkdir()
    entries = tuple(generations.write_file(directory / name, content) for name, content in files.items())
    generations.sync_directory(directory)
    return entries
