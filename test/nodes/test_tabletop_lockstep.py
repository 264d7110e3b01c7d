# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The tabletop node in lockstep and in a namespace: time stands still until the frame is answered."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")
pytest.importorskip("mujoco", reason="needs MuJoCo")

from std_msgs.msg import Float64MultiArray
from tabletop_client import Client, tabletop

from sqap_vla.nodes.conversions import stamp_ns


@pytest.fixture(scope="module")
def lockstep() -> Iterator[Client]:
    size = ("image_width_px:=640", "image_height_px:=480")
    mode = ("seed:=5", "step_mode:=lockstep", "max_steps:=6", "reset_delay_s:=0.0")
    with tabletop(*mode, *size, namespace="/cell") as client:
        yield client


def test_lockstep_steps_once_per_command_by_exactly_its_delta(lockstep: Client) -> None:
    lockstep.trigger("reset")
    first = stamp_ns(lockstep.frame().header.stamp)
    start = lockstep.base_T_ee(first)
    lockstep.send((0.0, 0.1, 0.1), at_ns=first - 1)  # older than the frame: no answer to it
    lockstep.send((0.0, 0.0, 0.1), at_ns=first)
    lockstep.gripper.publish(Float64MultiArray(data=[1.0]))
    lockstep.wait(lambda: stamp_ns(lockstep.last("camera/image_raw").header.stamp) > first, "the next frame")
    second = stamp_ns(lockstep.last("camera/image_raw").header.stamp)
    assert second - first == 200_000_000
    lockstep.trigger("step")  # holds still; lets the servo settle
    lockstep.wait(lambda: stamp_ns(lockstep.last("camera/image_raw").header.stamp) > second, "the next frame")
    settled = lockstep.base_T_ee(stamp_ns(lockstep.last("camera/image_raw").header.stamp))
    assert np.allclose(settled[:3, 3] - start[:3, 3], (0.0, 0.0, 0.02), atol=1e-3)


def test_time_limit_ends_the_episode_and_the_next_seed_follows(lockstep: Client) -> None:
    lockstep.trigger("reset")
    seed = lockstep.episode()["seed"]
    for _ in range(7):  # six frames of this episode, then the reset
        assert lockstep.trigger("step").success
    lockstep.wait(lambda: lockstep.episode()["seed"] == seed + 1, "the next seed")
    states = [json.loads(m.data) for m in lockstep.heard["tabletop/episode"]]
    assert [s["state"] for s in states if s["seed"] == seed][-1] == "timeout"
