# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The benchmark's episodes are those of SIMPLER's scripts: how many, which scenes, where robot and objects are."""

from __future__ import annotations

import json
import math
from collections import Counter

import pytest

from sqap_vla.simpler.benchmark import SCENARIOS, TASKS, episodes

MATCHING, AGGREGATION = SCENARIOS


@pytest.mark.parametrize(
    ("task", "matching", "aggregation", "scenes"),
    [
        ("google_robot_pick_coke_can", 4 * 3 * 25, 9 * 3 * 25, (4 * 3, 9 * 3)),
        ("google_robot_move_near", 4 * 60, 8 * 60, (4, 8)),
        ("google_robot_drawer", 4 * 6 * 9, 7 * 6 * 9, (4 * 6 * 9, 7 * 6)),
        ("google_robot_place_apple_in_closed_top_drawer", 4 * 3 * 9, 7 * 3 * 9, (4 * 3, 7)),
        *((task, 24, 0, (1, 0)) for task in TASKS if task.startswith("widowx")),
    ],
)
def test_every_variant_has_as_many_episodes(task: str, matching: int, aggregation: int, scenes: tuple) -> None:
    for scenario, count, distinct in zip(SCENARIOS, (matching, aggregation), scenes, strict=True):
        all_of = episodes(task, scenario)
        assert len(all_of) == count
        assert len({json.dumps([e.env, e.build, e.options]) for e in all_of}) == count, "each once"
        of_scene = Counter(json.dumps([e.env, e.build]) for e in all_of)
        assert len(of_scene) == distinct and len(set(of_scene.values())) <= 1


def test_the_first_episodes_are_a_sample_of_all_variants() -> None:
    first = [episode.variant for episode in episodes("google_robot_pick_coke_can", AGGREGATION)[:100]]
    assert len(set(first)) >= 24  # of 27


def test_robots_stand_where_the_scripts_put_them() -> None:
    """Half a turn about z faces the scene; the yaw is added to it."""
    (pose,) = {json.dumps(e.options["robot_init_options"]) for e in episodes("google_robot_move_near", MATCHING)}
    told = json.loads(pose)
    w, x, y, z = told["init_rot_quat"]
    assert told["init_xy"] == [0.35, 0.21] and (x, y) == (0, 0)
    assert 2 * math.atan2(z, w) == pytest.approx(math.pi - 0.09)
    cans = {tuple(e.options["obj_init_options"]["init_xy"]) for e in episodes("google_robot_pick_coke_can", MATCHING)}
    assert len(cans) == 25 and min(cans) == (-0.35, -0.02) and max(cans) == pytest.approx((-0.12, 0.42))


def test_each_photograph_belongs_to_its_pose() -> None:
    poses = {
        (e.build["rgb_overlay_path"], *e.options["robot_init_options"]["init_xy"])
        for e in episodes("google_robot_drawer", MATCHING)
    }
    assert len(poses) == 9 and ("real_inpainting/open_drawer_b2.png", 0.851, 0.035) in poses
    assert not any("rgb_overlay_path" in e.build for task in TASKS for e in episodes(task, AGGREGATION))
