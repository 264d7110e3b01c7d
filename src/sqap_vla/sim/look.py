# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""How the tabletop looks in one episode, and how a model is made to look so.

Only what the camera sees: light, surfaces, camera. Applying a look changes nothing that the physics reads.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import mujoco
import numpy as np

from sqap_vla.sim.camera import CameraConfig
from sqap_vla.sim.textures import PATTERNS

PLAIN = "plain"
Rgb = tuple[float, float, float]
_KEY_DIFFUSE, _FILL_DIFFUSE = np.array([0.55, 0.54, 0.52]), np.array([0.24, 0.25, 0.27])
_HEAD_AMBIENT, _HEAD_DIFFUSE = np.array([0.30, 0.30, 0.31]), np.array([0.18, 0.18, 0.18])
_LIT_CENTRE_M, _LIGHT_DISTANCE_M = np.array([0.33, 0.0, 0.15]), 1.6
_EDGE_SHADE = 0.48  # of the table's edge and legs, relative to its top


@dataclass(frozen=True)
class Lighting:
    """power: 1 is the training look's; tint: colour of all light; key light: where it comes from.

    key_azimuth_rad: around the base frame's z, from x; key_elevation_rad: over the table. shadows: whether it casts
    any.
    """

    power: float = 1.0
    tint: Rgb = (1.0, 1.0, 1.0)
    key_azimuth_rad: float = -0.70
    key_elevation_rad: float = 1.09
    shadows: bool = True


@dataclass(frozen=True)
class Surface:
    """A colour, and a pattern that is repeated `repeats_per_m` times a metre.

    Raises ValueError for an unknown pattern.
    """

    rgb: Rgb
    pattern: str = PLAIN
    repeats_per_m: float = 1.0

    def __post_init__(self) -> None:
        if self.pattern != PLAIN and self.pattern not in PATTERNS:
            raise ValueError(f"pattern is {self.pattern!r}; it must be one of {', '.join((PLAIN, *PATTERNS))}")


@dataclass(frozen=True)
class Look:
    """One appearance. varied: which factors differ from the training look."""

    camera: CameraConfig
    lighting: Lighting = field(default_factory=Lighting)
    table: Surface = field(default_factory=lambda: Surface((0.74, 0.66, 0.55)))
    background: Surface = field(default_factory=lambda: Surface((0.47, 0.50, 0.53)))
    distractors: dict[str, np.ndarray] = field(default_factory=dict)  # x, y [m], yaw [rad] by name
    varied: tuple[str, ...] = ()


def apply_look(model: mujoco.MjModel, look: Look) -> None:
    """Sets lights and surfaces of the model; camera and distractors belong to the scene."""
    light = look.lighting
    colour = light.power * np.asarray(light.tint)
    for name, diffuse in (("key", _KEY_DIFFUSE), ("fill", _FILL_DIFFUSE)):
        model.light(name).diffuse[:] = diffuse * colour
    model.vis.headlight.ambient[:] = _HEAD_AMBIENT * colour
    model.vis.headlight.diffuse[:] = _HEAD_DIFFUSE * colour
    flat = np.cos(light.key_elevation_rad)
    towards_light = np.array(
        [
            flat * np.cos(light.key_azimuth_rad),
            flat * np.sin(light.key_azimuth_rad),
            np.sin(light.key_elevation_rad),
        ]
    )
    # A directional light has a place, too: its shadow map is sharp around the ray from there.
    model.light("key").castshadow[:] = light.shadows
    model.light("key").dir[:] = -towards_light
    model.light("key").pos[:] = _LIT_CENTRE_M + _LIGHT_DISTANCE_M * towards_light
    _apply_surface(model, "table", look.table)
    _apply_surface(model, "floor", look.background)
    model.material("table_edge").rgba[:3] = _EDGE_SHADE * np.asarray(look.table.rgb)


def _apply_surface(model: mujoco.MjModel, name: str, surface: Surface) -> None:
    material = model.material(name)
    material.rgba[:3] = surface.rgb
    material.texrepeat[:] = surface.repeats_per_m
    model.mat_texid[material.id, mujoco.mjtTextureRole.mjTEXROLE_RGB] = model.texture(surface.pattern).id
