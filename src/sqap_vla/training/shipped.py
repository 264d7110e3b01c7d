# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The trained policy that comes with the package; what made it: docs/training.md."""

from __future__ import annotations

from pathlib import Path

SHIPPED_POLICY = Path(__file__).parent / "weights" / "cogact_mini"
"""A CogACT-Mini in the official checkpoint layout, float16, with its tokenizer."""
