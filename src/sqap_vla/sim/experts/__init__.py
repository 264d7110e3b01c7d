# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Scripted experts: the true state in, the environment's actions out; one module per skill."""

from sqap_vla.sim.experts.expert import Expert

__all__ = ["Expert"]
