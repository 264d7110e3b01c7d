# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""How much quantization changes a tensor or a ranking, and how hard a tensor is to quantize."""

from __future__ import annotations

import math

import torch
from scipy import stats
from torch import Tensor
from torch.nn import functional as F

from sqap_vla.pruning.selection import rank_descending


def sqnr_db(reference: Tensor, approximation: Tensor) -> float:
    """Energy of the reference over that of the error [dB]. inf if they are equal, -inf if the reference is 0 and the
    approximation is not, or the error infinite; nan if either has NaN.
    """
    reference, approximation = reference.double(), approximation.double()
    signal, noise = reference.square().sum().item(), (approximation - reference).square().sum().item()
    if noise == 0:
        return math.inf
    ratio = signal / noise
    return 10 * math.log10(ratio) if ratio > 0 or math.isnan(ratio) else -math.inf


def cosine(reference: Tensor, approximation: Tensor) -> float:
    """Of the two as single vectors."""
    return F.cosine_similarity(reference.double().flatten(), approximation.double().flatten(), dim=0).item()


def kurtosis(x: Tensor) -> float:
    """Fourth moment over squared second, over the channels of each token of [..., K], mean of the tokens: 3 for normal
    values, K for a single channel. Tokens of zeros have none and are left out.
    """
    second = x.double().square().flatten(0, -2)
    second = second[second.any(-1)]
    return (second.square().mean(-1) / second.mean(-1).square()).mean().item()


def outlier_ratio(x: Tensor) -> float:
    """Largest magnitude over median magnitude in each token of [..., K], median of the tokens; 4 to 6 for normal."""
    magnitude = x.double().abs()
    return (magnitude.amax(-1) / magnitude.median(-1).values).median().item()


def zeros_in_four_bits(x: Tensor) -> float:
    """Share of x [..., K] that rounds to 0 where each token has 7 steps up to its largest magnitude."""
    magnitude = x.double().abs()
    return (magnitude < magnitude.amax(-1, keepdim=True) / 14).double().mean().item()


def top_k_overlap(reference: Tensor, approximation: Tensor, k: int) -> float:
    """Share of the k largest of reference [N] that are among the k largest of approximation [N]; k / N by chance.

    Equal values rank by index, NaN last. Raises ValueError unless 1 <= k <= N.
    """
    if not 1 <= k <= len(reference):
        raise ValueError(f"k is {k}; it must be from 1 to the {len(reference)} values that are ranked")
    first, second = (rank_descending(x) < k for x in (reference, approximation))
    return (first & second).sum().item() / k


def rank_correlation(reference: Tensor, approximation: Tensor) -> float:
    """Spearman's, of two vectors [N]: 1 for the same order, 0 for none of it; equal values share their mean rank."""
    ranks = [torch.from_numpy(stats.rankdata(x.double().cpu().numpy())) for x in (reference, approximation)]
    first, second = (rank - rank.mean() for rank in ranks)
    return cosine(first, second)
