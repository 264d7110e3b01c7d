# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Hadamard matrices and the transform: orthogonal at every length, and flat where it promises to be."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sqap_vla.quantization.hadamard import hadamard_matrix, inverse_transform, split, transform

LLAMA_WIDTHS = (128, 4096, 11008)


@pytest.mark.parametrize("order", [1, 2, 4, 8, 12, 20, 24, 28, 36, 44, 60, 68, 64, 76, 108, 148, 172])
def test_rows_of_a_hadamard_matrix_are_orthogonal(order):
    matrix = hadamard_matrix(order).to(torch.int64)
    assert matrix.abs().eq(1).all()
    assert torch.equal(matrix @ matrix.t(), order * torch.eye(order, dtype=torch.int64))


@pytest.mark.parametrize("order", [3, 6, 92])
def test_an_unknown_order_is_refused_with_the_known_ones(order):
    with pytest.raises(ValueError, match=f"order {order} .* 172"):
        hadamard_matrix(order)


@pytest.mark.parametrize(
    ("n", "expected"),
    [
        (4096, (1, 1, 4096)),
        (11008, (1, 172, 64)),
        (344, (1, 172, 2)),
        (96, (1, 12, 8)),
        (5120, (1, 20, 256)),
        (14336, (1, 28, 512)),
        (13824, (1, 108, 128)),
        (18944, (1, 148, 128)),
        (6, (3, 1, 2)),  # no matrix of order 6 can exist: three blocks of two
        (269, (269, 1, 1)),  # odd: left alone
        (376, (47, 1, 8)),  # 188 and 376 are not among those known here: 47 blocks of 8
    ],
)
def test_lengths_are_split_as_documented(n, expected):
    assert split(n) == expected
    assert math.prod(split(n)) == n


@given(n=st.integers(1, 600))
@settings(max_examples=40, deadline=None)
def test_every_length_is_orthogonal_and_undone(n):
    identity = torch.eye(n, dtype=torch.float64)
    rotated = transform(identity)
    torch.testing.assert_close(rotated @ rotated.t(), identity, atol=1e-12, rtol=0)
    torch.testing.assert_close(inverse_transform(rotated), identity, atol=1e-12, rtol=0)


@pytest.mark.parametrize("n", [64, 96, 344, 688])
def test_the_transform_is_the_kronecker_product_it_says(n):
    _, m, power = split(n)
    matrix = torch.kron(hadamard_matrix(m), hadamard_matrix(power)).double() / math.sqrt(n)
    x = torch.randn(3, n, dtype=torch.float64)
    torch.testing.assert_close(transform(x), x @ matrix.t(), atol=1e-12, rtol=0)


@pytest.mark.parametrize("n", LLAMA_WIDTHS)
def test_one_channel_is_spread_evenly_over_all(n):
    x = torch.zeros(n)
    x[n // 3] = 1000.0
    torch.testing.assert_close(transform(x).abs(), torch.full((n,), 1000.0 / math.sqrt(n)), atol=1e-3, rtol=0)


def test_order_172_flattens_a_large_channel_more_than_blocks_of_256():
    """Why 11008 is not done in 43 blocks: an outlier in one block sets the whole token's scale."""
    torch.manual_seed(0)
    x = torch.randn(64, 11008)
    x[:, 5000] = 300.0
    whole = transform(x).abs().amax(-1)
    blocks = transform(x.view(64, 43, 256)).abs().flatten(1).amax(-1)
    assert (blocks / whole).median() > 2.5


@pytest.mark.parametrize("n", LLAMA_WIDTHS)
def test_float32_undoes_itself_to_rounding(n):
    x = torch.randn(4, n)
    torch.testing.assert_close(inverse_transform(transform(x)), x, atol=5e-6, rtol=0)


def test_dtype_shape_and_argument_stay():
    x = torch.randn(2, 3, 96, dtype=torch.bfloat16)
    before = x.clone()
    assert transform(x).shape == x.shape
    assert transform(x).dtype == torch.bfloat16
    assert torch.equal(x, before)
