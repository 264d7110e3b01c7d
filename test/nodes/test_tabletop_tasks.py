# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Family and scenario of the tabletop node: told in ~/episode, changed at the next reset, and the camera of a
variant reaches consumers as camera_info and TF under the stamp of the image that it took."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")
pytest.importorskip("mujoco", reason="needs MuJoCo")

from rclpy.time import Time
from tabletop_client import Client, tabletop

from sqap_vla.nodes.conversions import camera_from_info, matrix_from_transform, stamp_ns
from sqap_vla.nodes.tabletop_parameters import TabletopParameters
from sqap_vla.sim import EnvironmentConfig, TabletopEnv, camera_T_base, intrinsics, parse_instruction

SEED = 3  # its variant is another camera


@pytest.fixture(scope="module")
def cell() -> Iterator[Client]:
    mode = ("step_mode:=lockstep", "auto_reset:=false", f"seed:={SEED}")
    with tabletop(*mode, "family:=drawer", "scenario:=variant_aggregation") as client:
        yield client


def restart(cell: Client, **parameters: object) -> dict:
    """The episode that a reset with these parameters begins; a seed counts as set where it changes."""
    if "seed" in parameters:
        assert cell.set_parameter("seed", 1000).successful
    for name, value in parameters.items():
        assert cell.set_parameter(name, value).successful
    count = cell.episode()["episode"]
    assert cell.trigger("reset").success
    return cell.wait(lambda: cell.episode()["episode"] == count + 1 and cell.episode(), "the next episode")


def test_episode_tells_family_scenario_and_what_varies(cell: Client) -> None:
    episode = restart(cell, seed=SEED)
    expected = TabletopEnv(EnvironmentConfig(observe_rgb=False))
    _, info = expected.reset(seed=SEED, options={"family": "drawer", "scenario": "variant_aggregation"})
    assert {key: episode[key] for key in ("seed", "scenario", "family", "instruction")} == {
        key: info[key] for key in ("seed", "scenario", "family", "instruction")
    }
    assert episode["varied"] == list(info["varied"]) == ["camera"]


def test_the_camera_of_a_variant_is_the_one_that_is_published(cell: Client) -> None:
    restart(cell, seed=SEED)
    expected = TabletopEnv(EnvironmentConfig(observe_rgb=False))
    for scenario in ("variant_aggregation", "visual_matching"):
        restart(cell, seed=SEED, scenario=scenario)
        expected.reset(seed=SEED, options={"family": "drawer", "scenario": scenario})
        stamp = stamp_ns(cell.frame().header.stamp)
        cell.wait(lambda stamp=stamp: stamp in cell.stamps("camera/camera_info"), "camera_info of the frame")
        assert np.allclose(camera_from_info(cell.last("camera/camera_info")).matrix, intrinsics(expected.camera))

        at = Time(nanoseconds=stamp)
        cell.base_T_ee(stamp)  # comes in the same message
        pose = matrix_from_transform(cell.buffer.lookup_transform("camera_optical_frame", "base_link", at).transform)
        assert np.allclose(pose, camera_T_base(expected.camera), atol=1e-9)


def test_family_changes_at_the_next_reset_and_an_instruction_brings_its_own(cell: Client) -> None:
    assert restart(cell, family="place")["family"] == "place"
    assert cell.set_parameter("instruction", "move the red cube near the blue cube").successful
    cell.wait(lambda: cell.episode()["family"] == "move_near", "the task of the instruction")
    assert restart(cell)["instruction"] == "move the red cube near the blue cube"
    assert restart(cell, instruction="")["family"] == "place"


def test_any_family_takes_them_in_turn(cell: Client) -> None:
    seen = [restart(cell, family="any", seed=seed)["family"] for seed in (8, 9, 10, 11)]
    assert seen == ["pick", "move_near", "drawer", "place"]
    assert restart(cell, family="drawer", seed=SEED)["family"] == "drawer"


def test_unknown_families_and_scenarios_are_refused(cell: Client) -> None:
    refused = cell.set_parameter("family", "stack")
    assert not refused.successful and "pick, move_near, drawer, place" in refused.reason
    refused = cell.set_parameter("scenario", "moon")
    assert not refused.successful and "visual_matching, variant_aggregation" in refused.reason


@pytest.mark.parametrize("sentence", ["pick up the red cube", "put the red cube in the drawer"])
def test_zero_steps_means_the_time_limit_of_the_task(sentence: str) -> None:
    limit_s = parse_instruction(sentence).time_limit_s
    assert TabletopParameters().frame_limit(limit_s) == round(5 * limit_s)
    assert TabletopParameters(max_steps=7).frame_limit(limit_s) == 7
