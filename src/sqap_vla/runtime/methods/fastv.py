# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""fastv: the visual tokens that the last token attends to most (arXiv 2403.06764).

K = 2 is FastV's published choice; 56 of 256 tokens are kept in the table that the paper compares with (EfficientVLA's
Table 2), where FastV's own is half of them.
"""

from __future__ import annotations

from sqap_vla.pruning.fastv import FastVSelector
from sqap_vla.runtime.methods.base import Method
from sqap_vla.runtime.methods.options import PruneLayer, Ratio, ScoreLayer
from sqap_vla.runtime.methods.registry import register


@register("fastv", summary="visual tokens with the highest attention", paper_bops=42.0, order=2)
def fastv(*, ratio: Ratio = 200 / 256, prune_layer: PruneLayer = 2, score_layer: ScoreLayer = None) -> Method:
    return Method(selector=FastVSelector(), ratio=ratio, prune_layer=prune_layer, score_layer=score_layer)
