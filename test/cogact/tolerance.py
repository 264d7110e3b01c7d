# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Comparison with a reference array."""

from __future__ import annotations

import numpy as np
from torch import Tensor


def close(actual: Tensor | np.ndarray, expected: np.ndarray, atol: float, rtol: float = 0.0) -> None:
    """Same shape, and within `atol`."""
    actual = np.asarray(actual)
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, atol=atol, rtol=rtol)
