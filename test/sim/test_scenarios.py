# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Scenarios change the look alone: same seed, same physics; variants lie outside the training look, keep the
scene in view and the cubes' colours apart."""

from __future__ import annotations

import colorsys
from dataclasses import replace

import numpy as np
import pytest

from sqap_vla.sim import FACTORS, FAMILIES, SCENARIOS, CameraConfig, EnvironmentConfig, TabletopEnv, project_points
from sqap_vla.sim import scenarios as ranges
from sqap_vla.sim.look import PLAIN, Look, Surface, apply_look
from sqap_vla.sim.scenarios import TRAINING, VARIANT_AGGREGATION, VISUAL_MATCHING, draw_look
from sqap_vla.sim.scene import CUBE_COLORS, CUBE_RADIUS_M, DISTRACTOR_RADII_M
from sqap_vla.sim.start import PHYSICS_STREAM, CubeRegion, random_stream

CAMERA = CameraConfig()
HUES = {"red": 0.0, "green": 1 / 3, "blue": 0.62}


def cubes(seed: int) -> np.ndarray:
    return CubeRegion().sample(random_stream(seed, PHYSICS_STREAM), 3)


def variant(seed: int, *factors: str) -> Look:
    return draw_look(VARIANT_AGGREGATION, seed, CAMERA, cubes(seed), factors)


def matching(seed: int) -> Look:
    return draw_look(VISUAL_MATCHING, seed, CAMERA, cubes(seed))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_seed_is_the_same_start_in_both_scenarios(env: TabletopEnv, family: str) -> None:
    for seed in range(10):
        states = []
        for scenario in SCENARIOS:
            _, info = env.reset(seed=seed, options={"family": family, "scenario": scenario})
            named = [env.scene.base_T_cube(color) for color in CUBE_COLORS]
            states.append((info["instruction"], env.scene.drawer_m(), env.scene.joint_positions(), named))
        assert states[0][:2] == states[1][:2]
        assert all(np.array_equal(a, b) for a, b in zip(states[0][2:], states[1][2:], strict=True))


def test_cubes_of_a_seed_lie_in_the_same_places_in_every_family(env: TabletopEnv) -> None:
    places = []
    for family in FAMILIES:
        env.reset(seed=6, options={"family": family})
        places.append([env.scene.base_T_cube(color) for color in CUBE_COLORS])
    assert all(np.array_equal(place, places[0]) for place in places)


def test_a_seed_draws_the_same_variant_again_and_each_factor_comes_up() -> None:
    first, second = ([variant(seed) for seed in range(200)] for _ in range(2))
    for a, b in zip(first, second, strict=True):
        assert replace(a, distractors={}) == replace(b, distractors={})
        assert list(a.distractors) == list(b.distractors)
        assert all(np.array_equal(a.distractors[name], b.distractors[name]) for name in a.distractors)
    counts = {factor: sum(look.varied == (factor,) for look in first) for factor in FACTORS}
    assert sum(counts.values()) == 200 and min(counts.values()) >= 25


@pytest.mark.parametrize("factor", FACTORS)
def test_a_variant_changes_its_factor_and_nothing_else(factor: str) -> None:
    for seed in range(20):
        changed, plain = variant(seed, factor), matching(seed)
        for name in FACTORS:
            a, b = getattr(changed, name), getattr(plain, name)
            assert (a == b) == (name != factor)


def test_no_variant_lies_within_the_training_look() -> None:
    for seed in range(200):
        look, plain = variant(seed, *FACTORS), matching(seed)
        low, high = ranges.MATCHING_POWER
        assert low <= plain.lighting.power <= high and not low <= look.lighting.power <= high
        assert abs(look.lighting.key_azimuth_rad - plain.lighting.key_azimuth_rad) >= ranges.KEY_TURN_RAD[0]
        assert plain.table.pattern == plain.background.pattern == PLAIN
        assert PLAIN not in (look.table.pattern, look.background.pattern)
        assert len(look.distractors) >= 1 and not plain.distractors
        assert plain.camera == CAMERA
        scale = np.tan(look.camera.fov_y_rad / 2) / np.tan(CAMERA.fov_y_rad / 2)
        assert not 0.975 < scale < 1.045
        assert np.linalg.norm(np.subtract(look.camera.position_m, CAMERA.position_m)) > 0.05


