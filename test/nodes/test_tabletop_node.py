# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The tabletop node as a process of its own, seen through DDS as any consumer sees it, while time runs.

Pinned: all messages of a frame carry one stamp; K and TF put the end-effector on the gripper's dark pixels; a
twist moves the arm by twist x time; silence stops it; reset, instruction, refused commands do as documented.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")
pytest.importorskip("mujoco", reason="needs MuJoCo")

from rcl_interfaces.srv import DescribeParameters
from rclpy.time import Time
from std_msgs.msg import Float64MultiArray, String
from tabletop_client import TIMEOUT_S, Client, node_command, node_environment, tabletop

from sqap_vla.nodes.conversions import (
    camera_from_info,
    matrix_from_transform,
    rgb_from_image,
    stamp_ns,
)
from sqap_vla.pruning.projection import project


@pytest.fixture(scope="module")
def realtime() -> Iterator[Client]:
    with tabletop("seed:=3", "auto_reset:=false", "max_steps:=100000") as client:
        yield client


@pytest.fixture()
def at_home(realtime: Client) -> Client:
    assert realtime.trigger("reset").success
    realtime.frame()
    return realtime


def test_a_frame_comes_with_its_geometry_under_one_stamp(at_home: Client) -> None:
    image = at_home.frame()
    stamp = stamp_ns(image.header.stamp)
    at_home.base_T_ee(stamp)
    at_home.wait(lambda: stamp in at_home.stamps("camera/camera_info"), "camera_info of the frame")
    at_home.wait(lambda: stamp in at_home.stamps("joint_states"), "joint states of the frame")
    assert stamp in [stamp_ns(m.clock) for m in at_home.heard["/clock"]]
    assert (image.encoding, image.width, image.height, image.header.frame_id) == (
        "rgb8",
        320,
        240,
        "camera_optical_frame",
    )
    assert at_home.last("joint_states").name[:2] == ["waist", "shoulder"]
    first, second = at_home.frame(), at_home.frame()
    assert stamp_ns(second.header.stamp) - stamp_ns(first.header.stamp) == 200_000_000


def test_camera_info_and_tf_put_the_end_effector_on_the_gripper(at_home: Client) -> None:
    at_home.gripper.publish(Float64MultiArray(data=[0.0]))
    finger = [name for name in at_home.last("joint_states").name].index("left_finger")
    at_home.wait(lambda: at_home.last("joint_states").position[finger] < 0.001, "the gripper to close")
    image = at_home.frame()
    stamp = stamp_ns(image.header.stamp)
    at_home.base_T_ee(stamp)
    at = Time(nanoseconds=stamp)
    camera_T_ee = matrix_from_transform(
        at_home.buffer.lookup_transform("camera_optical_frame", "gripper_tcp", at).transform
    )
    ((u, v),) = np.round(
        project(camera_from_info(at_home.last("camera/camera_info")), camera_T_ee[None, :3, 3])
    ).astype(int)
    patch = rgb_from_image(image)[v - 2 : v + 3, u - 2 : u + 3]
    assert patch.max(axis=2).min() < 60  # the fingers are nearly black, the table is light


def test_a_twist_moves_the_end_effector_by_speed_times_time(at_home: Client) -> None:
    start_ns = stamp_ns(at_home.frame().header.stamp)
    start = at_home.base_T_ee(start_ns)
    for _ in range(5):
        at_home.send((0.05, 0.0, 0.10))
        at_home.frame()
    at_home.send()  # an explicit stop
    first = at_home.frame()
    stopped = at_home.base_T_ee(stamp_ns(at_home.frame().header.stamp))
    moved = stopped[:3, 3] - start[:3, 3]
    span_s = (stamp_ns(first.header.stamp) - start_ns) / 1e9
    assert np.isclose(moved[0] / moved[2], 0.5, atol=0.02) and abs(moved[1]) < 1e-3
    # Commands start and end within a frame, and pause where this process is held up; lockstep is exact.
    assert 0.5 * 0.10 * span_s < moved[2] < 0.10 * (span_s + 0.05)
    assert np.allclose(stopped[:3, :3], start[:3, :3], atol=0.01)


