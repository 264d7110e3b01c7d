# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""One writer per directory, between processes: flock on a file in it, released when its holder ends."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK_NAME = ".lock"
_POLL_S = 0.1


@contextmanager
def directory_lock(directory: Path, timeout_s: float, waiting: Callable[[], None]) -> Iterator[None]:
    """Holds the directory's lock; calls waiting() while it waits. Raises TimeoutError or OSError."""
    descriptor = os.open(directory / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        deadline_s = time.monotonic() + timeout_s
        while not _try_lock(descriptor):
            if time.monotonic() >= deadline_s:
                raise TimeoutError(f"another process held {directory / LOCK_NAME} for {timeout_s:g} s")
            waiting()
            time.sleep(_POLL_S)  # flock has no timeout of its own
        yield
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
