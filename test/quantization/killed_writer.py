# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Kills a writer at every file operation and at random moments; test_writer.py runs it as a process.

    killed_writer.py FIRST SECOND OUT

OUT is an artifact of one checkpoint; a forked writer turns it into the other's and is killed with SIGKILL on
the way. After each kill the artifact must load and be one of the two. Prints how many writers were killed
before, and how many after the new manifest took effect.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

from sqap_vla.cogact.checkpoint import fingerprint
from sqap_vla.quantization.artifact import load_artifact, verify_artifact, write_artifact
from sqap_vla.quantization.order import Recipe
from sqap_vla.quantization.policy import preset

SMALL_SHARD_BYTES = 40_000  # several shards
RECIPE = Recipe(torch.bfloat16, preset("default"))


def write(checkpoint: Path, out: Path, kill_at: int | None) -> None:
    """Ends by SIGKILL at the file operation with number kill_at inside out, or by itself."""
    seen = 0

    def audit(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal seen
        if (
            kill_at is not None and arguments and str(arguments[0]).startswith(str(out))
        ):  # open, os.mkdir, os.rename, ...
            seen += 1
            if seen == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(audit)
    write_artifact(
        checkpoint,
        out,
        RECIPE,
        tokenizer=checkpoint,
        lock_timeout_s=10.0,
        max_shard_bytes=SMALL_SHARD_BYTES,
    )


def run(checkpoint: Path, out: Path, kill_at: int | None, kill_after_s: float | None = None) -> bool:
    """Whether the writer was killed."""
    child = os.fork()
    if child == 0:
        write(checkpoint, out, kill_at)
        os._exit(0)
    if kill_after_s is not None:
        time.sleep(kill_after_s)  # the random moment itself, nothing is waited for
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, f"the writer failed with {status}"
    return os.WIFSIGNALED(status)


def main(first: Path, second: Path, out: Path) -> None:
    torch.set_num_threads(1)
    known = {fingerprint(first): first, fingerprint(second): second}
    write_artifact(first, out, RECIPE, tokenizer=first, max_shard_bytes=SMALL_SHARD_BYTES)
    counts = {"before": 0, "after": 0}

    def kill_one(kill_at: int | None, kill_after_s: float | None = None) -> bool:
        old = verify_artifact(out).source.fingerprint
        target = next(path for content, path in known.items() if content != old)
        killed = run(target, out, kill_at, kill_after_s)
        load_artifact(out)
        new = verify_artifact(out).source.fingerprint
        assert new in known
        counts["before" if new == old else "after"] += killed
        return killed

    kill_at = 1
    while kill_one(kill_at):
        kill_at += 1
    started_s = time.monotonic()
    kill_one(None)
    whole_s = time.monotonic() - started_s
    moments = random.Random(0)
    for _ in range(15):
        kill_one(None, moments.uniform(0, whole_s))
    kill_one(None)
    manifest = verify_artifact(out)
    left = {path.name for path in out.iterdir()}
    assert left == {
        "manifest.json",
        ".lock",
        manifest.tokenizer_directory,
        *(entry.name for entry in manifest.shards),
    }, left
    print(counts["before"], counts["after"])  # noqa: T201


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
