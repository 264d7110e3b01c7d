# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Which backend runs on a device: the first that is available there and multiplies correctly.

Before a backend is used, a small product is compared with the reference, to the last bit. Each choice is made once for
a device and logged. A new backend is registered in front of the slower ones.
"""

from __future__ import annotations

import functools
import logging

import torch

from sqap_vla.quantization.backends import Backend
from sqap_vla.quantization.backends.cuda_s4 import CudaS4Backend
from sqap_vla.quantization.backends.int8 import Int8Backend
from sqap_vla.quantization.backends.reference import ReferenceBackend
from sqap_vla.quantization.backends.simd import SimdBackend
from sqap_vla.quantization.backends.triton_w4a4 import TritonBackend
from sqap_vla.quantization.packing import IntegerWeight
from sqap_vla.quantization.quantizer import largest

logger = logging.getLogger(__name__)

AUTO = "auto"

_REFERENCE = ReferenceBackend()
_backends: list[Backend] = [CudaS4Backend(), TritonBackend(), SimdBackend(), Int8Backend(), _REFERENCE]  # fastest first


class BackendError(RuntimeError):
    """No backend, or not the one asked for, can run on a device; the message says why."""


def register(backend: Backend) -> None:
    """Put a backend in front of the others. Raises ValueError if its name is taken."""
    if backend.name in backend_names() or backend.name == AUTO:
        raise ValueError(f"there is a backend {backend.name!r} already; choose another name")
    _backends.insert(0, backend)
    _select.cache_clear()


def backends() -> tuple[Backend, ...]:
    """Fastest first."""
    return tuple(_backends)


def examine_backend(backend: Backend, device: torch.device) -> str | None:
    """Why a backend does not run on a device; None if it does."""
    return backend.unavailable(device) or self_test(backend, device)


def backend_names() -> tuple[str, ...]:
    """Fastest first."""
    return tuple(backend.name for backend in _backends)


def select_backend(device: torch.device | str, name: str = AUTO) -> Backend:
    """The backend `name`, or the fastest, for a device. Raises BackendError, ValueError for an unknown name."""
    if name != AUTO and name not in backend_names():
        raise ValueError(f"backend is {name!r}; there are {AUTO}, {', '.join(backend_names())}")
    return _select(torch.device(device), name)


@functools.lru_cache(maxsize=32)
def _select(device: torch.device, name: str) -> Backend:
    problems = []
    for backend in _backends:
        if name not in (AUTO, backend.name):
            continue
        problem = examine_backend(backend, device)
        if problem is None:
            logger.info("integer products on %s: %s%s", device, backend.name, _because(problems))
            return backend
        problems.append(f"{backend.name}: {problem}")
    raise BackendError(f"no integer products on {device}: {'; '.join(problems)}; use another device or bf16")


def self_test(backend: Backend, device: torch.device) -> str | None:
    """What is wrong with a backend's sums, against the reference; None if nothing is."""
    generator = torch.Generator().manual_seed(0)
    for weight_bits, input_bits, tokens in ((4, 4, 1), (4, 8, 33), (8, 8, 70)):
        x = _extreme_integers(input_bits, (tokens, 192), generator)
        weight = IntegerWeight.from_values(_extreme_integers(weight_bits, (96, 192), generator), weight_bits)
        expected = _REFERENCE.accumulate(x, weight)
        try:
            sums = backend.accumulate(x.to(device), IntegerWeight(weight.data.to(device), weight_bits), input_bits)
        except (RuntimeError, NotImplementedError) as error:
            return f"fails on w{weight_bits}a{input_bits}: {error}"
        wrong = int((sums.cpu() != expected).sum())
        if wrong:
            return f"{wrong} of {expected.numel()} sums are wrong on w{weight_bits}a{input_bits}"
    return None


def _extreme_integers(bits: int, shape: tuple[int, int], generator: torch.Generator) -> torch.Tensor:
    """Random, the first row all at the limit, where sums that saturate or are kept in 16 bits show."""
    limit = largest(bits)
    values = torch.randint(-limit, limit + 1, shape, generator=generator, dtype=torch.int8)
    values[0] = limit
    return values


def _because(problems: list[str]) -> str:
    return f" (not {'; '.join(problems)})" if problems else ""
