# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Files of several writings side by side in one artifact directory, told apart by a token in their names.

Only what a writer made is ever removed, and of that only what the manifest on the disk does not name.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
from collections.abc import Collection
from pathlib import Path

from sqap_vla.quantization.manifest import MANIFEST_NAME, ArtifactError, FileEntry, Manifest, read_manifest

logger = logging.getLogger(__name__)

_OWN = re.compile(
    r"(model-(?P<model>[0-9a-f]{8})-\d{5}-of-\d{5}\.safetensors"
    r"|tokenizer-(?P<tokenizer>[0-9a-f]{8})|manifest-(?P<manifest>[0-9a-f]{8})\.tmp"
    r"|journal-(?P<journal>[0-9a-f]{8})\.jsonl)"
)


def shard_name(token: str, number: int, count: int) -> str:
    return f"model-{token}-{number:05d}-of-{count:05d}.safetensors"


def tokenizer_name(token: str) -> str:
    return f"tokenizer-{token}"


def manifest_name(token: str) -> str:
    """Of the manifest until it takes effect."""
    return f"manifest-{token}.tmp"


def journal_name(token: str) -> str:
    return f"journal-{token}.jsonl"


def token_of_journal(name: str) -> str | None:
    """None where it is no journal's name."""
    own = _OWN.fullmatch(name)
    return own["journal"] if own else None


def refuse_foreign(out_dir: Path) -> None:
    """Raises ArtifactError where manifest.json belongs to something else, which must not be overwritten."""
    if not os.path.lexists(out_dir / MANIFEST_NAME):
        return
    try:
        read_manifest(out_dir)
    except ArtifactError as error:
        if not any(_OWN.fullmatch(path.name) for path in out_dir.iterdir()):
            raise ArtifactError(
                f"{out_dir} holds a manifest.json that is not an artifact's ({error}); "
                "choose another directory (parameter artifact_dir)"
            ) from error


def remove_unnamed(out_dir: Path, token: str | None = None, keep: Collection[str] = ()) -> None:
    """Removes what writers left and neither the manifest on the disk nor `keep` names; with token, only of that
    writing.

    Without token, an unusable manifest (damaged, or of another version) keeps everything: nothing is taken
    away before something better is there.
    """
    try:
        named = _named_by(read_manifest(out_dir))
    except ArtifactError:
        if token is None and os.path.lexists(out_dir / MANIFEST_NAME):
            return
        named = set()
    for path in list(out_dir.iterdir()):
        own = _OWN.fullmatch(path.name)
        if own and path.name not in named and path.name not in keep and token in (None, *own.groups()[1:]):
            _remove(path)


def _named_by(manifest: Manifest) -> set[str]:
    return {manifest.tokenizer_directory, *(entry.name for entry in manifest.shards)}


def _remove(path: Path) -> None:
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    except OSError as error:
        logger.warning("cannot remove %s (%s); it is not needed, delete it by hand", path, error.strerror)


def write_file(path: Path, content: bytes) -> FileEntry:
    """Writes a new small file and syncs it. Raises OSError."""
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return FileEntry(path.name, len(content), hashlib.sha256(content).hexdigest())


def sync_directory(directory: Path) -> None:
    """Puts the names in a directory on the disk. Raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
