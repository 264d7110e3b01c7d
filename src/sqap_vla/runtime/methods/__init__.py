# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The methods, one file each. A new one is a file here with a function under `@register`:

    @register("first_come", summary="the first tokens of the raster")
    def first_come(*, ratio: Ratio = 0.5, prune_layer: PruneLayer = 2) -> Method:
        return Method(selector=FirstComeSelector(), ratio=ratio, prune_layer=prune_layer)

Nothing else is to be changed: the file is found, its keywords become parameters of the policy node and options of the
command line, with the description and range of their type (options.py), and `make_method("first_come")` builds it.
"""

from __future__ import annotations

import importlib
import pkgutil

from sqap_vla.runtime.methods.base import Method
from sqap_vla.runtime.methods.registry import make_method, method_entry, method_names, method_options

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

METHODS = method_names()

__all__ = ["METHODS", "Method", "make_method", "method_entry", "method_options"]