def test_no_variant_lies_within_what_training_shows() -> None:
    shadows = 0
    for seed in range(200):
        shown, plain = draw_look(TRAINING, seed, CAMERA, cubes(seed)), matching(seed)
        assert shown.table == plain.table and shown.background == plain.background and not shown.distractors
        assert shown.lighting.power == plain.lighting.power and shown.lighting.tint == plain.lighting.tint
        turn_rad = shown.lighting.key_azimuth_rad - plain.lighting.key_azimuth_rad
        assert -ranges.KEY_TURN_RAD[0] < turn_rad < ranges.KEY_TURN_RAD[0]
        assert shown.lighting.key_elevation_rad < ranges.KEY_ELEVATION_RAD[0]
        assert abs(azimuth_rad(shown.camera) - azimuth_rad(CAMERA)) < ranges.CAMERA_AZIMUTH_RAD[0] - 0.005
        scale = np.tan(shown.camera.fov_y_rad / 2) / np.tan(CAMERA.fov_y_rad / 2)
        assert ranges.FOV_SCALES[0][1] < scale < ranges.FOV_SCALES[1][0]
        shadows += shown.lighting.shadows
    assert 100 < shadows < 160 and matching(0).lighting.shadows


def azimuth_rad(camera: CameraConfig) -> float:
    offset_m = np.subtract(camera.position_m, camera.target_m)
    return float(np.arctan2(offset_m[1], offset_m[0]))


def test_a_light_without_shadows_leaves_the_table_bright() -> None:
    env = TabletopEnv()
    pictures = []
    for shadows in (True, False):
        env.reset(seed=3)
        apply_look(env.scene.model, replace(env.look, lighting=replace(env.look.lighting, shadows=shadows)))
        pictures.append(env.camera_image().astype(int))
    env.close()
    brighter = pictures[1] - pictures[0]
    assert (brighter > 20).any(axis=2).mean() > 0.005 and (brighter < -20).any(axis=2).mean() < 0.0005


def test_what_matters_stays_in_view() -> None:
    env = TabletopEnv(EnvironmentConfig(observe_rgb=False, scenario=VARIANT_AGGREGATION, factors=("camera",)))
    for seed in range(150):
        env.reset(seed=seed)
        points_m = [env.scene.base_T_cube(color)[:3, 3] for color in CUBE_COLORS]
        points_m += [env.scene.handle_m(), env.scene.base_T_ee()[:3, 3]]
        pixels = project_points(env.camera, np.array(points_m))
        assert np.all(pixels > 4) and np.all(pixels < (315, 235))


def test_distractors_leave_room_for_a_finger() -> None:
    for seed in range(100):
        look = variant(seed, "distractors")
        for name, place in look.distractors.items():
            gaps_m = np.linalg.norm(cubes(seed)[:, :2] - place[:2], axis=1) - DISTRACTOR_RADII_M[name] - CUBE_RADIUS_M
            assert gaps_m.min() >= ranges.DISTRACTOR_GAP_M


def test_distractors_stand_still_and_unused_ones_stay_away(env: TabletopEnv) -> None:
    for seed in range(20):
        env.reset(seed=seed, options={"scenario": VARIANT_AGGREGATION})
        before = {name: env.scene.data.body(name).xpos.copy() for name in DISTRACTOR_RADII_M}
        for _ in range(3):
            env.step(np.array([0, 0, 0, 0, 0, 0, 1.0]))
        for name, place_m in before.items():
            moved_m = np.linalg.norm(env.scene.data.body(name).xpos - place_m)
            assert moved_m < 0.003 and (place_m[2] > -0.01) == (name in env.scene.distractors)


def test_cubes_keep_their_colours_under_every_light_and_on_every_table() -> None:
    factors = ("lighting", "table", "background", "distractors")
    env = TabletopEnv(EnvironmentConfig(scenario=VARIANT_AGGREGATION, factors=factors))
    for seed in range(25):
        obs, _ = env.reset(seed=seed)
        ids = env.camera_renderer().geom_ids()
        for color in CUBE_COLORS:
            seen = np.median(obs["rgb"][ids == env.scene.model.geom(f"{color}_cube").id], axis=0) / 255
            hue, saturation, _ = colorsys.rgb_to_hsv(*seen)
            nearest = min(HUES, key=lambda name: abs((hue - HUES[name] + 0.5) % 1.0 - 0.5))
            assert nearest == color and saturation > 0.45
    env.close()


def test_back_to_visual_matching_no_trace_of_a_variant_is_left() -> None:
    env = TabletopEnv()
    first, _ = env.reset(seed=2)
    for seed in range(8):
        env.reset(seed=seed, options={"scenario": VARIANT_AGGREGATION})
    again, _ = env.reset(seed=2)
    env.close()
    assert all(np.array_equal(first[key], again[key]) for key in first)


def test_an_unknown_pattern_is_refused() -> None:
    with pytest.raises(ValueError, match="pattern is 'paisley'; it must be one of plain, wood"):
        Surface((1.0, 1.0, 1.0), "paisley")