def test_silence_stops_the_arm(at_home: Client) -> None:
    start = at_home.base_T_ee(stamp_ns(at_home.frame().header.stamp))
    start_ns = at_home.now_ns()
    at_home.send((0.0, 0.0, 0.10), at_ns=start_ns)
    at_home.wait(lambda: at_home.now_ns() > start_ns + 600_000_000, "0.6 s of simulated time")
    once = at_home.base_T_ee(stamp_ns(at_home.frame().header.stamp))
    later = at_home.base_T_ee(stamp_ns(at_home.frame().header.stamp))
    assert 0.0 < once[2, 3] - start[2, 3] <= 0.10 * 0.34 + 1e-3  # no longer than the timeout and one tick
    assert np.abs(later - once).max() < 1e-3


@pytest.mark.parametrize(
    ("values", "options"),
    [
        ((float("nan"), 0.0, 0.0), {}),
        ((0.1, 0.0, 0.0), {"frame": "gripper_tcp"}),
        ((0.1, 0.0, 0.0), {"at_ns": 1_700_000_000_000_000_000}),
        ((0.1, 0.0, 0.0), {"at_ns": 0}),
    ],
)
def test_a_command_that_cannot_be_believed_moves_nothing(at_home: Client, values: tuple, options: dict) -> None:
    start = at_home.base_T_ee(stamp_ns(at_home.frame().header.stamp))
    at_home.send(values, **options)
    for _ in range(2):
        image = at_home.frame()
    assert np.abs(at_home.base_T_ee(stamp_ns(image.header.stamp)) - start).max() < 1e-3


def test_reset_starts_the_next_seed_and_time_goes_on(at_home: Client) -> None:
    before = at_home.episode()
    before_ns = at_home.now_ns()
    response = at_home.trigger("reset")
    at_home.wait(lambda: at_home.episode()["seed"] == before["seed"] + 1, "the next seed")
    episodes = [json.loads(message.data) for message in at_home.heard["tabletop/episode"]]
    first = next(episode for episode in episodes if episode["seed"] == before["seed"] + 1)
    assert response.success and first["state"] == "running" and first["steps"] == 0
    at_home.wait(lambda: at_home.last("instruction").data == first["instruction"], "its instruction")
    assert at_home.last("tabletop/success").data is False
    assert stamp_ns(at_home.frame().header.stamp) > before_ns


def test_the_seed_that_is_set_is_the_next_also_where_it_was_before(at_home: Client) -> None:
    for _ in range(2):
        assert at_home.set_parameter("seed", 41).successful
        count = at_home.episode()["episode"]
        assert "seed 41" in at_home.trigger("reset").message
        at_home.wait(lambda count=count: at_home.episode()["episode"] > count, "the episode")


def test_instruction_changes_by_parameter_and_by_topic(at_home: Client) -> None:
    assert at_home.set_parameter("instruction", "pick up the blue cube").successful
    at_home.wait(
        lambda: at_home.last("instruction").data == "pick up the blue cube",
        "the instruction set by parameter",
    )
    at_home.instruction.publish(String(data="pick up the green cube"))
    at_home.wait(lambda: at_home.episode()["instruction"] == "pick up the green cube", "the instruction sent by topic")
    at_home.trigger("reset")
    at_home.frame()
    assert at_home.episode()["instruction"] == "pick up the green cube"  # kept for later episodes
    assert at_home.set_parameter("instruction", "pick up the blue cube").successful  # as it was set before
    at_home.wait(lambda: at_home.last("instruction").data == "pick up the blue cube", "the parameter again")
    refused = at_home.set_parameter("instruction", "make coffee")
    assert not refused.successful and "it knows: pick up the red|green|blue cube" in refused.reason


def test_static_parameters_are_read_only_and_described(at_home: Client) -> None:
    assert not at_home.set_parameter("rate_hz", 10.0).successful
    request = DescribeParameters.Request(names=["rate_hz"])
    (descriptor,) = at_home.call(DescribeParameters, "tabletop/describe_parameters", request).descriptors
    assert (
        descriptor.read_only
        and "[Hz]" in descriptor.description
        and descriptor.floating_point_range[0].to_value == 25.0
    )


def test_step_is_refused_in_realtime(at_home: Client) -> None:
    response = at_home.trigger("step")
    assert not response.success and "lockstep" in response.message


def test_a_bad_parameter_ends_the_process_with_the_reason() -> None:
    done = subprocess.run(
        node_command("step_mode:=warp"),
        env=node_environment(),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert done.returncode == 1 and "realtime, lockstep" in done.stdout + done.stderr
