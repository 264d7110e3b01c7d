# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""A bar on the terminal for work on an artifact; silent where standard error is no terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm

from sqap_vla.quantization.shards import Progress
from sqap_vla.quantization.writer import OnProgress


@contextmanager
def progress_bar() -> Iterator[OnProgress]:
    """Gives what `write_artifact` and the like take as progress; a bar for each stage."""
    bar: tqdm | None = None

    def show(progress: Progress) -> None:
        nonlocal bar
        if bar is None or bar.desc != progress.stage:
            if bar is not None:
                bar.close()
            total = progress.total_bytes or None
            bar = tqdm(total=total, desc=progress.stage, unit="B", unit_scale=True, disable=None)
            bar.desc = progress.stage  # tqdm adds a colon
        bar.update(progress.done_bytes - bar.n)

    try:
        yield show
    finally:
        if bar is not None:
            bar.close()
