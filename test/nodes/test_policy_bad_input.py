# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The policy as a process under bad input: each kind has its word in ~/status, no motion, no crash, and it recovers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import cv2
import pytest
from builtin_interfaces.msg import Time
from policy_client import ACTIVATE, CONFIGURE, RGB, Robot, transform, velocity
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from sqap_vla.nodes.conversions import stamp_msg, stamp_ns


@pytest.fixture(autouse=True)
def running(robot: Robot) -> Iterator[None]:
    """Every test ends with good input, and with a policy that has recovered."""
    robot.start(max_chunk_age_s=0.5)
    robot.more("dry_run/target_pose")
    yield
    is_fine(robot)


def edited(**fields: Any) -> Callable[[Any], Any]:
    def bend(msg: Any) -> Any:
        for name, value in fields.items():
            setattr(msg, name, value)
        return msg

    return bend


def shifted(seconds: float) -> Callable[[Image], Image]:
    def bend(msg: Image) -> Image:
        msg.header.stamp = stamp_msg(stamp_ns(msg.header.stamp) + int(seconds * 1e9))
        return msg

    return bend


def unstamped(msg: Image) -> Image:
    msg.header.stamp = Time()
    return msg


def is_fine(robot: Robot) -> None:
    robot.bend.clear()
    robot.forget()
    robot.wait(lambda: any(any(velocity(msg)) for msg in robot.heard["dry_run/twist"]), "motion")
    robot.wait(lambda: not any(key.startswith("tf/warning/") for key in robot.values()), "no warning is left")
    robot.has_value("input/last_rejection", "")
    robot.has_value("tokens/fallback", "")


@pytest.mark.parametrize(
    "bend, reason",
    [
        (edited(encoding="16UC1"), "image_encoding"),
        (edited(encoding="rgba8"), "image_layout"),  # step is for rgb8
        (edited(data=bytes(100)), "image_layout"),
        (edited(is_bigendian=1), "image_big_endian"),
        (edited(width=0, height=0, step=0, data=b""), "image_size"),
        (unstamped, "stamp_missing"),
        (shifted(5.0), "stamp_in_future"),
        (shifted(-5.0), "image_stale"),
    ],
)
def test_a_frame_that_cannot_be_used_is_refused_and_motion_ends(robot: Robot, bend: Callable, reason: str):
    robot.bend["image"] = bend
    robot.has_value("input/last_rejection", reason)
    robot.has_value("command/stop_reason", "chunk_too_old")
    robot.forget()
    robot.more("status")
    assert not robot.heard["chunk"] and not any(any(velocity(msg)) for msg in robot.heard["dry_run/twist"])
    assert int(robot.values()[f"input/rejected/{reason}"]) > 1


def test_one_bad_frame_among_good_ones_stops_nothing(robot: Robot):
    before = int(robot.values().get("input/rejected/image_encoding", "0"))
    number = 0

    def every_third(msg: Image) -> Image:
        nonlocal number
        number += 1
        return edited(encoding="32FC1")(msg) if number % 3 == 0 else msg

    robot.bend["image"] = every_third
    robot.forget()
    robot.more("dry_run/target_pose", 10)
    robot.wait(lambda: int(robot.values().get("input/rejected/image_encoding", "0")) > before, "it is counted")
    assert robot.values()["command/stop_reason"] == ""


NAN = float("nan")


@pytest.mark.parametrize(
    "bend, warning",
    [
        (edited(k=[0.0] * 9), "camera_info_invalid"),
        (edited(k=[NAN, 0.0, 32.0, 0.0, 60.0, 24.0, 0.0, 0.0, 1.0]), "camera_info_invalid"),
        (edited(width=640, height=480), "camera_info_size"),
        (edited(distortion_model="fov"), "camera_info_invalid"),
        (edited(d=[0.1] * 5), "camera_info_invalid"),  # five numbers, no model
    ],
)
def test_intrinsics_that_cannot_be_used_cost_the_ring_not_the_motion(robot: Robot, bend: Callable, warning: str):
    robot.bend["camera_info"] = bend
    robot.has_value("tokens/fallback", "no_camera_info")
    robot.wait(lambda: f"tf/warning/{warning}" in robot.values(), warning)
    assert (robot.values()["tokens/kept"], robot.values()["tokens/kept_ring"]) == ("154", "0")
    robot.more("dry_run/target_pose", 3)


def hand_at(x: float, z: float) -> Callable:
    def bend(msg: Any) -> Any:
        msg.transforms[0].transform.translation.x, msg.transforms[0].transform.translation.z = x, z
        return msg

    return bend


