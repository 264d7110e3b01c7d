# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Methods by name. Each is one file of `methods/`; this is where everybody else gets them."""

from __future__ import annotations

from sqap_vla.runtime.methods import METHODS, Method, make_method, method_entry, method_options
from sqap_vla.runtime.methods.options import NO_GEOMETRY

__all__ = ["METHODS", "NO_GEOMETRY", "Method", "make_method", "method_entry", "method_options"]
