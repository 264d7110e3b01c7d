# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""sqap: the paper's method. W4A4 with rotation; attention, ring and farthest points; each can be left out (Table 4).

The paper gives the ratio, not the layer, the ring's radius or k. Dropping 40 % of the tokens after layer 3 comes to
the paper's computational cost.
"""

from __future__ import annotations

from typing import Annotated

from sqap_vla.pruning.sqap import SqapSelector
from sqap_vla.quantization.policy import PRESETS
from sqap_vla.runtime.methods.base import ORIGIN, Method
from sqap_vla.runtime.methods.options import EePoints, NoGeometry, Option, PruneLayer, Ratio, RingRadius, ScoreLayer
from sqap_vla.runtime.methods.registry import register

Share = Annotated[float, Option("Share of the kept tokens that attention chooses.", 0.0, 1.0)]
UseAttention = Annotated[bool, Option("Keep the tokens with the highest attention (paper eq. 1).")]
UseRing = Annotated[bool, Option("Keep the tokens around the projected end-effector (paper eq. 4).")]
UseFps = Annotated[bool, Option("Fill up with farthest points (paper eq. 5); without them attention fills up.")]


@register("sqap", summary="W4A4; attention, ring around the end-effector, farthest points", paper_bops=26.3, order=5)
def sqap(
    *,
    ratio: Ratio = 0.4,
    prune_layer: PruneLayer = 3,
    score_layer: ScoreLayer = None,
    attention_share: Share = 0.25,
    use_attention: UseAttention = True,
    use_ring: UseRing = True,
    use_fps: UseFps = True,
    ring_radius_tokens: RingRadius = 2,
    ee_points_m: EePoints = ORIGIN,
    no_geometry: NoGeometry = "ring_off",
) -> Method:
    return Method(
        selector=SqapSelector(attention_share, use_attention, use_ring, use_fps),
        ratio=ratio,
        prune_layer=prune_layer,
        score_layer=score_layer,
        ring_radius_tokens=ring_radius_tokens,
        ee_points_m=tuple(tuple(map(float, point)) for point in ee_points_m),
        no_geometry=no_geometry,
        quantization=PRESETS["default"],
    )
