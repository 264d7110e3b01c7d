# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The two scenarios, as in SIMPLER (Li et al., "Evaluating real-world robot manipulation policies in
simulation", 2024): what an episode looks like, as a function of its seed.

visual_matching is the look of training: one camera, plain surfaces, light that hardly varies, no distractors.
variant_aggregation takes that look and changes one factor of it, which the seed chooses, as SIMPLER does: light,
table, background, distractors, or camera. Every range is disjoint from visual matching's. The random numbers
are those of the look alone, and each factor's are drawn whether or not it is changed.

Training's own episodes are visual matching with the light and the camera moved a little. Variant aggregation's ranges
are disjoint from theirs, too: of the light, where it comes from, and of the camera, azimuth and field of view.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sqap_vla.sim.camera import CameraConfig, moved_around
from sqap_vla.sim.look import Lighting, Look, Rgb, Surface
from sqap_vla.sim.scene import CUBE_RADIUS_M, DISTRACTOR_RADII_M
from sqap_vla.sim.start import LOOK_STREAM, random_stream

VISUAL_MATCHING, VARIANT_AGGREGATION = SCENARIOS = ("visual_matching", "variant_aggregation")
TRAINING = "training"
FACTORS = ("lighting", "table", "background", "distractors", "camera")

MATCHING_POWER = (0.96, 1.04)
MATCHING_SHADE = (0.97, 1.03)  # of table and floor
DIM_POWER, BRIGHT_POWER = (0.50, 0.72), (1.20, 1.38)
TINTS: tuple[Rgb, ...] = ((1.0, 0.84, 0.66), (0.76, 0.90, 1.0), (1.0, 1.0, 1.0))
KEY_TURN_RAD = (0.6, 2.6)  # to the robot's right and behind it; from its left the renderer's shadows are speckled
KEY_ELEVATION_RAD = (1.15, 1.40)
TABLE_PATTERNS = ("wood", "planks", "marble", "checks", "stripes", "speckles")
BACKGROUND_PATTERNS = ("tiles", "planks", "checks", "speckles", "marble")
# Muted, so that cubes stay the only red, green and blue things; none near the training look's.
TABLE_RGB: tuple[Rgb, ...] = (
    (0.93, 0.92, 0.90),
    (0.50, 0.36, 0.25),
    (0.38, 0.40, 0.43),
    (0.86, 0.80, 0.52),
    (0.66, 0.60, 0.74),
    (0.60, 0.74, 0.74),
)
BACKGROUND_RGB: tuple[Rgb, ...] = (
    (0.80, 0.78, 0.74),
    (0.50, 0.37, 0.27),
    (0.22, 0.23, 0.26),
    (0.72, 0.64, 0.46),
    (0.56, 0.46, 0.58),
    (0.36, 0.48, 0.48),
)
DISTRACTOR_COUNT = (2, 4)
DISTRACTOR_X_M, DISTRACTOR_Y_M = (0.22, 0.54), (-0.34, 0.06)
DISTRACTOR_GAP_M = 0.040  # from the rim of a distractor to that of a cube: room for a finger
CAMERA_AZIMUTH_RAD = (0.12, 0.32)  # either way around the target, from the training look's camera
CAMERA_ELEVATION_RAD = (-0.06, 0.12)
CAMERA_DISTANCE = (0.95, 1.08)  # times the training look's
CAMERA_TARGET_M = 0.015
FOV_SCALES = ((0.94, 0.97), (1.05, 1.20))  # times the training look's
TRAINING_AZIMUTH_RAD, TRAINING_ELEVATION_RAD, TRAINING_DISTANCE = (-0.11, 0.11), (-0.05, 0.08), (0.96, 1.06)
TRAINING_FOV = (0.975, 1.045)
TRAINING_KEY_TURN_RAD, TRAINING_KEY_ELEVATION_RAD = (-0.55, 0.45), (0.90, 1.12)
TRAINING_SHADOWS_SHARE = 2 / 3


def draw_look(scenario: str, seed: int, camera: CameraConfig, cubes: np.ndarray, factors: tuple[str, ...] = ()) -> Look:
    """The look of an episode.

    camera: the training look's. cubes [3, 3]: x, y, yaw, from which distractors keep away. factors: those that
    variant aggregation changes, all at once; none: the one that the seed chooses.
    Raises ValueError for an unknown scenario.
    """
    if scenario not in (*SCENARIOS, TRAINING):
        raise ValueError(f"scenario is {scenario!r}; it must be one of {', '.join((*SCENARIOS, TRAINING))}")
    rng = random_stream(seed, LOOK_STREAM)
    chosen = (FACTORS[rng.integers(len(FACTORS))],)
    matching = _matching(rng, camera)
    variants: dict[str, object] = {
        "lighting": _lighting(rng, matching.lighting),
        "table": Surface(_of(rng, TABLE_RGB), _of(rng, TABLE_PATTERNS), rng.uniform(1.2, 3.0)),
        "background": Surface(_of(rng, BACKGROUND_RGB), _of(rng, BACKGROUND_PATTERNS), rng.uniform(1.0, 2.5)),
        "camera": _camera(rng, camera),
        "distractors": _distractors(rng, cubes),
    }
    if scenario == VISUAL_MATCHING:
        return matching
    if scenario == TRAINING:
        return _training(rng, matching)
    varied = factors or chosen
    return replace(matching, varied=varied, **{factor: variants[factor] for factor in varied})


