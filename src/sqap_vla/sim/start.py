# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Where things stand when an episode starts: a function of its seed.

What the arm meets and what the camera sees come from separate streams of random numbers, so that a seed means
the same physical start in every scenario and for every method. Within the physical stream the cubes are drawn
first: they lie in the same places whichever family or sentence a seed is used for.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

PHYSICS_STREAM, LOOK_STREAM = 0, 1


def random_stream(seed: int, stream: int) -> np.random.Generator:
    """The generator of one stream of an episode's seed."""
    return np.random.default_rng([seed, stream])


@dataclass(frozen=True)
class CubeRegion:
    """Where cubes are put at the start: a rectangle of the table in the base frame, and how far apart.

    In this rectangle the gripper has room around a cube also when the drawer is open, and no two cubes are
    near each other as "move near" means it.
    """

    x_m: tuple[float, float] = (0.28, 0.46)
    y_m: tuple[float, float] = (-0.24, 0.03)
    min_distance_m: float = 0.11

    def __post_init__(self) -> None:
        if self.x_m[0] >= self.x_m[1] or self.y_m[0] >= self.y_m[1]:
            raise ValueError(f"cube region x {self.x_m}, y {self.y_m} is empty; give (low, high) with low < high")

    def sample(self, rng: np.random.Generator, count: int, tries: int = 1000) -> np.ndarray:
        """Places of `count` cubes, x, y [m], yaw [rad], [count, 3]. Raises ValueError if they do not fit."""
        for _ in range(tries):  # all anew where one finds no room: two may leave none for the third
            low, high = (self.x_m[0], self.y_m[0], -np.pi / 4), (self.x_m[1], self.y_m[1], np.pi / 4)
            places = rng.uniform(low, high, (count, 3))
            gaps_m = np.linalg.norm(places[:, None, :2] - places[None, :, :2], axis=-1)  # [count, count]
            if gaps_m[np.triu_indices(count, 1)].min(initial=np.inf) >= self.min_distance_m:
                return places
        raise ValueError(
            f"{count} cubes {self.min_distance_m} m apart do not fit x {self.x_m}, y {self.y_m}; enlarge the region"
        )
