# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""How much quantization changes a tensor, and how hard a tensor is to quantize."""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn import functional as F


def sqnr_db(reference: Tensor, approximation: Tensor) -> float:
    """Energy of the reference over that of the error [dB]; inf if they are equal, nan if either has NaN."""
    reference, approximation = reference.double(), approximation.double()
    noise = (approximation - reference).square().sum().item()
    return math.inf if noise == 0 else 10 * math.log10(max(reference.square().sum().item(), 5e-324) / noise)


def cosine(reference: Tensor, approximation: Tensor) -> float:
    """Of the two as single vectors."""
    return F.cosine_similarity(reference.double().flatten(), approximation.double().flatten(), dim=0).item()


def kurtosis(x: Tensor) -> float:
    """Fourth moment over squared second, over the channels of each token of [..., K], mean of the tokens: 3 for normal
    values, K for a single channel.
    """
    second = x.double().square()
    return (second.square().mean(-1) / second.mean(-1).square()).mean().item()


def outlier_ratio(x: Tensor) -> float:
    """Largest magnitude over median magnitude in each token of [..., K], median of the tokens; 4 to 6 for normal."""
    magnitude = x.double().abs()
    return (magnitude.amax(-1) / magnitude.median(-1).values).median().item()
