# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""What distinguishes one method from another, as a value: the engine runs them all through one code path.

Every part is optional. A method may drop visual tokens (selector), take some from the previous frame (reuse), do
without layers and MLP channels (reduction), run the action head's blocks in some steps only, and quantize the decoder.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from sqap_vla.cogact.token_dropping import ScoreQueries
from sqap_vla.pruning.ring import Ring
from sqap_vla.pruning.selection import TokenSelector, budget_from_ratio
from sqap_vla.quantization.options import QuantizationOptions
from sqap_vla.quantization.policy import QuantizationConfig
from sqap_vla.runtime.frame_memory import ReusePolicy
from sqap_vla.runtime.methods.options import NO_GEOMETRY, Points, check_points
from sqap_vla.runtime.reduction import Reduction

ORIGIN: Points = ((0.0, 0.0, 0.0),)


@dataclass(frozen=True)
class Method:
    """A method. Raises ValueError for values outside their ranges.

    selector: chooses the tokens that stay; None drops none. ratio: part of the visual tokens that is dropped, in
    [0, 1). prune_layer: number of decoder layers that run on all tokens, >= 1; counted after the reduction.
    score_layer: zero-based layer whose attention ranks the tokens, below prune_layer; None is the last of these.
    queries: whose attention that is. ring_radius_tokens: Chebyshev radius of the protected ring. ee_points_m: points
    in the end-effector's frame that get a ring, the first being the end-effector itself. no_geometry: for a frame
    without ring, `ring_off` prunes without it, `dense` does not prune.
    reuse: chooses the tokens that are taken from the previous frame. max_frame_gap_s: longest time between two frames
    for that. reduction: layers and MLP channels to do without. head_cache_interval: the action head's blocks run in
    one of so many denoising steps. quantization: what a float checkpoint is compressed to where nothing else is asked
    for; None leaves it as it is. asked: what the user wants of the quantization (methods/quantization.py).
    """

    name: str = ""
    selector: TokenSelector | None = None
    ratio: float = 0.0
    prune_layer: int = 1
    score_layer: int | None = None
    queries: ScoreQueries = ScoreQueries.LAST
    ring_radius_tokens: int = 2
    ee_points_m: Points = ORIGIN
    no_geometry: str = "ring_off"
    reuse: ReusePolicy | None = None
    max_frame_gap_s: float = 1.0
    reduction: Reduction | None = None
    head_cache_interval: int = 1
    quantization: QuantizationConfig | None = None
    asked: QuantizationOptions = QuantizationOptions()  # noqa: RUF009 frozen

    def __post_init__(self) -> None:
        budget_from_ratio(self.ratio)
        if self.prune_layer < 1:
            raise ValueError(f"prune_layer is {self.prune_layer}; at least one layer must run on all tokens")
        if self.score_layer is None:
            object.__setattr__(self, "score_layer", self.prune_layer - 1)
        if not 0 <= self.score_layer < self.prune_layer:
            raise ValueError(
                f"score_layer is {self.score_layer}; it must be in [0, {self.prune_layer - 1}], "
                f"one of the {self.prune_layer} layers before tokens are dropped"
            )
        if self.ring_radius_tokens < 0:
            raise ValueError(f"ring_radius_tokens is {self.ring_radius_tokens}; it must be >= 0 (0 is the token alone)")
        check_points(self.ee_points_m)
        if self.no_geometry not in NO_GEOMETRY:
            raise ValueError(f"no_geometry is {self.no_geometry!r}; known are {', '.join(NO_GEOMETRY)}")
        if self.selector is not None and self.reuse is not None:
            raise ValueError("a method either drops tokens or reuses them: leave selector or reuse out")
        if self.head_cache_interval < 1:
            raise ValueError(f"head_cache_interval is {self.head_cache_interval}; it must be >= 1 (1 caches nothing)")
        if not self.max_frame_gap_s > 0:
            raise ValueError(f"max_frame_gap_s is {self.max_frame_gap_s}; it must be above 0 s")
        if self.reduction is not None and self.recipe is not None:
            raise ValueError(
                f"quantization is {self.recipe}, and this method leaves out layers and MLP channels of the float "
                "network; leave precision unset, or take a method that keeps them"
            )

    @property
    def recipe(self) -> QuantizationConfig | None:
        """How a float checkpoint is quantized for this method; None: not at all."""
        return self.asked.on(self.quantization)

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

    def check_fits(self, num_layers: int) -> None:
        """Raises ValueError where a decoder of `num_layers`, not yet reduced, has not the layers this method names."""
        if self.reduction is not None:
            num_layers = self.reduction.num_kept(num_layers)
        if self.selector is not None and self.prune_layer >= num_layers:
            raise ValueError(
                f"prune_layer is {self.prune_layer}; the decoder has {num_layers} layers, so it must be below"
            )

    def parameters(self) -> dict[str, Any]:
        """What defines it, in plain JSON values, for logs and reports: parts that it does not have are left out."""
        values: dict[str, Any] = {}
        if self.selector is not None:
            values = {"ratio": self.ratio, "prune_layer": self.prune_layer}
            if self.selector.needs_scores:
                values["score_layer"] = self.score_layer
        if self.uses_ring:
            values |= {"ring_radius_tokens": self.ring_radius_tokens, "no_geometry": self.no_geometry}
        for part in (self.selector, self.reuse, self.reduction):
            if part is not None:
                values |= {key: value for key, value in dataclasses.asdict(part).items() if value is not None}
        if self.reuse is not None:
            values["max_frame_gap_s"] = self.max_frame_gap_s
        if self.head_cache_interval > 1:
            values["head_cache_interval"] = self.head_cache_interval
        return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
