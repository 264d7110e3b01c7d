# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""A status of a few lines that stays in place on a terminal; elsewhere one line now and then."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from typing import TextIO

PLAIN_PERIOD_S = 10.0  # between two status lines where the output is no terminal


class Screen:
    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._drawn = 0
        self._last_plain_s = 0.0

    def line(self, text: str) -> None:
        """A line that stays."""
        self._drawn = 0
        self._out.write(text + "\n")
        self._out.flush()

    def show(self, lines: Sequence[str]) -> None:
        """Replaces what was shown before."""
        if not self._out.isatty():
            if time.monotonic() - self._last_plain_s >= PLAIN_PERIOD_S:
                self._last_plain_s = time.monotonic()
                self._out.write(" | ".join(line.strip() for line in lines) + "\n")
                self._out.flush()
            return
        width = shutil.get_terminal_size().columns - 1
        up = f"\x1b[{self._drawn}F" if self._drawn else ""
        self._out.write(up + "".join(f"\x1b[2K{line[:width]}\n" for line in lines) + "\x1b[J")
        self._out.flush()
        self._drawn = len(lines)
