# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The four-bit kernel: its indices on the CPU, its compilation for robots' GPUs, and, where there is one, itself."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sqap_vla.quantization.backends import cuda_s4
from sqap_vla.quantization.backends.compiled import SOURCES, BuildError, find_compiler
from sqap_vla.quantization.backends.cuda_s4 import CudaS4Backend, find_nvcc, nvcc_options
from sqap_vla.quantization.backends.reference import ReferenceBackend
from sqap_vla.quantization.backends.registry import self_test
from sqap_vla.quantization.packing import IntegerWeight
from sqap_vla.quantization.quantizer import ActivationSpec, WeightSpec, quantize_input, quantize_weight

CPU = torch.device("cpu")


def program(find) -> str | None:
    try:
        return find()
    except BuildError:
        return None


NVCC = program(find_nvcc)
needs_cpp = pytest.mark.skipif(
    program(lambda: find_compiler(("g++", "clang++"))) is None, reason="there is no C++ compiler"
)


@pytest.fixture(params=[False, True], ids=["small tiles", "large tiles"])
def emulated(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> CudaS4Backend:
    monkeypatch.setattr(cuda_s4, "_large_tiles_fill", lambda rows, outputs, device: request.param)
    return CudaS4Backend(emulated=True)


def integers(*shape: int, seed: int) -> Tensor:
    return torch.randint(-7, 8, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.int8)


@needs_cpp
@pytest.mark.parametrize("shape", [(1, 32, 1), (97, 160, 65), (130, 256, 129)], ids=str)
def test_sums_equal_the_reference(emulated, shape):
    tokens, inputs, outputs = shape
    x, weight = integers(tokens, inputs, seed=1), IntegerWeight.from_values(integers(outputs, inputs, seed=2), 4)
    assert torch.equal(emulated.accumulate(x, weight, 4), ReferenceBackend().accumulate(x, weight))


@needs_cpp
def test_sums_of_strided_views_equal_the_reference(emulated):
    x = integers(5, 320, seed=1)[:, 32:224]
    weight = IntegerWeight.from_values(integers(20, 320, seed=2), 4).columns(32, 224)
    assert torch.equal(emulated.accumulate(x, weight, 4), ReferenceBackend().accumulate(x, weight))


@needs_cpp
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("group_size", [None, 32])
def test_scales_and_bias_equal_the_reference(emulated, group_size, bias, dtype):
    torch.manual_seed(0)
    quantized = quantize_weight(torch.randn(70, 96), WeightSpec(4, group_size))
    floats = torch.randn(20, 96)
    floats[3, 3] = torch.nan
    x = quantize_input(floats, ActivationSpec(4))
    weight = IntegerWeight.from_values(quantized.values, 4)
    arguments = (x, weight, quantized.scale, torch.randn(70) if bias else None, dtype)
    made, expected = emulated.linear(*arguments), ReferenceBackend().linear(*arguments)
    assert torch.equal(made.isnan(), expected.isnan())
    assert torch.equal(made.nan_to_num(), expected.nan_to_num())


@needs_cpp
def test_what_it_is_not_for_goes_to_another_backend(emulated):
    """Eight bits, and rows that are no whole 16-byte pieces."""
    assert self_test(emulated, CPU) is None
    x, weight = integers(3, 34, seed=1), IntegerWeight.from_values(integers(4, 34, seed=2), 4)
    assert torch.equal(emulated.accumulate(x, weight, 4), ReferenceBackend().accumulate(x, weight))


@pytest.mark.skipif(NVCC is None, reason="there is no nvcc")
@pytest.mark.parametrize("capability", [(8, 6), (8, 7)], ids=["RTX 30", "Jetson Orin"])
def test_it_compiles_for_the_robots_gpus(capability, tmp_path: Path):
    command = [NVCC, *nvcc_options(capability), str(SOURCES / cuda_s4.SOURCE), "-o", str(tmp_path / "s4.so")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert f"sm_{capability[0]}{capability[1]}".encode() in (tmp_path / "s4.so").read_bytes()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")
def test_on_a_gpu_it_is_right_or_absent_with_a_reason():
    device = torch.device("cuda")
    reason = CudaS4Backend().unavailable(device)
    capability = torch.cuda.get_device_capability(device)
    if reason:
        assert capability not in cuda_s4.CAPABILITIES or NVCC is None, reason
    else:
        assert self_test(CudaS4Backend(), device) is None


def test_without_a_gpu_it_is_absent_and_says_why():
    assert CudaS4Backend().unavailable(CPU) == "four-bit tensor cores are NVIDIA's, not of cpu"
