# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Only GPUs that can, and never Triton's interpreter, start a kernel before the one ahead of it has ended."""

from __future__ import annotations

import pytest
import torch

from sqap_vla.cogact.dependent_launch import launches_early

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


@pytest.fixture(autouse=True)
def forget():
    launches_early.cache_clear()
    yield
    launches_early.cache_clear()


@pytest.mark.parametrize(("capability", "can"), [((7, 5), False), ((8, 9), False), ((9, 0), True), ((12, 0), True)])
def test_gpus_from_hopper_on_start_early(capability, can, monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert launches_early(GPU) is can


def test_neither_the_interpreter_nor_a_cpu_does(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert not launches_early(GPU) and not launches_early(CPU)
    monkeypatch.delenv("TRITON_INTERPRET")
    launches_early.cache_clear()
    assert launches_early(GPU) and not launches_early(CPU)
