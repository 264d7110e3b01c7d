# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""random: as many visual tokens stay as with SQAP, drawn anew for each frame.

With SQAP's budget and layer by default, so that the two differ in what is kept, not in how much. EfficientVLA
(arXiv 2506.10100, Table 2) keeps 112 tokens in this baseline; its figure of 58.5 % of the operations needs dropping
after layer 2.
"""

from __future__ import annotations

from sqap_vla.pruning.random_drop import RandomDropSelector
from sqap_vla.runtime.methods.base import Method
from sqap_vla.runtime.methods.options import PruneLayer, Ratio
from sqap_vla.runtime.methods.registry import register

PUBLISHED = {"ratio": 144 / 256, "prune_layer": 2}


@register("random", summary="visual tokens drawn at random", paper_bops=58.5, published=PUBLISHED, order=1)
def random(*, ratio: Ratio = 0.4, prune_layer: PruneLayer = 3) -> Method:
    return Method(selector=RandomDropSelector(), ratio=ratio, prune_layer=prune_layer)
