# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""How much a GPU kernel may hold next to the processor: 64 KiB on Turing, 99 on RTX 30 and 40, 227 on Hopper."""

from __future__ import annotations

import functools

import torch

_ELSEWHERE = 99 * 1024  # in Triton's interpreter


@functools.lru_cache(maxsize=16)
def shared_memory(device: torch.device) -> int:
    """Bytes of shared memory that one program may have."""
    if device.type != "cuda":
        return _ELSEWHERE
    return torch.cuda.get_device_properties(device).shared_memory_per_block_optin


def fitting_stages(stages: int, stage_bytes: int, device: torch.device) -> int:
    """So many of a loop's `stages` that are loaded ahead as there is room for; at least one."""
    return max(1, min(stages, shared_memory(device) // stage_bytes))
