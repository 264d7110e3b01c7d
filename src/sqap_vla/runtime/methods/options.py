# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Types of the methods' keywords: what they mean and their range, said once. `Annotated[type, Option(...)]`.

Known types: float, int, bool, str, tuple[int, ...], tuple[str, ...] and Points; `| None` where None means: derived from
the rest.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

Points = tuple[tuple[float, float, float], ...]
NO_GEOMETRY = ("ring_off", "dense")


@dataclass(frozen=True)
class Option:
    """minimum, maximum: both or none. choices: of a str. check: raises ValueError for a bad value. parameter: its name
    in parameter files and on the command line, where that is not the keyword's."""

    description: str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    check: Callable[[Any], None] | None = None
    parameter: str = ""

    def check_value(self, name: str, value: Any) -> None:
        """Raises ValueError that carries name, value and rule."""
        if self.minimum is not None and not self.minimum <= value <= self.maximum:  # true for NaN
            raise ValueError(f"{name} is {value}; it must be from {self.minimum} to {self.maximum}")
        if self.choices and value not in self.choices:
            raise ValueError(f"{name} is {value!r}; known are {', '.join(self.choices)}")
        if self.check is not None:
            self.check(value)


def check_points(points: Points) -> None:
    """Raises ValueError unless there is at least one finite point."""
    if not points or any(len(point) != 3 or not all(map(math.isfinite, point)) for point in points):
        raise ValueError(
            f"ee_points_m is {points}; give at least one finite point (x, y, z) in the end-effector's frame"
        )


Ratio = Annotated[
    float, Option("Share of the 256 visual tokens that is dropped.", 0.0, 0.95, parameter="pruning_ratio")
]
PruneLayer = Annotated[int, Option("Number of decoder layers that run on all tokens.", 1, 128)]
ScoreLayer = Annotated[
    int | None,
    Option("Decoder layer (from 0) whose attention ranks the tokens; unset: the last before pruning.", 0, 127),
]
RingRadius = Annotated[int, Option("Chebyshev radius of the ring around the projected end-effector [tokens].", 0, 15)]
EePoints = Annotated[
    Points,
    Option("Points protected by a ring, in the end-effector frame, x y z after x y z [m].", check=check_points),
]
NoGeometry = Annotated[
    str,
    Option(
        "What a method with a ring does without camera geometry: go on without the ring, or keep all tokens.",
        choices=NO_GEOMETRY,
    ),
]
