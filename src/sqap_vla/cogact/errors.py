# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Errors about files that a user supplies: the value, the rule it breaks and the remedy."""

from __future__ import annotations


class CheckpointError(ValueError):
    """A checkpoint directory, or something asked of it, cannot be used."""


class TokenizerError(ValueError):
    """A tokenizer file cannot be used."""
