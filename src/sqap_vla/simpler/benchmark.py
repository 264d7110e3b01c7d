# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The episodes of SIMPLER's evaluation: which scenes, robot poses and object positions its published results stand on.

Source: SimplerEnv's evaluation scripts (scripts/rt1_*.sh, scripts/octo_bridge.sh) for the grids, and
tools/calc_metrics_evaluation_videos.py for which of their variants count: changed cameras do not. Every variant has as
many episodes, so the published average of averages is the share of episodes done.

Episodes are numbered in an order that mixes variants and positions (by a hash), so the first N are a fair sample of all
of them, the same for every method.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

VISUAL_MATCHING, VARIANT_AGGREGATION = "visual_matching", "variant_aggregation"


@dataclass(frozen=True)
class SimplerEpisode:
    """env: name registered with gymnasium. build: arguments it is made with. options: of its reset. variant: what sets
    the scene apart, for a person."""

    env: str
    build: dict[str, Any]
    options: dict[str, Any]
    variant: str


_TABLE = "google_pick_coke_can_1_v4"
_OVERLAYS = "real_inpainting/"  # in SIMPLER's asset directory
_URDFS = (
    "None",
    "recolor_tabletop_visual_matching_1",
    "recolor_tabletop_visual_matching_2",
    "recolor_cabinet_visual_matching_1",
)
_CANS = ("lr_switch", "upright", "laid_vertically")
_DRAWERS = tuple(f"{verb}{which}" for verb in ("Open", "Close") for which in ("Top", "Middle", "Bottom"))
# Robot poses x, y [m], yaw [rad] before the cabinet, each with a photograph of its own.
_CABINET_POSES = {
    "a0": (0.644, -0.179, -0.03),
    "a1": (0.765, -0.182, -0.02),
    "a2": (0.889, -0.203, -0.06),
    "b0": (0.652, 0.009, 0.0),
    "b1": (0.752, 0.009, 0.0),
    "b2": (0.851, 0.035, 0.0),
    "c0": (0.665, 0.224, 0.0),
    "c1": (0.765, 0.222, -0.025),
    "c2": (0.865, 0.222, -0.025),
}

_Build = dict[str, Any]
_TABLE_SCENES: tuple[tuple[str, _Build], ...] = (
    ("table 1", {"scene_name": "Baked_sc1_staging_objaverse_cabinet1_h870"}),
    ("table 2", {"scene_name": "Baked_sc1_staging_objaverse_cabinet2_h870"}),
    ("background 1", {"scene_name": f"{_TABLE}_alt_background"}),
    ("background 2", {"scene_name": f"{_TABLE}_alt_background_2"}),
    ("darker", {"scene_name": _TABLE, "slightly_darker_lighting": True}),
    ("brighter", {"scene_name": _TABLE, "slightly_brighter_lighting": True}),
)
_ROOM = {"scene_name": "frl_apartment_stage_simple", "shader_dir": "rt"}
_CABINET_SCENES: tuple[tuple[str, _Build], ...] = (
    ("base", _ROOM),
    ("background 1", _ROOM | {"scene_name": "modern_bedroom_no_roof"}),
    ("background 2", _ROOM | {"scene_name": "modern_office_no_roof"}),
    ("brighter", _ROOM | {"light_mode": "brighter"}),
    ("darker", _ROOM | {"light_mode": "darker"}),
    ("cabinet 2", _ROOM | {"station_name": "mk_station2"}),
    ("cabinet 3", _ROOM | {"station_name": "mk_station3"}),
)


def _between(low: float, high: float, count: int) -> list[float]:
    return [low + (high - low) * i / (count - 1) for i in range(count)]


def _google(max_steps: int, **build: Any) -> _Build:
    return {
        "robot": "google_robot_static",
        "control_freq": 3,
        "sim_freq": 513,
        "max_episode_steps": max_steps,
        **build,
    }


def _robot(x: float, y: float, yaw: float = 0.0) -> dict[str, Any]:
    """Position [m] and turn [rad] from facing the scene, which is half a turn about z; quaternion w x y z."""
    rotation = [-math.sin(yaw / 2), 0.0, 0.0, math.cos(yaw / 2)]
    return {"robot_init_options": {"init_xy": [x, y], "init_rot_quat": rotation}}


def _objects(xs: Sequence[float], ys: Sequence[float]) -> list[dict[str, Any]]:
    return [{"obj_init_options": {"init_xy": [x, y]}} for x, y in itertools.product(xs, ys)]


def _layouts(count: int) -> list[dict[str, Any]]:
    return [{"obj_init_options": {"episode_id": number}} for number in range(count)]


def _pick(scenario: str) -> Iterator[SimplerEpisode]:
    env, distracted = "GraspSingleOpenedCokeCanInScene-v0", "GraspSingleOpenedCokeCanDistractorInScene-v0"
    if scenario == VISUAL_MATCHING:
        photograph = {"scene_name": _TABLE, "rgb_overlay_path": _OVERLAYS + "google_coke_can_real_eval_1.png"}
        scenes = [(urdf, env, photograph | {"urdf_version": urdf}) for urdf in _URDFS]
    else:
        scenes = [
            ("base", env, {"scene_name": _TABLE}),
            ("distractors", distracted, {"scene_name": _TABLE}),
            ("more distractors", distracted, {"scene_name": _TABLE, "distractor_config": "more"}),
            *((name, env, build) for name, build in _TABLE_SCENES),
        ]
    positions = _objects(_between(-0.35, -0.12, 5), _between(-0.02, 0.42, 5))
    for (name, env_name, build), can in itertools.product(scenes, _CANS):
        for position in positions:
            made = _google(80, **build, **{can: True})
            yield SimplerEpisode(env_name, made, _robot(0.35, 0.20) | position, f"{name}, {can}")


