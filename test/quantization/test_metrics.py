# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Figures of error, of a distribution's tails and of rankings, on values that can be worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from sqap_vla.quantization.metrics import (
    cosine,
    kurtosis,
    outlier_ratio,
    rank_correlation,
    sqnr_db,
    top_k_overlap,
    zeros_in_four_bits,
)


@pytest.fixture
def normal() -> torch.Tensor:
    return torch.randn(64, 4096, generator=torch.Generator().manual_seed(0))


class TestError:
    def test_a_tenth_of_the_amplitude_is_20_db(self):
        x = torch.tensor([3.0, -4.0])
        assert sqnr_db(x, 1.1 * x) == pytest.approx(20, abs=1e-5)
        assert cosine(x, 1.1 * x) == pytest.approx(1)
        assert cosine(x, torch.tensor([4.0, 3.0])) == pytest.approx(0, abs=1e-7)

    @pytest.mark.parametrize(
        ("reference", "approximation", "expected"),
        [
            ([1.0], [1.0], math.inf),
            ([0.0], [0.0], math.inf),
            ([0.0], [10.0], -math.inf),
            ([1.0], [math.inf], -math.inf),
        ],
    )
    def test_ends_of_the_scale(self, reference, approximation, expected):
        assert sqnr_db(torch.tensor(reference), torch.tensor(approximation)) == expected

    def test_nan_is_not_a_good_result(self):
        assert math.isnan(sqnr_db(torch.ones(2), torch.tensor([1.0, math.nan])))
        assert math.isnan(cosine(torch.ones(2), torch.tensor([1.0, math.nan])))

    def test_large_half_precision_values_do_not_overflow(self):
        x = torch.full((4096,), 6e4, dtype=torch.float16)
        assert sqnr_db(x, x * 0.5) == pytest.approx(6.02, abs=0.01)


class TestTails:
    def test_normal_values(self, normal):
        assert kurtosis(normal) == pytest.approx(3, abs=0.1)
        assert 4 < outlier_ratio(normal) < 6.5

    def test_one_large_channel(self, normal):
        """With a share f of the energy, kurtosis tends to f^2 K, and 4-bit steps leave little of the rest."""
        x = normal.clone()
        x[:, 7] = 64.0  # half the energy
        assert kurtosis(x) == pytest.approx(0.25 * 4096, rel=0.05)
        assert outlier_ratio(x) == pytest.approx(64 / 0.6745, rel=0.03)
        assert zeros_in_four_bits(x) > 0.99
        assert zeros_in_four_bits(normal) < 0.25

    def test_tokens_of_zeros_are_left_out(self):
        assert kurtosis(torch.tensor([[0.0, 0, 0, 0], [0, 5, 0, 0]])) == 4
        assert math.isnan(kurtosis(torch.zeros(2, 4)))


class TestRankings:
    def test_overlap_counts_common_members(self):
        reference = torch.tensor([9.0, 8, 7, 1, 2])
        assert top_k_overlap(reference, torch.tensor([9.0, 1, 8, 7, 2]), 3) == pytest.approx(2 / 3)
        assert top_k_overlap(reference, reference * 10 + 1, 3) == 1
        assert top_k_overlap(reference, -reference, 1) == 0
        assert top_k_overlap(reference, -reference, 5) == 1

    def test_equal_values_rank_by_index_and_nan_last(self):
        flat = torch.ones(4)
        assert top_k_overlap(flat, torch.tensor([2.0, 2, 0, 0]), 2) == 1
        assert top_k_overlap(flat, torch.tensor([math.nan, 1, 1, math.nan]), 2) == 0.5

    @pytest.mark.parametrize("k", [0, 5])
    def test_k_beyond_the_values_is_refused(self, k):
        with pytest.raises(ValueError, match="from 1 to the 4 values"):
            top_k_overlap(torch.ones(4), torch.ones(4), k)

    def test_rank_correlation_is_that_of_the_order(self):
        x = torch.tensor([1.0, 2, 3, 4])
        assert rank_correlation(x, x.exp()) == pytest.approx(1)
        assert rank_correlation(x, -x) == pytest.approx(-1)
        assert rank_correlation(x, torch.tensor([2.0, 1, 4, 3])) == pytest.approx(0.6)  # 1 - 6 * 4 / 60
        assert rank_correlation(x, torch.tensor([1.0, 1, 2, 2])) == pytest.approx(0.894, abs=1e-3)  # ties
