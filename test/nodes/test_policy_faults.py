# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The policy as a process while its surroundings misbehave: it lives, keeps its limits, and says what is wrong."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from geometry_msgs.msg import TransformStamped
from policy_client import (
    ACTIVATE,
    CONFIGURE,
    HEIGHT,
    LIMITS,
    PARAMETERS,
    WIDTH,
    Robot,
    policy_process,
    velocity,
)
from sensor_msgs.msg import CameraInfo, Image
from tf2_msgs.msg import TFMessage

from sqap_vla.cogact.random_checkpoint import write_random_checkpoint
from sqap_vla.nodes.conversions import image_from_rgb, stamp_msg, stamp_ns
from sqap_vla.quantization.artifact import write_artifact
from sqap_vla.quantization.order import Recipe
from sqap_vla.quantization.policy import preset

MAX_M_S = LIMITS["limits.max_linear_m_s"]


@pytest.fixture
def moving(robot: Robot) -> Iterator[Robot]:
    """It moves before and after; whatever came between was within the limits."""
    robot.start()
    robot.wait(robot.moves, "motion")
    yield robot
    for msg in robot.heard["dry_run/twist"]:
        assert np.isfinite(velocity(msg)).all() and np.linalg.norm(velocity(msg)[:3]) <= MAX_M_S + 1e-9
    robot.bend.clear()
    robot.forget()
    robot.wait(robot.moves, "motion again")


def chunks(robot: Robot) -> int:
    return int(robot.values().get("inference/chunks", "0"))


def test_a_camera_at_ten_times_its_rate_costs_frames_not_motion(moving: Robot):
    before = int(moving.values().get("input/frames_replaced", "0"))
    flood = moving.node.create_timer(0.005, moving.send_frame)
    moving.wait(lambda: int(moving.values().get("input/frames_replaced", "0")) > before + 50, "replaced frames")
    moving.more("dry_run/twist", 5)
    moving.has_value("command/stop_reason", "")
    moving.node.destroy_timer(flood)


def enlarged(factor: int):
    """Bends of image and intrinsics: the camera now sends `factor` times the width and height."""

    def image(msg: Image) -> Image:
        rgb = np.full((HEIGHT * factor, WIDTH * factor, 3), 90, np.uint8)
        return image_from_rgb(rgb, msg.header.stamp, msg.header.frame_id)

    def info(msg: CameraInfo) -> CameraInfo:
        msg.width, msg.height = WIDTH * factor, HEIGHT * factor
        msg.k = [*(msg.k[:8] * factor), 1.0]
        return msg

    return {"image": image, "camera_info": info}


def test_another_resolution_in_the_middle_is_taken(moving: Robot):
    moving.bend |= enlarged(3)
    before = chunks(moving)
    moving.wait(lambda: chunks(moving) > before + 5, "chunks")
    moving.has_value("tokens/fallback", "")
    moving.has_value("command/stop_reason", "")


def test_another_resolution_of_the_image_alone_costs_the_ring(moving: Robot):
    moving.bend["image"] = enlarged(3)["image"]
    moving.wait(lambda: moving.values().get("tokens/fallback"), "a fallback")
    moving.more("dry_run/twist", 3)
    moving.has_value("command/stop_reason", "")


def test_single_4k_frames_are_answered(moving: Robot):
    big = {"rgb": np.full((2160, 3840, 3), 120, np.uint8), "sent": 0}

    def sometimes(msg: Image) -> Image:
        big["sent"] += 1
        return image_from_rgb(big["rgb"], msg.header.stamp, msg.header.frame_id) if big["sent"] % 20 == 0 else msg

    moving.bend["image"] = sometimes
    moving.wait(lambda: big["sent"] >= 60, "three big frames")
    moving.more("dry_run/twist", 5)
    moving.has_value("inference/last_error", "")


def test_two_cameras_on_one_topic_are_told(moving: Robot):
    second = moving.node.create_publisher(Image, "image", 5)
    moving.has_value("input/image_publishers", "2")
    moving.node.destroy_publisher(second)
    moving.has_value("input/image_publishers", "1")


