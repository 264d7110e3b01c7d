# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""A few thousand of the inputs that fuzzing.py sends by the hundred thousand; another seed than its default."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

from fuzzing import Garbage, fuzz_callbacks, fuzz_readers, watched


@pytest.mark.filterwarnings("ignore")
def test_no_bad_input_ends_the_policy_or_moves_the_robot(monkeypatch: pytest.MonkeyPatch):
    with watched(monkeypatch, seed=7) as policy:
        kinds = fuzz_callbacks(policy, 600, with_good=False)
        assert policy.moved == 0 and len(kinds) == 11
        fuzz_callbacks(policy, 600, with_good=True)
        assert policy.moved > 0


def test_no_damaged_file_raises_what_is_not_foreseen(tmp_path: Path):
    kinds = fuzz_readers(tmp_path, Garbage(7), 300)
    assert {f"{kind} refused" for kind in kinds if "refused" not in kind} <= set(kinds)
