# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""What the robot is asked to do, in words, and when it has done it.

Four families, after the tasks on which CogACT and SQAP-VLA are evaluated in SIMPLER: pick (Pick Coke Can), move
near, drawer (Open/Close Drawer) and place (Place Apple in Drawer). A task is a sentence and a test on the
scene; the environment knows nothing else of it. The test must hold for `EnvironmentConfig.hold_s` without a
break before the task counts as done.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from sqap_vla.sim.scene import CUBE_COLORS, CUBE_HALF_M, DRAWER_TRAVEL_M, Scene

LIFT_M = 0.05  # pick: of the cube's centre over where it is when the cube lies on the table
NEAR_M = 0.09  # move near: between the cubes' centres; faces at most 5 cm apart
ON_TABLE_M = 0.006  # move near: of the cube's centre over where it is when the cube lies on the table
GOAL_MOVED_M = 0.03  # move near: the other cube may be nudged, not brought along
OPEN_M, CLOSED_M = 0.10, 0.01  # drawer: how far it stands open
REST_M_S = 0.02
# place: the cube's centre in the drawer frame, within the drawer's walls and below their edge.
INSIDE_MIN_M, INSIDE_MAX_M = np.array([-0.088, -0.092, 0.0]), np.array([0.088, 0.076, 0.055])


class Task(Protocol):
    """What the environment needs of a task."""

    family: ClassVar[str]
    time_limit_s: ClassVar[float]

    @property
    def instruction(self) -> str:
        """The sentence given to the policy."""

    @property
    def drawer_start_m(self) -> tuple[float, float]:
        """Range from which the seed draws how far the drawer stands open at the start."""

    def achieved(self, scene: Scene) -> bool:
        """Whether the scene, as it is now, fulfils the sentence."""


def _check_color(color: str) -> None:
    if color not in CUBE_COLORS:
        raise ValueError(f"there is no {color!r} cube on the table; it has: {', '.join(CUBE_COLORS)}")


@dataclass(frozen=True)
class PickTask:
    """Lift the cube of one colour by at least LIFT_M, held by both finger pads.

    Raises ValueError for a colour that is not on the table.
    """

    color: str
    family: ClassVar[str] = "pick"
    time_limit_s: ClassVar[float] = 16.0
    drawer_start_m: ClassVar[tuple[float, float]] = (0.0, 0.0)

    def __post_init__(self) -> None:
        _check_color(self.color)

    @property
    def instruction(self) -> str:
        return f"pick up the {self.color} cube"

    def achieved(self, scene: Scene) -> bool:
        return self.lifted_m(scene) >= LIFT_M and scene.is_grasped(self.color)

    def lifted_m(self, scene: Scene) -> float:
        """Height of the cube's centre over where it is when the cube lies on the table."""
        return float(scene.base_T_cube(self.color)[2, 3] - CUBE_HALF_M)


@dataclass(frozen=True)
class MoveNearTask:
    """Set one cube down on the table beside another: at rest, let go, and the other one not brought to it.

    Raises ValueError for a colour that is not on the table, or twice the same.
    """

    color: str
    goal: str
    family: ClassVar[str] = "move_near"
    time_limit_s: ClassVar[float] = 20.0
    drawer_start_m: ClassVar[tuple[float, float]] = (0.0, 0.0)

    def __post_init__(self) -> None:
        _check_color(self.color)
        _check_color(self.goal)
        if self.color == self.goal:
            raise ValueError(f"the {self.color} cube cannot be moved near itself; name another cube as the goal")

    @property
    def instruction(self) -> str:
        return f"move the {self.color} cube near the {self.goal} cube"

    def achieved(self, scene: Scene) -> bool:
        return (
            self.is_placed(scene)
            and scene.displaced_m(self.goal) <= GOAL_MOVED_M
            and max(scene.cube_speed_m_s(self.color), scene.cube_speed_m_s(self.goal)) <= REST_M_S
        )

    def is_placed(self, scene: Scene) -> bool:
        """Whether the cube lies beside the other on the table and no finger touches it."""
        return (
            self.distance_m(scene) <= NEAR_M
            and scene.base_T_cube(self.color)[2, 3] - CUBE_HALF_M <= ON_TABLE_M
            and not scene.is_touched(self.color)
        )

    def distance_m(self, scene: Scene) -> float:
        """Horizontal distance between the two cubes' centres."""
        return float(np.hypot(*(scene.base_T_cube(self.color) - scene.base_T_cube(self.goal))[:2, 3]))


@dataclass(frozen=True)
class DrawerTask:
    """Open the drawer to at least OPEN_M, or close it to at most CLOSED_M, and leave it at rest.

    Raises ValueError for another word than open and close.
    """

    verb: str
    family: ClassVar[str] = "drawer"
    time_limit_s: ClassVar[float] = 16.0

    def __post_init__(self) -> None:
        if self.verb not in ("open", "close"):
            raise ValueError(f"a drawer cannot be told to {self.verb!r}; it is one of: open, close")

    @property
    def instruction(self) -> str:
        return f"{self.verb} the drawer"

    @property
    def drawer_start_m(self) -> tuple[float, float]:
        return (0.0, 0.0) if self.verb == "open" else (OPEN_M, DRAWER_TRAVEL_M)

    def achieved(self, scene: Scene) -> bool:
        opening_m = scene.drawer_m()
        there = opening_m >= OPEN_M if self.verb == "open" else opening_m <= CLOSED_M
        return there and scene.drawer_speed_m_s() <= REST_M_S


@dataclass(frozen=True)
class PlaceTask:
    """Bring the cube of one colour into the drawer, closed at first: inside it, at rest, let go.

    Raises ValueError for a colour that is not on the table.
    """

    color: str
    family: ClassVar[str] = "place"
    time_limit_s: ClassVar[float] = 32.0
    drawer_start_m: ClassVar[tuple[float, float]] = (0.0, 0.0)

    def __post_init__(self) -> None:
        _check_color(self.color)

    @property
    def instruction(self) -> str:
        return f"put the {self.color} cube in the drawer"

    def achieved(self, scene: Scene) -> bool:
        still = max(scene.cube_speed_m_s(self.color), scene.drawer_speed_m_s()) <= REST_M_S
        return still and self.is_placed(scene)

    def is_placed(self, scene: Scene) -> bool:
        """Whether the cube is inside the drawer and no finger touches it."""
        place_m = scene.base_T_cube(self.color)[:3, 3] - scene.drawer_position_m()
        inside = bool(np.all(place_m >= INSIDE_MIN_M) and np.all(place_m <= INSIDE_MAX_M))
        return inside and not scene.is_touched(self.color)