def test_the_same_frame_from_two_publishers_is_taken_once(moving: Robot):
    second = moving.node.create_publisher(Image, "image", 5)

    def twice(msg: Image) -> Image:
        second.publish(msg)
        return msg

    moving.bend["image"] = twice
    moving.wait(lambda: int(moving.values().get("input/rejected/image_out_of_order", "0")) > 10, "refused doubles")
    moving.more("dry_run/twist", 5)
    moving.has_value("command/stop_reason", "")
    moving.node.destroy_publisher(second)


def test_a_flood_of_instructions_leaves_it_alive_and_the_last_one_holds(moving: Robot):
    for number in range(1500):
        moving.say(f"pick up cube number {number}")
    moving.say("pick up the blue cube")
    moving.has_value("input/instruction", "pick up the blue cube")
    moving.more("chunk", 2)
    moving.wait(moving.moves, "motion")


def late(seconds: float):
    def bend(msg: TFMessage) -> TFMessage:
        for transform in msg.transforms:
            transform.header.stamp = stamp_msg(stamp_ns(transform.header.stamp) - round(seconds * 1e9))
        return msg

    return bend


def test_transforms_that_come_half_a_second_late_stop_the_robot(moving: Robot):
    moving.bend["tf"] = late(0.6)
    moving.has_value("command/stop_reason", "no_end_effector_pose")
    moving.wait_stopped()


def hand_at(x: float):
    def bend(msg: TFMessage) -> TFMessage:
        hand: TransformStamped = msg.transforms[0]
        hand.transform.translation.x = x
        return msg

    return bend


def test_a_hand_that_jumps_is_followed_within_the_limits(moving: Robot):
    """Measured 30 cm away from one frame to the next, and back: a wrong calibration, a slipped encoder."""
    for x in (0.6, 0.3, 0.6, 0.3):
        moving.bend["tf"] = hand_at(x)
        before = chunks(moving)
        moving.wait(lambda before=before: chunks(moving) > before + 2, "chunks")
    for pose in moving.heard["dry_run/target_pose"]:
        reach = min(abs(pose.pose.position.x - x) for x in (0.3, 0.6))
        assert reach <= MAX_M_S * 0.2 + 1e-6, "a target is never further away than one row reaches"


def test_a_hand_outside_the_workspace_is_led_inwards_only(moving: Robot):
    moving.bend["tf"] = hand_at(1.5)
    moving.forget()
    moving.more("chunk", 3)
    moving.forget()
    moving.more("dry_run/twist", 10)
    assert all(velocity(msg)[0] <= 0 for msg in moving.heard["dry_run/twist"])


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    checkpoint = write_random_checkpoint(tmp_path / "checkpoint", seed=2)
    write_artifact(checkpoint, tmp_path / "artifact", Recipe(torch.float32, preset("default")), checkpoint)
    return tmp_path / "artifact"


def test_weights_that_are_destroyed_while_it_runs_change_nothing(artifact: Path, tmp_path: Path):
    """Overwritten in place, cut to nothing, deleted: what moves the robot lies in memory, not on the disk."""
    robot = Robot("/destroyed")
    with policy_process(
        tmp_path / "log", {**PARAMETERS, "checkpoint": str(artifact)}, remap={"__ns": "/destroyed"}
    ) as robot.process:
        robot.go(CONFIGURE, ACTIVATE)
        robot.wait(robot.moves, "motion")
        shards = sorted(artifact.glob("*.safetensors"))
        assert shards
        for shard in shards:
            with open(shard, "r+b") as file:
                file.write(os.urandom(shard.stat().st_size))
        before = chunks(robot)
        robot.wait(lambda: chunks(robot) > before + 3, "chunks from damaged files")
        for shard in shards:
            os.truncate(shard, 0)
        before = chunks(robot)
        robot.wait(lambda: chunks(robot) > before + 3, "chunks from empty files")
        for path in (*shards, artifact / "manifest.json"):
            path.unlink()
        before = chunks(robot)
        robot.wait(lambda: chunks(robot) > before + 3, "chunks without files")
        robot.has_value("inference/last_error", "")
    robot.close()
