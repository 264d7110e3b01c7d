# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""dense: CogACT as it is."""

from __future__ import annotations

from sqap_vla.runtime.methods.base import Method
from sqap_vla.runtime.methods.registry import register


@register("dense", summary="every token, every layer", paper_bops=100.0, order=0)
def dense() -> Method:
    return Method()
