# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Several tensors in one copy: each keeps its values, and the host's side is not touched while a copy runs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sqap_vla.runtime.transfers import ALIGNMENT_BYTES, Transfer

CPU = torch.device("cpu")
FIELDS = {
    "ring": ((2, 5), torch.bool),
    "noise": ((2, 3, 7), torch.float32),
    "last": ((2,), torch.int64),
    "rgb": ((300,), torch.uint8),
    "ids": ((2, 40), torch.int64),
}


def values(seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {
        name: random.integers(0, 2 if dtype is torch.bool else 200, shape).astype(str(dtype).removeprefix("torch."))
        for name, (shape, dtype) in FIELDS.items()
    }


def test_what_the_host_writes_arrives_when_it_is_uploaded():
    transfer = Transfer(FIELDS, CPU)
    for seed in range(2):
        before, sent = {name: part.clone() for name, part in transfer.device.items()}, values(seed)
        for name, part in transfer.host().items():
            part[...] = sent[name]
        assert all(torch.equal(transfer.device[name], before[name]) for name in FIELDS), "nothing moves by itself"
        transfer.upload()
        for name, (shape, dtype) in FIELDS.items():
            part = transfer.device[name]
            assert part.dtype is dtype and part.shape == shape and part.is_contiguous()
            np.testing.assert_array_equal(part.numpy(), sent[name])


def test_what_the_device_writes_arrives_when_it_is_fetched():
    transfer = Transfer(FIELDS, CPU)
    for seed in range(2):
        made = values(seed)
        for name, part in transfer.device.items():
            part.copy_(torch.from_numpy(made[name]))
        transfer.fetch()
        for name, part in transfer.host().items():
            np.testing.assert_array_equal(part, made[name])


def test_tensors_lie_as_cuda_would_allocate_them():
    starts = [part.data_ptr() for part in Transfer(FIELDS, CPU).device.values()]
    assert all((start - starts[0]) % ALIGNMENT_BYTES == 0 for start in starts) and len(set(starts)) == len(FIELDS)


@pytest.mark.parametrize("direction", ["upload", "fetch"])
def test_the_hosts_side_is_lent_only_when_no_copy_uses_it(monkeypatch, direction):
    """A page-locked copy is under way after the call that asked for it."""
    log = []

    class Event:
        def record(self, stream):
            log.append(f"copied on {stream}")

        def synchronize(self):
            log.append("waited")

    transfer = Transfer(FIELDS, CPU)
    transfer._copied = Event()
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"stream of {device}")
    transfer.host()
    getattr(transfer, direction)()
    assert log == ["waited", "copied on stream of cpu"], "to ask for it waits for nothing"
    transfer.host()
    assert log == ["waited", "copied on stream of cpu", "waited"]
