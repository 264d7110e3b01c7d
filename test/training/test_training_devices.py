# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Training keeps to one device, which a machine without a GPU can tell as well: the device `meta` computes nothing, but
refuses an operation with an operand that is elsewhere. And a run can be given a time instead of steps."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from sqap_vla.training import dataset
from sqap_vla.training.dataset import FrameStore, ResidentStore
from sqap_vla.training.run import Progress
from sqap_vla.training.trainer import GPU_PHASES, Trainer, TrainingConfig

CPU, META = torch.device("cpu"), torch.device("meta")


def test_a_resident_store_gives_the_same_batches(demonstrations: Path) -> None:
    plain, resident = FrameStore({demonstrations: 1.0}), ResidentStore({demonstrations: 1.0}, CPU, capacity=100)
    picks = plain.draw(9, np.random.default_rng(0))
    assert resident.draw(9, np.random.default_rng(0)) == picks
    one, other = plain.batch(picks, CPU), resident.batch(picks, CPU)
    assert torch.equal(one[0], other[0])
    for name in ("keypoints", "points", "tasks", "chunks", "held"):
        torch.testing.assert_close(getattr(one[1], name), getattr(other[1], name), equal_nan=True)


def test_a_full_store_leaves_out_what_comes_later(demonstrations: Path) -> None:
    assert len(ResidentStore({demonstrations: 1.0}, CPU, capacity=30)) == 24


def test_a_shard_that_was_left_out_is_not_read_again(demonstrations: Path, monkeypatch) -> None:
    read = []
    real = dataset.read_shard
    monkeypatch.setattr(dataset, "read_shard", lambda file: read.append(file) or real(file))
    store = ResidentStore({demonstrations: 1.0}, CPU, capacity=30)
    assert len(read) > 1
    store.refresh()
    assert len(read) == len(set(read))


def test_truth_without_pictures_is_the_same_truth(demonstrations: Path) -> None:
    store = ResidentStore({demonstrations: 1.0}, CPU, capacity=100)
    picks = store.draw(4, np.random.default_rng(0))
    images, truth = store.batch(picks, CPU, images=False)
    assert not len(images) and torch.equal(truth.chunks, store.batch(picks, CPU)[1].chunks)


@pytest.mark.parametrize("phase", GPU_PHASES, ids=lambda phase: phase.name)
def test_a_step_mixes_no_devices(demonstrations: Path, phase, monkeypatch) -> None:
    run = Trainer(TrainingConfig(), FrameStore({demonstrations: 1.0}))
    picks = run.store.draw(3, run.rng)
    images, truth = run.store.batch(picks, META)
    run.device, run.noise = META, None  # meta has no generators
    run.model.to(META)
    run.teachers.to(META)
    run._texts, run._lengths = run._texts.to(META), run._lengths.to(META)
    monkeypatch.setattr(run, "_fast", contextlib.nullcontext)  # nor autocast
    losses = run.losses(picks, phase)
    assert images.device == META and truth.chunks.device == META
    total = sum(losses.values())
    total.backward()
    assert total.device == META and all(parameter.grad.device == META for parameter in run.teachers.patch.parameters())


def test_a_run_with_a_time_goes_through_all_of_its_phases(monkeypatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    progress = Progress(1000, 0, minutes=2.0)
    assert progress.position == 0 and not progress.done
    now[0] += 30.0
    assert progress.position == 250 and not progress.due(1)
    now[0] += 60.0
    assert progress.position == 750 and progress.due(1) and not progress.due(1)
    now[0] += 31.0
    assert progress.done


def test_a_run_with_steps_counts_them() -> None:
    progress = Progress(3, 1, minutes=None)
    progress.made_step()
    assert progress.position == 2 and not progress.done
    progress.made_step()
    assert progress.done and progress.due(2)
