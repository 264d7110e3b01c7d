# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""An interrupted writing is gone on with: what was complete is not made again, what was not sound is."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from artifact_files import assert_still, files_of

from sqap_vla.quantization.artifact import verify_artifact, write_artifact
from sqap_vla.quantization.order import Recipe
from sqap_vla.quantization.policy import preset
from sqap_vla.quantization.shards import Progress

RECIPE = Recipe(torch.float32, preset("default"))
SHARD_BYTES = 20_000


class Interrupted(Exception):
    pass


def write(checkpoint: Path, out: Path, until: float = math.inf, recipe: Recipe = RECIPE):
    """Interrupted once the share `until` of the bytes is written."""

    def progress(now: Progress) -> None:
        if now.stage == "writing weights" and now.done_bytes > until * now.total_bytes:
            raise Interrupted

    return write_artifact(checkpoint, out, recipe, progress=progress, max_shard_bytes=SHARD_BYTES)


@pytest.fixture
def begun(checkpoint: Path, tmp_path: Path) -> Path:
    """A directory in which a writing was interrupted after 60 %."""
    with pytest.raises(Interrupted):
        write(checkpoint, tmp_path / "a", 0.6)
    assert len(complete(tmp_path / "a")) > 3
    return tmp_path / "a"


def complete(directory: Path) -> list[Path]:
    """Shards that the journal names."""
    (journal,) = directory.glob("journal-*.jsonl")
    return [path for path in sorted(directory.glob("model-*")) if path.name in journal.read_text()]


def test_complete_shards_stay_as_they_are(begun: Path, checkpoint: Path, tmp_path: Path):
    before, done = files_of(begun), complete(begun)
    manifest = write(checkpoint, begun)
    after = files_of(begun)
    assert all(after[path.name] == before[path.name] for path in done)
    assert_still(begun, checkpoint, manifest)
    whole = write(checkpoint, tmp_path / "whole")
    assert [entry.sha256 for entry in manifest.shards] == [entry.sha256 for entry in whole.shards]


def test_a_second_interruption_loses_nothing_either(begun: Path, checkpoint: Path):
    done = complete(begun)
    with pytest.raises(Interrupted):
        write(checkpoint, begun, 0.9)
    assert set(done) < set(complete(begun))
    assert_still(begun, checkpoint, write(checkpoint, begun))


@pytest.mark.parametrize("damage", ["changed", "truncated", "absent"])
def test_a_shard_that_changed_meanwhile_is_made_again(begun: Path, checkpoint: Path, damage: str, tmp_path: Path):
    shard = complete(begun)[1]
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.unlink()
    if damage != "absent":
        shard.write_bytes(content if damage == "changed" else content[:-10])
    manifest = write(checkpoint, begun)
    assert_still(begun, checkpoint, manifest)
    whole = write(checkpoint, tmp_path / "whole")
    assert [entry.sha256 for entry in manifest.shards] == [entry.sha256 for entry in whole.shards]


def test_a_journal_cut_off_in_a_line_counts_up_to_there(begun: Path, checkpoint: Path):
    (journal,) = begun.glob("journal-*.jsonl")
    journal.write_bytes(journal.read_bytes()[:-20])
    assert_still(begun, checkpoint, write(checkpoint, begun))


@pytest.mark.parametrize("content", [b"", b"[]\n", b"\xff\n", b'{"order": "else"}\n', b'{"order"'])
def test_a_journal_of_something_else_is_cleared_away(begun: Path, checkpoint: Path, content: bytes):
    (journal,) = begun.glob("journal-*.jsonl")
    journal.write_bytes(content)
    assert_still(begun, checkpoint, write(checkpoint, begun))


def test_lines_that_lead_elsewhere_count_for_nothing(begun: Path, checkpoint: Path):
    (journal,) = begun.glob("journal-*.jsonl")
    order = journal.read_text().splitlines()[0]
    journal.write_text(order + '\n{"name": "../x", "size_bytes": 1, "sha256": "' + "0" * 64 + '"}\n3\n{}\n')
    assert_still(begun, checkpoint, write(checkpoint, begun))


def test_another_content_does_not_use_what_lies_there(begun: Path, other_checkpoint: Path):
    assert_still(begun, other_checkpoint, write(other_checkpoint, begun))
    with pytest.raises(Interrupted):
        write(other_checkpoint, begun, 0.6, Recipe(torch.float32, preset("paper")))
    manifest = write(other_checkpoint, begun, recipe=Recipe(torch.float32, preset("default", group_size=8)))
    assert_still(begun, other_checkpoint, manifest)


def test_the_old_artifact_is_usable_all_the_while(begun: Path, checkpoint: Path, other_checkpoint: Path):
    old = write(checkpoint, begun)
    with pytest.raises(Interrupted):
        write(other_checkpoint, begun, 0.5)
    assert verify_artifact(begun) == old
