# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Synthetic frames for the evaluation tests."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from sqap_vla.evaluation.step import StepRecord
from sqap_vla.evaluation.summary import RunInfo
from sqap_vla.pruning.ring import Ring
from sqap_vla.pruning.selection import TokenSelection
from sqap_vla.runtime.types import StageTimes

WIDTH, HEIGHT = 96, 64


def _info(**changes: object) -> RunInfo:
    fields = dict(bag="episode", checkpoint="tiny", method="sqap", seed=7, step_s=0.2, gripper_kind="widowx")
    return RunInfo(**{**fields, **changes})


def _record(step: int, **changes: object) -> StepRecord:
    truth = np.array([0.01 * step, -0.02, 0.003, 0.0, 0.1, -0.1, 1.0 if step % 2 else -1.0])
    actions = np.tile(truth, (16, 1))
    actions[:, :6] += 0.01
    actions[:, 6] = step % 2
    mask = np.zeros(256, bool)
    mask[step : step + 2] = True
    fields = dict(
        stamp_ns=10**18 + step * 200_000_000,
        actions=actions,
        selection=TokenSelection(
            torch.arange(step, step + 8), torch.tensor([0, 0, 1, 1, 1, 2, 2, 2], dtype=torch.uint8)
        ),
        ring=Ring(mask, ((0, 0),), (10.5 + step, 20.25), ""),
        image_size=(WIDTH, HEIGHT),
        instruction="pick up the red cube",
        times=StageTimes(1.0, 2.0 + step, 3.0, 4.0, 10.0 + step),
        recorded_action=truth,
    )
    return StepRecord(**{**fields, **changes})


@pytest.fixture(scope="session")
def make_info() -> Callable[..., RunInfo]:
    """RunInfo of a made-up replay; keywords replace fields."""
    return _info


@pytest.fixture(scope="session")
def make_record() -> Callable[..., StepRecord]:
    """Frame `step` of a made-up episode: 0.01 above the recorded action in every motion dimension, gripper
    always right.
    """
    return _record


@pytest.fixture(scope="session")
def frame() -> np.ndarray:
    """uint8 [64, 96, 3]."""
    return np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
