# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""vla_cache: still visual tokens are taken from the previous frame (arXiv 2502.02175).

Numbers are those of its code for OpenVLA, which is CogACT's language model with another head. The longest gap between
two frames is ours: three policy steps of the slower robot.
"""

from __future__ import annotations

from typing import Annotated

from sqap_vla.pruning.vla_cache import VlaCachePolicy
from sqap_vla.runtime.methods.base import Method
from sqap_vla.runtime.methods.options import Option
from sqap_vla.runtime.methods.registry import register

Threshold = Annotated[float, Option("Cosine similarity of a patch's pixels from which on it counts as still.", -1, 1)]
Static = Annotated[int, Option("Most patches that count as still.", 0, 256)]
Relevant = Annotated[int, Option("Patches with the highest attention that are always computed anew.", 0, 256)]
Layers = Annotated[tuple[int, ...], Option("Decoder layers (from 0) from which on tokens may be reused, ascending.")]
RelevanceLayer = Annotated[
    int | None,
    Option("Decoder layer (from 0) whose attention says what is relevant; unset: the last of the first half.", 0, 127),
]
Growth = Annotated[float, Option("Part of a rise in reuse from layer to layer that counts.", 0, 1)]
Gap = Annotated[float, Option("Longest time between two frames for reuse [s].", 0.001, 3600)]


@register("vla_cache", summary="still visual tokens from the previous frame", paper_bops=80.1, order=3)
def vla_cache(
    *,
    similarity_threshold: Threshold = 0.996,
    static_tokens: Static = 130,
    relevant_tokens: Relevant = 120,
    reuse_layers: Layers = (2, 6, 9, 11),
    relevance_layer: RelevanceLayer = None,
    reuse_growth: Growth = 0.55,
    max_frame_gap_s: Gap = 1.0,
) -> Method:
    policy = VlaCachePolicy(
        similarity_threshold, static_tokens, relevant_tokens, tuple(reuse_layers), relevance_layer, reuse_growth
    )
    return Method(reuse=policy, max_frame_gap_s=max_frame_gap_s)
