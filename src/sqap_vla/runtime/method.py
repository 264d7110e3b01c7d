# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""What distinguishes one pruning method from another, as a value: the engine runs them all through one code
path.

Defaults are ours; the paper gives the ratio, not the layer, the ring's radius or k. Dropping 40 % of the
tokens after layer 3 comes to the paper's computational cost.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from sqap_vla.pruning.random_drop import RandomDropSelector
from sqap_vla.pruning.ring import Ring
from sqap_vla.pruning.selection import TokenSelector, budget_from_ratio
from sqap_vla.pruning.sqap import SqapSelector

METHODS = ("dense", "random", "sqap")
NO_GEOMETRY = ("ring_off", "dense")


@dataclass(frozen=True)
class Method:
    """A pruning method and where it prunes.

    selector: chooses the tokens; None prunes nothing. ratio: part of the visual tokens that is dropped, in
    [0, 1). prune_layer: number of decoder layers that run on all tokens, >= 1. score_layer: zero-based layer
    whose attention ranks the tokens, below prune_layer. ring_radius_tokens: Chebyshev radius of the protected
    ring. ee_points_m: points in the end-effector's frame that get a ring, the first being the end-effector
    itself. no_geometry: for a frame without ring, `ring_off` prunes without it, `dense` does not prune.
    Raises ValueError for values outside these ranges.
    """

    name: str
    selector: TokenSelector | None
    ratio: float
    prune_layer: int
    score_layer: int
    ring_radius_tokens: int
    ee_points_m: tuple[tuple[float, float, float], ...]
    no_geometry: str

    def __post_init__(self) -> None:
        budget_from_ratio(self.ratio)
        if self.prune_layer < 1:
            raise ValueError(f"prune_layer is {self.prune_layer}; at least one layer must run on all tokens")
        if not 0 <= self.score_layer < self.prune_layer:
            raise ValueError(
                f"score_layer is {self.score_layer}; it must be in [0, {self.prune_layer - 1}], "
                f"one of the {self.prune_layer} layers before tokens are dropped"
            )
        if self.ring_radius_tokens < 0:
            raise ValueError(f"ring_radius_tokens is {self.ring_radius_tokens}; it must be >= 0 (0 is the token alone)")
        points = self.ee_points_m
        if not points or any(len(point) != 3 or not all(map(math.isfinite, point)) for point in points):
            raise ValueError(
                f"ee_points_m is {points}; give at least one finite point (x, y, z) in the end-effector's frame"
            )
        if self.no_geometry not in NO_GEOMETRY:
            raise ValueError(f"no_geometry is {self.no_geometry!r}; known are {', '.join(NO_GEOMETRY)}")

    def budget(self, n: int = 256) -> int:
        """Visual tokens that stay of `n`."""
        return budget_from_ratio(self.ratio, n)

    @property
    def uses_ring(self) -> bool:
        """Whether the selection depends on the camera's geometry."""
        return self.selector is not None and self.selector.needs_ring

    def fallback(self, ring: Ring) -> str:
        """Why this method must do without its ring in a frame; '' where it has one or needs none."""
        return ring.fallback if self.uses_ring else ""

    def prunes(self, ring: Ring) -> bool:
        """Whether tokens are dropped in a frame with this ring."""
        if self.selector is None:
            return False
        return not (self.fallback(ring) and self.no_geometry == "dense")


def make_method(
    name: str,
    *,
    ratio: float = 0.4,
    prune_layer: int = 3,
    score_layer: int | None = None,
    ring_radius_tokens: int = 2,
    attention_share: float = 0.25,
    ee_points_m: tuple[tuple[float, float, float], ...] = ((0.0, 0.0, 0.0),),
    no_geometry: str = "ring_off",
) -> Method:
    """The method `name`, one of METHODS. score_layer: by default the last one before pruning.

    What a method does not use is checked all the same, so that a configuration stays valid when only the name
    changes; `dense` has ratio 0 whatever is given. Raises ValueError for an unknown name (it lists the known
    ones) or bad values.
    """
    sqap = SqapSelector(attention_share=attention_share)
    selectors: dict[str, TokenSelector | None] = {"dense": None, "random": RandomDropSelector(), "sqap": sqap}
    if name not in selectors:
        raise ValueError(f"method {name!r} is not known; known are {', '.join(METHODS)}")
    budget_from_ratio(ratio)
    if score_layer is None:
        score_layer = prune_layer - 1
    points = tuple(tuple(map(float, point)) for point in ee_points_m)
    return Method(
        name=name,
        selector=selectors[name],
        ratio=0.0 if name == "dense" else ratio,
        prune_layer=prune_layer,
        score_layer=score_layer,
        ring_radius_tokens=ring_radius_tokens,
        ee_points_m=points,
        no_geometry=no_geometry,
    )
