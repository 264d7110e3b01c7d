# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Backends multiply the same integers to the last bit; a wrong or absent one is never used."""

from __future__ import annotations

import logging

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from sqap_vla.quantization.backends import Backend, compiled, registry
from sqap_vla.quantization.backends.compiled import BuildError
from sqap_vla.quantization.backends.int8 import Int8Backend, exact_float_mm
from sqap_vla.quantization.backends.reference import ReferenceBackend
from sqap_vla.quantization.backends.registry import BackendError, select_backend, self_test
from sqap_vla.quantization.backends.simd import PORTABLE, SimdBackend
from sqap_vla.quantization.packing import IntegerWeight
from sqap_vla.quantization.quantizer import (
    ActivationSpec,
    Granularity,
    WeightSpec,
    largest,
    quantize_input,
    quantize_weight,
)

CPU = torch.device("cpu")
PRECISIONS = [(4, 4), (4, 8), (8, 8)]


class FloatBackend(Int8Backend):
    """int8 as it runs on a CPU without VNNI, wherever this runs."""

    def accumulate(self, x: Tensor, weight: IntegerWeight, input_bits: int = 8) -> Tensor:
        return exact_float_mm(x, weight)


FAST = {
    "int8": Int8Backend(),
    "float": FloatBackend(),
    "simd": SimdBackend(),
    "simd, layout of AVX-512": SimdBackend((PORTABLE,)),
}


@pytest.fixture(params=FAST)
def fast(request: pytest.FixtureRequest) -> Backend:
    backend = FAST[request.param]
    if reason := backend.unavailable(CPU):
        pytest.skip(reason)
    return backend


def integers(bits: int, *shape: int, seed: int = 0) -> Tensor:
    limit = largest(bits)
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-limit, limit + 1, shape, generator=generator, dtype=torch.int8)


@pytest.fixture
def fresh_registry(monkeypatch):
    monkeypatch.setattr(registry, "_backends", list(registry._backends))
    registry._select.cache_clear()
    yield
    registry._select.cache_clear()


class TestAccumulators:
    @given(
        tokens=st.integers(1, 40),
        inputs=st.integers(1, 140).map(lambda n: 2 * n),
        outputs=st.integers(1, 150),
        precision=st.sampled_from(PRECISIONS),
        seed=st.integers(0, 2**31),
    )
    @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_equal_the_reference_at_every_shape(self, fast, tokens, inputs, outputs, precision, seed):
        weight_bits, input_bits = precision
        x = integers(input_bits, tokens, inputs, seed=seed)
        weight = IntegerWeight.from_values(integers(weight_bits, outputs, inputs, seed=seed + 1), weight_bits)
        expected = ReferenceBackend().accumulate(x, weight)
        assert expected.dtype == torch.int32
        assert torch.equal(fast.accumulate(x, weight), expected)

    @pytest.mark.parametrize("precision", PRECISIONS)
    def test_equal_the_reference_over_several_panels(self, fast, precision):
        """More inputs than one panel of the weights holds, and strided views of more."""
        weight_bits, input_bits = precision
        x, values = integers(input_bits, 9, 2600), integers(weight_bits, 70, 2600, seed=1)
        weight = IntegerWeight.from_values(values, weight_bits)
        expected = ReferenceBackend().accumulate(x[:, 100:2500], weight.columns(100, 2500))
        assert torch.equal(fast.accumulate(x[:, 100:2500], weight.columns(100, 2500)), expected)

    @pytest.mark.parametrize("precision", PRECISIONS)
    def test_no_sum_saturates_with_everything_at_the_limit(self, fast, precision):
        """11008 inputs at the limit: 177,546,032 in 8 bits, where pairs summed in 16 bits would saturate."""
        weight_bits, input_bits = precision
        limit = largest(weight_bits) * largest(input_bits)
        values = torch.full((70, 11008), largest(weight_bits), dtype=torch.int8)
        weight = IntegerWeight.from_values(values, weight_bits)
        x = torch.full((5, 11008), largest(input_bits), dtype=torch.int8)
        x[1] *= -1
        for backend in (fast, ReferenceBackend()):
            sums = backend.accumulate(x, weight)
            assert (sums[0] == 11008 * limit).all()
            assert (sums[1] == -11008 * limit).all()

    def test_the_reference_equals_python_integers(self):
        x, values = integers(8, 3, 10), integers(8, 4, 10, seed=1)
        sums = ReferenceBackend().accumulate(x, IntegerWeight.from_values(values, 8))
        assert sums.tolist() == [
            [sum(a * b for a, b in zip(row, column, strict=True)) for column in values.tolist()] for row in x.tolist()
        ]


