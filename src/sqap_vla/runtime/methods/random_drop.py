# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""random: 112 of 256 visual tokens stay, drawn anew for each frame.

112 is EfficientVLA's number for this baseline (arXiv 2506.10100, Table 2); its figure of 58.5 % of the operations
needs dropping after layer 2.
"""

from __future__ import annotations

from sqap_vla.pruning.random_drop import RandomDropSelector
from sqap_vla.runtime.methods.base import Method
from sqap_vla.runtime.methods.options import PruneLayer, Ratio
from sqap_vla.runtime.methods.registry import register


@register("random", summary="visual tokens drawn at random", paper_bops=58.5, order=1)
def random(*, ratio: Ratio = 144 / 256, prune_layer: PruneLayer = 2) -> Method:
    return Method(selector=RandomDropSelector(), ratio=ratio, prune_layer=prune_layer)
