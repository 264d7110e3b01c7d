# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Which shards of an unfinished writing are complete, so that the next writer of the same content goes on from there.

journal-<token>.jsonl: a first line that says what is being written, then one for each shard, synced to the disk once
the shard is. A shard counts only if it still has the size and the checksum that were noted; a line that a killed writer
left unfinished counts for nothing.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
from dataclasses import asdict
from pathlib import Path

from sqap_vla.quantization.generations import journal_name, token_of_journal
from sqap_vla.quantization.manifest import FileEntry
from sqap_vla.quantization.shards import sha256_of

logger = logging.getLogger(__name__)


class Journal:
    """Of one writing. token: the one in the names of its files. done: complete shards by file name."""

    def __init__(self, path: Path, token: str, done: dict[str, FileEntry]) -> None:
        self.path, self.token, self.done = path, token, done

    @classmethod
    def resume(cls, directory: Path, order: str) -> Journal | None:
        """The journal of a writing of the same `order` (a digest) that did not end, with the shards that are sound."""
        for path in sorted(directory.iterdir()):
            token = token_of_journal(path.name)
            if token is None:
                continue
            lines = _complete_lines(path)
            if lines and lines[0] == {"order": order}:
                done = {entry.name: entry for entry in map(_entry, lines[1:]) if entry and _is_sound(directory, entry)}
                logger.info("going on with an unfinished writing in %s: %d shards are there", directory, len(done))
                return cls(path, token, done)
        return None

    @classmethod
    def begin(cls, directory: Path, order: str) -> Journal:
        """A new one. Raises OSError."""
        token = secrets.token_hex(4)
        journal = cls(directory / journal_name(token), token, {})
        try:
            journal._append({"order": order})
        except OSError:
            journal.path.unlink(missing_ok=True)
            raise
        return journal

    def note(self, entry: FileEntry) -> None:
        """A shard is complete and synced. Raises OSError."""
        self._append(asdict(entry))
        self.done[entry.name] = entry

    def _append(self, line: dict[str, object]) -> None:
        with self.path.open("ab") as file:
            file.write(json.dumps(line).encode("ascii") + b"\n")
            file.flush()
            os.fsync(file.fileno())


def _complete_lines(path: Path) -> list[object]:
    """Its lines of JSON; an unfinished last one is cut off, so that the next can follow."""
    try:
        content = path.read_bytes()
        complete = content[: content.rfind(b"\n") + 1]
        if complete != content:
            os.truncate(path, len(complete))
        return [json.loads(line) for line in complete.splitlines()]
    except (OSError, ValueError) as error:
        logger.warning("%s is not usable, its writing begins anew (%s)", path, error)
        return []


def _entry(line: object) -> FileEntry | None:
    try:
        return FileEntry(**line)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None


def _is_sound(directory: Path, entry: FileEntry) -> bool:
    path = directory / entry.name
    try:
        return path.lstat().st_size == entry.size_bytes and sha256_of(path) == entry.sha256
    except OSError:
        return False
