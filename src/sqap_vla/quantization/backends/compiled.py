# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Kernels that are compiled at first use, for the very machine, and kept in the user's cache directory.

A kernel is one source file of `kernels/` with a plain C interface, loaded with ctypes. It is built again when its
source, the command, the compiler or the processor changes. Nothing is downloaded; without a compiler the backend is
absent and says so.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

logger = logging.getLogger(__name__)

SOURCES = Path(__file__).parent / "kernels"
_TIMEOUT_S = 600


class BuildError(RuntimeError):
    """A kernel cannot be compiled or loaded; the message says why."""


def find_compiler(names: tuple[str, ...]) -> str:
    """The first of these programs. Raises BuildError if there is none."""
    for name in names:
        if path := shutil.which(name):
            return path
    raise BuildError(f"there is no compiler ({' or '.join(names)}); install one for the faster kernels")


@functools.lru_cache(maxsize=16)
def build(source: str, compiler: str, options: tuple[str, ...]) -> ctypes.CDLL:
    """Compile `kernels/<source>` into a shared library, or take the one that was compiled before, and load it.

    Raises BuildError with the compiler's first error.
    """
    path = SOURCES / source
    library = cache_directory() / f"{path.stem}-{_fingerprint(path, compiler, options)}.so"
    if not library.is_file():
        _compile(path, compiler, options, library)
    try:
        return ctypes.CDLL(str(library))
    except OSError as error:
        raise BuildError(f"{library} does not load ({error}); remove it, and it is compiled again") from error


def cache_directory() -> Path:
    """$XDG_CACHE_HOME/sqap_vla/kernels, the user's own. Raises BuildError if it cannot be made."""
    path = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sqap_vla" / "kernels"
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        owner = path.stat().st_uid
    except OSError as error:
        raise BuildError(f"no place for compiled kernels ({error}); set XDG_CACHE_HOME") from error
    if owner != os.getuid():
        raise BuildError(f"{path} belongs to another user; code from there is not run: set XDG_CACHE_HOME")
    return path


def _compile(path: Path, compiler: str, options: tuple[str, ...], library: Path) -> None:
    started = time.monotonic()
    logger.info("compiling %s, once for this machine", path.name)
    with tempfile.TemporaryDirectory(dir=library.parent) as directory:
        made = Path(directory) / library.name
        command = [compiler, *options, str(path), "-o", str(made)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise BuildError(f"{Path(compiler).name} did not compile {path.name}: {error}") from error
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if "error" in line.lower()] or done.stderr.splitlines()
            raise BuildError(f"{Path(compiler).name} does not compile {path.name}: {(lines or ['no message'])[0]}")
        os.replace(made, library)  # whole or not at all, whoever else builds it
    logger.info("compiled %s in %.0f s", path.name, time.monotonic() - started)


def _fingerprint(path: Path, compiler: str, options: tuple[str, ...]) -> str:
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, timeout=60, check=False).stdout
    parts = (path.read_text(encoding="utf-8"), compiler, *options, version, platform.machine(), _processor())
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=12).hexdigest()


def _processor() -> str:
    """What instructions it has, as Linux says."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")
