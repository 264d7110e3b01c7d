# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Two four-bit integers in a byte: the layout, and every value there and back."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as numpy_strategies

from sqap_vla.quantization.packing import MAX_INPUTS, IntegerWeight, pack_int4, unpack_int4

NIBBLES = numpy_strategies.arrays(
    "int8", st.tuples(st.integers(1, 4), st.integers(1, 20).map(lambda n: 2 * n)), elements=st.integers(-8, 7)
)


def test_the_first_of_a_pair_is_in_the_low_nibble():
    packed = pack_int4(torch.tensor([[1, 2, -1, 7, -8, 0]], dtype=torch.int8))
    assert packed.dtype == torch.uint8
    assert packed.tolist() == [[0x21, 0x7F, 0x08]]


@given(values=NIBBLES)
def test_every_value_comes_back(values):
    values = torch.from_numpy(values)
    assert torch.equal(unpack_int4(pack_int4(values)), values)


@given(values=NIBBLES, data=st.data())
def test_columns_are_those_of_the_matrix(values, data):
    values = torch.from_numpy(values)
    half = values.shape[1] // 2
    start = 2 * data.draw(st.integers(0, half - 1))
    stop = 2 * data.draw(st.integers(start // 2 + 1, half))
    for bits in (4, 8):
        weight = IntegerWeight.from_values(values, bits)
        assert (weight.outputs, weight.inputs) == values.shape
        assert torch.equal(weight.columns(start, stop).values(), values[:, start:stop])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (torch.zeros(2, 3, dtype=torch.int8), "even number"),
        (torch.zeros(2, 4, dtype=torch.int32), "torch.int32"),
        (torch.tensor([[8, 0]], dtype=torch.int8), "reach from 0 to 8"),
        (torch.tensor([[0, -9]], dtype=torch.int8), "reach from -9 to 0"),
    ],
)
def test_what_does_not_fit_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        pack_int4(values)


def test_a_weight_whose_bits_and_dtype_differ_is_refused():
    with pytest.raises(ValueError, match="4 bits in torch.int8"):
        IntegerWeight(torch.zeros(2, 2, dtype=torch.int8), 4)
    with pytest.raises(ValueError, match="both must be even"):
        IntegerWeight(torch.zeros(2, 2, dtype=torch.uint8), 4).columns(1, 4)


def test_sums_that_would_overflow_are_refused():
    with pytest.raises(ValueError, match="overflow int32"):
        IntegerWeight(torch.zeros(1, MAX_INPUTS + 1, dtype=torch.int8), 8)
