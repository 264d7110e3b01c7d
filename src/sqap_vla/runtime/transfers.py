# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Several tensors between host and device in one copy, through page-locked memory, so that nothing waits for it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

ALIGNMENT_BYTES = 256  # of each tensor, as of one that CUDA allocates

Fields = Mapping[str, tuple[Sequence[int], torch.dtype]]
_View = TypeVar("_View")


class Transfer:
    """Tensors of the same layout on both sides, each side one buffer that lives as long as the transfer.

    fields: shape and dtype of each, by name; zero at first. `device` holds those that kernels read or write. The host's
    are numpy arrays, lent by `host()` until the next `upload` or `fetch`.
    """

    def __init__(self, fields: Fields, device: torch.device) -> None:
        on_cuda = device.type == "cuda"
        num_bytes = sum(_slot_bytes(*field) for field in fields.values())
        self._device_bytes = torch.zeros(num_bytes, dtype=torch.uint8, device=device)
        self._host_bytes = torch.zeros(num_bytes, dtype=torch.uint8, pin_memory=on_cuda)
        self.device = _views(self._device_bytes, fields, lambda part: part)
        self._host = _views(self._host_bytes, fields, Tensor.numpy)
        self._copied = torch.cuda.Event() if on_cuda else None

    def host(self) -> dict[str, np.ndarray]:
        """To write what `upload` will send, or to read what `fetch` brought. Waits for a copy that still uses this
        side, and for nothing that was queued after it."""
        if self._copied is not None:
            self._copied.synchronize()
        return self._host

    def upload(self) -> None:
        """Queues host -> device, all fields."""
        self._copy(self._device_bytes, self._host_bytes)

    def fetch(self) -> None:
        """Queues device -> host, all fields; `host()` waits for it."""
        self._copy(self._host_bytes, self._device_bytes)

    def _copy(self, to: Tensor, source: Tensor) -> None:
        to.copy_(source, non_blocking=True)
        if self._copied is not None:
            self._copied.record(torch.cuda.current_stream(self._device_bytes.device))


def _slot_bytes(shape: Sequence[int], dtype: torch.dtype) -> int:
    """Room of a field in the buffer, up to where the next one begins."""
    return -(-math.prod(shape) * dtype.itemsize // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


def _views(buffer: Tensor, fields: Fields, view: Callable[[Tensor], _View]) -> dict[str, _View]:
    views, start = {}, 0
    for name, (shape, dtype) in fields.items():
        part = buffer[start : start + math.prod(shape) * dtype.itemsize]
        views[name] = view(part.view(dtype).view(*shape))
        start += _slot_bytes(shape, dtype)
    return views