def _of(rng: np.random.Generator, values: tuple) -> object:
    return values[rng.integers(len(values))]


def _sign(rng: np.random.Generator) -> float:
    return float(rng.choice((-1.0, 1.0)))


def _matching(rng: np.random.Generator, camera: CameraConfig) -> Look:
    look = Look(camera=camera, lighting=Lighting(power=rng.uniform(*MATCHING_POWER)))
    shades = rng.uniform(*MATCHING_SHADE, 2)
    table, background = (
        replace(surface, rgb=tuple((np.asarray(surface.rgb) * shade).tolist()))
        for surface, shade in zip((look.table, look.background), shades, strict=True)
    )
    return replace(look, table=table, background=background)


def _lighting(rng: np.random.Generator, matching: Lighting) -> Lighting:
    return Lighting(
        power=rng.uniform(*_of(rng, (DIM_POWER, BRIGHT_POWER))),
        tint=_of(rng, TINTS),
        key_azimuth_rad=matching.key_azimuth_rad - rng.uniform(*KEY_TURN_RAD),
        key_elevation_rad=rng.uniform(*KEY_ELEVATION_RAD),
    )


def _camera(rng: np.random.Generator, camera: CameraConfig) -> CameraConfig:
    """The camera on a sphere around its target, turned to one side; the target itself a little aside."""
    distance = rng.uniform(*CAMERA_DISTANCE)
    azimuth_rad = _sign(rng) * rng.uniform(*CAMERA_AZIMUTH_RAD)
    elevation_rad = rng.uniform(*CAMERA_ELEVATION_RAD)
    target_m = rng.uniform(-CAMERA_TARGET_M, CAMERA_TARGET_M, 3)
    return moved_around(camera, azimuth_rad, elevation_rad, distance, target_m, rng.uniform(*_of(rng, FOV_SCALES)))


def _training(rng: np.random.Generator, matching: Look) -> Look:
    """Short of every variant: the light turned a little, and one episode in three without shadows, so that the hand is
    not found by its shadow; the camera moved a little."""
    camera = moved_around(
        matching.camera,
        rng.uniform(*TRAINING_AZIMUTH_RAD),
        rng.uniform(*TRAINING_ELEVATION_RAD),
        rng.uniform(*TRAINING_DISTANCE),
        rng.uniform(-CAMERA_TARGET_M, CAMERA_TARGET_M, 3),
        rng.uniform(*TRAINING_FOV),
    )
    light = replace(
        matching.lighting,
        key_azimuth_rad=matching.lighting.key_azimuth_rad + rng.uniform(*TRAINING_KEY_TURN_RAD),
        key_elevation_rad=rng.uniform(*TRAINING_KEY_ELEVATION_RAD),
        shadows=bool(rng.random() < TRAINING_SHADOWS_SHARE),
    )
    return replace(matching, camera=camera, lighting=light)


def _distractors(rng: np.random.Generator, cubes: np.ndarray, tries: int = 400) -> dict[str, np.ndarray]:
    """Some distractors where there is room for them; fewer where there is none."""
    count = rng.integers(DISTRACTOR_COUNT[0], DISTRACTOR_COUNT[1] + 1)
    names = rng.permutation(list(DISTRACTOR_RADII_M))[:count]
    taken = [(cube[:2], CUBE_RADIUS_M) for cube in cubes]
    placed: dict[str, np.ndarray] = {}
    draws = rng.uniform(
        (DISTRACTOR_X_M[0], DISTRACTOR_Y_M[0], -np.pi), (DISTRACTOR_X_M[1], DISTRACTOR_Y_M[1], np.pi), (count, tries, 3)
    )
    for name, places in zip(map(str, names), draws, strict=True):
        radius_m = DISTRACTOR_RADII_M[name]
        for place in places:
            if all(np.hypot(*(place[:2] - at)) - radius_m - other >= DISTRACTOR_GAP_M for at, other in taken):
                placed[name] = place
                taken.append((place[:2], radius_m))
                break
    return placed