def without_camera(msg: Any) -> Any:
    del msg.transforms[1]
    return msg


@pytest.mark.parametrize(
    "bend, fallback",
    [
        (hand_at(0.3, -0.9), "behind_camera"),
        (hand_at(0.95, -0.7), "outside_image"),
        (without_camera, "no_camera_transform"),
    ],
)
def test_a_hand_that_is_not_in_view_costs_the_ring_not_the_motion(robot: Robot, bend: Callable, fallback: str):
    robot.bend["tf"] = bend
    robot.has_value("tokens/fallback", fallback)
    robot.more("dry_run/target_pose", 3)


def camera_elsewhere(msg: Image) -> Image:
    msg.header.frame_id = ""
    return msg


def test_an_image_without_frame_costs_the_ring(robot: Robot):
    robot.bend["image"] = camera_elsewhere
    robot.wait(lambda: "tf/warning/camera_frame_unknown" in robot.values(), "a warning")
    robot.has_value("tokens/fallback", "no_camera_transform")
    robot.more("dry_run/target_pose", 3)


def broken_quaternion(msg: Any) -> Any:
    msg.transforms[0].transform.rotation.w = NAN
    return msg


def another_child(msg: Any) -> Any:
    msg.transforms[0] = transform("elbow", 0.2, msg.transforms[0].header.stamp)
    return msg


@pytest.mark.parametrize("bend", [broken_quaternion, another_child])
def test_a_hand_whose_pose_is_not_known_is_not_moved(robot: Robot, bend: Callable):
    robot.bend["tf"] = bend
    stops = ("no_end_effector_pose", "chunk_too_old")  # chunks without an anchor are not followed, either

    def stopped_for_it() -> bool:
        """In one and the same status: on a busy machine an earlier chunk may have been too old for a moment."""
        values = robot.values()
        return "tf/warning/ee_transform_stale" in values and values.get("command/stop_reason") in stops

    robot.wait(stopped_for_it, "a stop because of it")
    robot.more("status")  # what was on its way is here
    robot.forget()
    robot.more("status", 2)
    assert not any(any(velocity(msg)) for msg in robot.heard["dry_run/twist"])


def test_dense_keeps_every_token_without_geometry(robot: Robot):
    robot.start(no_geometry="dense")
    robot.bend["camera_info"] = edited(k=[0.0] * 9)
    robot.has_value("tokens/fallback", "no_camera_info")
    robot.has_value("tokens/kept", "256")
    robot.bend.clear()
    robot.has_value("tokens/kept", "154")


def test_without_any_camera_info_it_says_that_none_came(robot: Robot):
    robot.unconfigure()
    robot.bend["camera_info"] = lambda msg: None
    robot.go(CONFIGURE, ACTIVATE)
    robot.wait(lambda: "tf/warning/camera_info_missing" in robot.values(), "a warning")
    robot.bend.clear()
    robot.has_value("tokens/fallback", "")


def test_compressed_garbage_is_refused_and_a_picture_is_read(robot: Robot):
    png = cv2.imencode(".png", RGB[:, :, ::-1])[1].tobytes()
    publisher = robot.node.create_publisher(CompressedImage, "image/compressed", QoSProfile(depth=5))
    sent = {"data": png, "format": "rgb8; png compressed bgr8"}

    def also_compressed(msg: Image) -> Image:
        publisher.publish(CompressedImage(header=msg.header, **sent))
        return msg

    robot.start(image_transport="compressed")
    robot.bend["image"] = also_compressed
    robot.more("dry_run/target_pose", 3)
    for bad, reason in (
        ({"data": png[:200]}, "image_compressed"),
        ({"data": b""}, "image_compressed"),
        ({"format": "16UC1; compressedDepth png"}, "image_encoding"),
    ):
        sent.update({"data": png, "format": "png", **bad})
        robot.has_value("input/last_rejection", reason)
        sent.update({"data": png, "format": "png"})
        robot.has_value("input/last_rejection", "")
    robot.bend.clear()
    robot.node.destroy_publisher(publisher)


def test_it_is_still_the_same_process(robot: Robot):
    """NaN in a message of a type that is not an image's, and a burst: nothing of it ends the node."""
    robot.bend["camera_info"] = lambda msg: CameraInfo(k=[NAN] * 9, d=[NAN] * 3, width=2**32 - 1, binning_x=2**32 - 1)
    for _ in range(200):
        robot.send_frame()
    robot.has_value("tokens/fallback", "no_camera_info")
