# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Scripted experts: the true state in, the environment's actions out; one module per skill."""

from sqap_vla.sim.experts.expert import Expert, expert_action
from sqap_vla.sim.experts.hand import Pace

__all__ = ["Expert", "Pace", "expert_action"]
