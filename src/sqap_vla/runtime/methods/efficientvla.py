# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""efficientvla: fewer layers, narrower MLPs, relevant and diverse tokens, a cached action head (arXiv 2506.10100).

Defaults are the row that the paper compares with: 28 of 32 layers, 25 % of the MLP channels dropped, 112 visual tokens
from the second layer on, four key tokens, alpha 50 %, cache interval 5. Which attention layer gives relevance is not
said; ours is the last before tokens are dropped.
"""

from __future__ import annotations

from typing import Annotated

from sqap_vla.cogact.token_dropping import ScoreQueries
from sqap_vla.pruning.efficientvla import RelevanceDiversitySelector
from sqap_vla.runtime.methods.base import Method
from sqap_vla.runtime.methods.options import Option, PruneLayer, Ratio, ScoreLayer
from sqap_vla.runtime.methods.registry import register
from sqap_vla.runtime.reduction import Reduction

KeyTokens = Annotated[int, Option("Most relevant visual tokens, from which diversity is measured.", 1, 256)]
TaskShare = Annotated[float, Option("Share of the tokens beside the key ones that relevance chooses.", 0, 1)]
LayersKept = Annotated[int | None, Option("Decoder layers that stay; unset: 28 of 32, or that share.", 1, 128)]
LayersDropped = Annotated[
    tuple[int, ...], Option("Decoder layers (from 0) that go; unset: those that change their input least.")
]
Sparsity = Annotated[float, Option("Share of each MLP's channels that is dropped.", 0.0, 0.95)]
Interval = Annotated[int, Option("The action head's blocks run in one of so many denoising steps.", 1, 100)]


@register("efficientvla", summary="fewer layers and tokens, cached action head", paper_bops=45.1, order=4)
def efficientvla(
    *,
    ratio: Ratio = 144 / 256,
    prune_layer: PruneLayer = 2,
    score_layer: ScoreLayer = None,
    key_tokens: KeyTokens = 4,
    task_share: TaskShare = 0.5,
    layers_kept: LayersKept = None,
    layers_dropped: LayersDropped = (),
    mlp_sparsity: Sparsity = 0.25,
    head_cache_interval: Interval = 5,
) -> Method:
    return Method(
        selector=RelevanceDiversitySelector(key_tokens, task_share),
        ratio=ratio,
        prune_layer=prune_layer,
        score_layer=score_layer,
        queries=ScoreQueries.TEXT,
        reduction=Reduction(layers_kept, mlp_sparsity, tuple(layers_dropped)),
        head_cache_interval=head_cache_interval,
    )