class TestLinear:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    @pytest.mark.parametrize("bias", [False, True])
    @pytest.mark.parametrize("group_size", [None, 64])
    @pytest.mark.parametrize("precision", PRECISIONS)
    def test_backends_agree_to_the_last_bit_and_with_the_float_product(self, fast, precision, group_size, bias, dtype):
        torch.manual_seed(0)
        weight_bits, input_bits = precision
        quantized = quantize_weight(torch.randn(70, 192), WeightSpec(weight_bits, group_size))
        x = quantize_input(torch.randn(7, 192), ActivationSpec(input_bits, Granularity.TOKEN))
        weight = IntegerWeight.from_values(quantized.values, weight_bits)
        added = torch.randn(70) if bias else None
        arguments = (x, weight, quantized.scale, added, dtype)
        output = ReferenceBackend().linear(*arguments)
        assert output.dtype == dtype
        assert torch.equal(fast.linear(*arguments), output)
        expected = x.dequantize().double() @ quantized.dequantize().double().t() + (added.double() if bias else 0)
        tolerance = {"atol": 1e-4, "rtol": 1e-5} if dtype == torch.float32 else {"atol": 1e-3, "rtol": 2**-8}
        torch.testing.assert_close(output.double(), expected, **tolerance)

    def test_a_token_that_is_nan_stays_nan_and_alone(self, fast):
        quantized = quantize_weight(torch.randn(70, 64), WeightSpec(4))
        floats = torch.randn(3, 64)
        floats[1, 5] = torch.nan
        x = quantize_input(floats, ActivationSpec(4, Granularity.TOKEN))
        weight = IntegerWeight.from_values(quantized.values, 4)
        for dtype in (torch.float32, torch.bfloat16):
            y = fast.linear(x, weight, quantized.scale, None, dtype)
            assert y.isnan().all(1).tolist() == [False, True, False]


class TestCompiled:
    def test_without_a_compiler_it_is_absent_and_says_so(self, monkeypatch):
        monkeypatch.setenv("PATH", "")
        assert SimdBackend(("-DOTHER",)).unavailable(CPU) == (
            "there is no compiler (g++ or clang++); install one for the faster kernels"
        )

    def test_what_does_not_compile_says_the_first_error(self):
        assert "does not compile cpu_gemm.cpp" in SimdBackend(("-std=c++98",)).unavailable(CPU)

    def test_a_library_is_compiled_once_for_a_machine(self, monkeypatch, tmp_path):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        compiled.build.cache_clear()
        assert SimdBackend().unavailable(CPU) is None
        (library,) = (tmp_path / "sqap_vla/kernels").iterdir()
        made = library.stat().st_mtime_ns
        compiled.build.cache_clear()
        assert SimdBackend().unavailable(CPU) is None
        assert library.stat().st_mtime_ns == made

    def test_a_cache_of_somebody_else_is_not_trusted(self, monkeypatch, tmp_path):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        monkeypatch.setattr("os.getuid", lambda: 12345)
        with pytest.raises(BuildError, match="belongs to another user"):
            compiled.cache_directory()


class Wrong(Int8Backend):
    """Off by one in one place."""

    name = "wrong"

    def accumulate(self, x: Tensor, weight: IntegerWeight, input_bits: int = 8) -> Tensor:
        sums = super().accumulate(x, weight, input_bits)
        sums[-1, -1] += 1
        return sums


class Broken(Int8Backend):
    name = "broken"

    def accumulate(self, x: Tensor, weight: IntegerWeight, input_bits: int = 8) -> Tensor:
        raise RuntimeError("no kernel image is available")


class Absent(ReferenceBackend):
    name = "absent"

    def unavailable(self, device: torch.device) -> str | None:
        return "needs a compiler"


class TestRegistry:
    def test_the_fastest_is_chosen_and_logged_once(self, fresh_registry, caplog):
        with caplog.at_level(logging.INFO):
            chosen = select_backend("cpu")
            assert select_backend(CPU) is chosen
        assert chosen.name == ("int8" if SimdBackend().unavailable(CPU) else "simd")
        messages = [record.message for record in caplog.records if "integer products" in record.message]
        assert len(messages) == 1
        assert messages[0].startswith(f"integer products on cpu: {chosen.name}")

    def test_one_can_be_asked_for(self):
        assert select_backend("cpu", "reference").name == "reference"

    @pytest.mark.parametrize(
        ("backend", "reason"),
        [
            (Wrong(), "wrong: 1 of 96 sums are wrong on w4a4"),
            (Broken(), "broken: fails on w4a4: no kernel image"),
            (Absent(), "absent: needs a compiler"),
        ],
    )
    def test_one_that_fails_is_passed_over_with_the_reason(self, fresh_registry, caplog, backend: Backend, reason: str):
        registry.register(backend)
        with caplog.at_level(logging.INFO):
            assert select_backend("cpu").name != backend.name
        assert reason in caplog.text
        with pytest.raises(BackendError, match=reason):
            select_backend("cpu", backend.name)

    def test_an_unknown_name_is_refused_with_the_known_ones(self):
        with pytest.raises(ValueError, match="'cuda_s5'; there are auto, cuda_s4, triton, simd, int8, reference"):
            select_backend("cpu", "cuda_s5")

    def test_a_taken_name_is_refused(self):
        with pytest.raises(ValueError, match="'int8' already"):
            registry.register(Int8Backend())

    def test_those_that_ship_pass_the_self_test(self):
        assert self_test(Int8Backend(), CPU) is None
        assert self_test(ReferenceBackend(), CPU) is None
        assert SimdBackend().unavailable(CPU) or self_test(SimdBackend(), CPU) is None

    def test_nothing_runs_on_an_unknown_device(self):
        with pytest.raises(BackendError, match="no integer products on meta: .*int8: .* reference: "):
            select_backend("meta")
