# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Opens a rosbag2 of any storage, and says in one way what is wrong with one that cannot be read."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import apsw
from rosbags.rosbag2 import Reader, ReaderError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

# What rosbags and the decoders below it raise for bytes that are not what they should be: TypeError is
# ord(b"") at the end of a file, MemoryError and OverflowError a length field gone wrong, RuntimeError lz4's.
# Only calls of rosbags stand under `try`.
DAMAGED = (
    *(ReaderError, apsw.Error, zstd.ZstdError, struct.error),
    *(OSError, EOFError, ValueError, KeyError, TypeError, RuntimeError, OverflowError, MemoryError),
)


class BagError(RuntimeError):
    """A bag that cannot be read, or that lacks what was asked for."""


def open_storage(path: Path) -> Reader:
    """The bag, opened. Raises BagError with a remedy for anything that is no readable bag."""
    if not path.exists():
        raise BagError(f"bag '{path}' does not exist; give a rosbag2 directory or a .mcap or .db3 file")
    if path.is_dir() and not (path / "metadata.yaml").is_file():
        files = sorted(file.name for file in path.iterdir() if file.suffix in (".mcap", ".db3"))
        remedy = "it holds no .mcap or .db3 file either; give the directory that `ros2 bag record` made"
        if files:
            remedy = (
                f"the recording was not closed: run `ros2 bag reindex`, or give the file itself ({', '.join(files)})"
            )
        raise BagError(f"bag '{path}' has no metadata.yaml; {remedy}")
    if path.is_file() and path.suffix not in (".mcap", ".db3"):
        remedy = {
            ".bag": "that is ROS 1's format; run `rosbags-convert` first",
            ".zstd": "give the directory that holds it",
        }.get(path.suffix, "give a rosbag2 directory or a .mcap or .db3 file")
        raise BagError(f"bag '{path}' has the unknown storage '{path.suffix}'; {remedy}")
    try:
        reader = Reader(path)
        reader.open()
    except DAMAGED as error:
        raise damaged(path, error) from error
    return reader


def damaged(path: Path, error: Exception) -> BagError:
    """What to raise for one of DAMAGED."""
    reason = str(error) or type(error).__name__
    return BagError(
        f"bag '{path}' cannot be read: {reason} ({type(error).__name__}). If the recording was cut off, "
        "`mcap recover` (.mcap) or `ros2 bag reindex` may save what is there"
    )