def _move_near(scenario: str) -> Iterator[SimplerEpisode]:
    if scenario == VISUAL_MATCHING:
        env = "MoveNearGoogleBakedTexInScene-v0"
        photograph = {"scene_name": _TABLE, "rgb_overlay_path": _OVERLAYS + "google_move_near_real_eval_1.png"}
        scenes = [(urdf, photograph | {"urdf_version": urdf}) for urdf in _URDFS]
    else:
        env = "MoveNearGoogleInScene-v0"
        plain = {"scene_name": _TABLE}
        scenes = [("base", plain), ("no distractor", plain | {"no_distractor": True}), *_TABLE_SCENES]
    for (name, build), layout in itertools.product(scenes, _layouts(60)):
        yield SimplerEpisode(env, _google(80, **build), _robot(0.35, 0.21, -0.09) | layout, name)


def _photographed_cabinet(poses: Sequence[str], **build: Any) -> Iterator[tuple[str, _Build, dict[str, Any]]]:
    """Variant, build and robot pose, for every recoloured robot and pose."""
    look = {"station_name": "mk_station_recolor", "light_mode": "simple", "disable_bad_material": True}
    for urdf, pose in itertools.product(_URDFS, poses):
        made = {
            "scene_name": "dummy_drawer",
            "shader_dir": "rt",
            **look,
            "urdf_version": urdf,
            "rgb_overlay_path": f"{_OVERLAYS}open_drawer_{pose}.png",
            **build,
        }
        yield urdf, made, _robot(*_CABINET_POSES[pose])


def _drawer(scenario: str) -> Iterator[SimplerEpisode]:
    (nothing,) = _objects([0.0], [0.0])
    poses = [_robot(x, y) for x, y in itertools.product(_between(0.65, 0.85, 3), _between(-0.2, 0.2, 3))]
    if scenario == VISUAL_MATCHING:
        scenes = list(_photographed_cabinet(tuple(_CABINET_POSES)))
    else:
        scenes = [(name, build, pose) for (name, build), pose in itertools.product(_CABINET_SCENES, poses)]
    for drawer, (name, build, pose) in itertools.product(_DRAWERS, scenes):
        made = _google(113, **build)
        yield SimplerEpisode(f"{drawer}DrawerCustomInScene-v0", made, pose | nothing, f"{name}, {drawer}")


def _place(scenario: str) -> Iterator[SimplerEpisode]:
    if scenario == VISUAL_MATCHING:
        scenes = list(_photographed_cabinet(("a0", "b0", "c0"), model_ids="baked_apple_v2"))
    else:
        poses = [_robot(0.65, y) for y in _between(-0.2, 0.2, 3)]
        apple = {"model_ids": "apple"}
        scenes = [(name, build | apple, pose) for (name, build), pose in itertools.product(_CABINET_SCENES, poses)]
    for (name, build, pose), apple_at in itertools.product(
        scenes, _objects(_between(-0.08, -0.02, 3), _between(-0.02, 0.08, 3))
    ):
        env = "PlaceIntoClosedTopDrawerCustomInScene-v0"
        yield SimplerEpisode(env, _google(200, **build), pose | apple_at, name)


def _widowx(env: str, sink: bool = False) -> Callable[[str], Iterator[SimplerEpisode]]:
    build = {
        "robot": "widowx_sink_camera_setup" if sink else "widowx",
        "control_freq": 5,
        "sim_freq": 500,
        "max_episode_steps": 120 if sink else 60,
        "scene_name": "bridge_table_1_v2" if sink else "bridge_table_1_v1",
        "rgb_overlay_path": _OVERLAYS + ("bridge_sink.png" if sink else "bridge_real_eval_1.png"),
    }
    pose = _robot(0.127, 0.06) if sink else _robot(0.147, 0.028)

    def episodes(scenario: str) -> Iterator[SimplerEpisode]:
        for layout in _layouts(24) if scenario == VISUAL_MATCHING else ():
            yield SimplerEpisode(env, build, pose | layout, "")

    return episodes


_EPISODES: dict[str, Callable[[str], Iterator[SimplerEpisode]]] = {
    "google_robot_pick_coke_can": _pick,
    "google_robot_move_near": _move_near,
    "google_robot_drawer": _drawer,
    "google_robot_place_apple_in_closed_top_drawer": _place,
    "widowx_spoon_on_towel": _widowx("PutSpoonOnTableClothInScene-v0"),
    "widowx_carrot_on_plate": _widowx("PutCarrotOnPlateInScene-v0"),
    "widowx_stack_cube": _widowx("StackGreenCubeOnYellowCubeBakedTexInScene-v0"),
    "widowx_put_eggplant_in_basket": _widowx("PutEggplantInBasketScene-v0", sink=True),
}
TASKS = tuple(_EPISODES)  # google_robot_drawer: opening and closing, all three drawers
SCENARIOS = (VISUAL_MATCHING, VARIANT_AGGREGATION)


@functools.cache
def episodes(task: str, scenario: str) -> tuple[SimplerEpisode, ...]:
    """All episodes of a task, in the order of their numbers; none where the benchmark has no such scenario."""
    in_order = list(_EPISODES[task](scenario))
    keys = [hashlib.sha256(f"{task} {scenario} {place}".encode()).digest() for place in range(len(in_order))]
    return tuple(in_order[place] for place in sorted(range(len(in_order)), key=keys.__getitem__))
