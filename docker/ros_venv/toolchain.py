# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Compile shared libraries against the headers and libraries of a venv. Runs in the venv's interpreter."""

from __future__ import annotations

import os
import subprocess
import sysconfig
from pathlib import Path

import numpy


class Toolchain:
    """Compiler and linker calls against the headers and libraries of one prefix."""

    def __init__(self, prefix: Path, output: Path) -> None:
        # Every ROS package has its own include root, include/<package>; numpy and CPython bring theirs.
        roots = [
            *(path for path in sorted(output.iterdir()) if path.is_dir()),
            prefix / "include",
            *(path for path in sorted((prefix / "include").iterdir()) if path.is_dir()),
            Path(numpy.get_include()),
            Path(sysconfig.get_path("include")),
        ]
        # -w: the generated code is upstream's; its warnings are not this project's to mend.
        self._flags = ["-O2", "-fPIC", "-w", *(f"-I{root}" for root in roots)]
        self._lib, self._output = prefix / "lib", output

    def link(self, target: Path, sources: list[Path], libraries: list[str]) -> None:
        """Compile `sources` into the shared library `target`; `libraries` are found in the prefix's lib/."""
        compilers = {
            ".c": [os.environ.get("CC", "gcc"), "-std=gnu11"],
            ".cpp": [os.environ.get("CXX", "g++"), "-std=gnu++17"],
        }
        objects = []
        for source in sources:
            objects.append(self._output / f"{target.stem}.{source.stem}.o")
            _run([*compilers[source.suffix], *self._flags, "-c", source, "-o", objects[-1]])
        # $ORIGIN: the libraries find each other wherever the prefix is, without LD_LIBRARY_PATH.
        _run(
            [
                compilers[".cpp"][0],
                "-shared",
                "-o",
                target,
                *objects,
                f"-L{self._lib}",
                *(f"-l{name}" for name in libraries),
                f"-Wl,-rpath,$ORIGIN/{os.path.relpath(self._lib, target.parent)}",
                f"-Wl,-rpath-link,{self._lib}",
            ]
        )


def _run(command: list[str | Path]) -> None:
    words = [str(word) for word in command]
    result = subprocess.run(words, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(
            f"{words[0]} failed with exit status {result.returncode}: {' '.join(words)}\n{result.stderr}"
        )
