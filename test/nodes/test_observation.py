# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""From messages to an Observation: which transform holds for an image, what is missing and what that means.

Pinned: without image or instruction there is no observation; without geometry there is one, with a warning that has
a fixed reason.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("rclpy", reason="needs ROS 2")

import tf2_ros
from geometry_msgs.msg import TransformStamped
from sensor_msgs.msg import CameraInfo, Image

from sqap_vla.nodes.conversions import InputError, stamp_msg
from sqap_vla.nodes.observation import Frames, ObservationBuilder
from sqap_vla.nodes.transforms import lookup

SECOND = 1_000_000_000
AT = 1_000 * SECOND
FRAMES = Frames(base="base_link", end_effector="tcp", tolerance_s=0.1)


def transform(parent: str, child: str, x: float, at_ns: int = AT) -> TransformStamped:
    msg = TransformStamped(child_frame_id=child)
    msg.header.frame_id, msg.header.stamp = parent, stamp_msg(at_ns)
    msg.transform.translation.x, msg.transform.rotation.w = x, 1.0
    return msg


def image(width: int = 8, height: int = 6, frame_id: str = "camera", at_ns: int = AT) -> Image:
    msg = Image(encoding="rgb8", width=width, height=height, step=3 * width, data=bytes(3 * width * height))
    msg.header.frame_id, msg.header.stamp = frame_id, stamp_msg(at_ns)
    return msg


def info(width: int = 8, height: int = 6) -> CameraInfo:
    return CameraInfo(width=width, height=height, k=[9.0, 0.0, 4.0, 0.0, 9.0, 3.0, 0.0, 0.0, 1.0])


@pytest.fixture
def buffer() -> tf2_ros.Buffer:
    buffer = tf2_ros.Buffer()
    buffer.set_transform(transform("base_link", "tcp", 0.3), "test")
    buffer.set_transform_static(transform("base_link", "camera", 0.1), "test")
    return buffer


@pytest.fixture
def builder(buffer: tf2_ros.Buffer) -> ObservationBuilder:
    builder = ObservationBuilder(FRAMES, buffer, "pick up the cube")
    builder.set_camera_info(info())
    return builder


def warnings(builder: ObservationBuilder, msg: Image) -> list[str]:
    return [warning.reason for warning in builder.build(msg).warnings]


def test_all_there_gives_geometry_without_warning(builder: ObservationBuilder):
    built = builder.build(image())
    observation = built.observation
    assert built.warnings == ()
    assert (observation.stamp_ns, observation.instruction) == (AT, "pick up the cube")
    assert observation.rgb.shape == (6, 8, 3) and observation.camera is not None
    np.testing.assert_allclose(observation.base_T_ee[:3, 3], (0.3, 0, 0))
    np.testing.assert_allclose(observation.camera_T_ee[:3, 3], (0.2, 0, 0))


@pytest.mark.parametrize("instruction", ["", "  ", "\n"])
def test_no_instruction_no_observation(builder: ObservationBuilder, instruction: str):
    builder.instruction = instruction
    with pytest.raises(InputError, match="publish a sentence on 'instruction'") as caught:
        builder.build(image())
    assert caught.value.reason == "instruction_empty"


def test_a_bad_image_is_no_observation(builder: ObservationBuilder):
    msg = image()
    msg.encoding = "32FC1"
    with pytest.raises(InputError):
        builder.build(msg)


def test_camera_info_missing_invalid_or_of_another_size_is_a_warning_until_a_good_one_comes(buffer: tf2_ros.Buffer):
    builder = ObservationBuilder(FRAMES, buffer, "pick")
    assert warnings(builder, image()) == ["camera_info_missing"]
    builder.set_camera_info(CameraInfo(width=8, height=6))
    assert warnings(builder, image()) == ["camera_info_invalid"]
    builder.set_camera_info(info(16, 12))
    built = builder.build(image())
    assert [warning.reason for warning in built.warnings] == ["camera_info_size"]
    assert "16x12" in str(built.warnings[0]) and "8x6" in str(built.warnings[0])
    assert built.observation.camera is None
    builder.set_camera_info(info())
    assert warnings(builder, image()) == []


def test_an_image_without_frame_needs_the_parameter(builder: ObservationBuilder, buffer: tf2_ros.Buffer):
    assert warnings(builder, image(frame_id="")) == ["camera_frame_unknown"]
    named = ObservationBuilder(Frames("base_link", "tcp", camera="camera"), buffer, "pick")
    named.set_camera_info(info())
    assert warnings(named, image(frame_id="nonsense")) == []


@pytest.mark.parametrize("frame_id", ["nowhere", "/camera", "ü", " "])
def test_a_camera_frame_that_is_not_on_tf_is_a_warning(builder: ObservationBuilder, frame_id: str):
    built = builder.build(image(frame_id=frame_id))
    assert [warning.reason for warning in built.warnings] == ["camera_transform_missing"]
    assert built.observation.camera_T_ee is None and built.observation.base_T_ee is not None


def test_no_end_effector_leaves_both_out():
    builder = ObservationBuilder(FRAMES, tf2_ros.Buffer(), "pick")
    builder.set_camera_info(info())
    assert warnings(builder, image()) == ["camera_transform_missing", "ee_transform_missing"]


def test_stale_transforms_have_a_reason_of_their_own(builder: ObservationBuilder):
    assert warnings(builder, image(at_ns=AT + SECOND // 20)) == []
    built = builder.build(image(at_ns=AT + SECOND))
    assert [warning.reason for warning in built.warnings] == ["camera_transform_stale", "ee_transform_stale"]
    assert "1.000 s" in str(built.warnings[0]) and "use_sim_time" in str(built.warnings[0])


@pytest.mark.parametrize("base, end_effector", [("", "tcp"), ("base", ""), ("base", "base")])
def test_frames_must_be_named_and_differ(base: str, end_effector: str):
    with pytest.raises(ValueError, match="both must be named, and differ"):
        Frames(base=base, end_effector=end_effector)


# Which transform holds at a stamp


def test_between_two_samples_it_is_interpolated(buffer: tf2_ros.Buffer):
    buffer.set_transform(transform("base_link", "tcp", 0.5, AT + SECOND), "test")
    found = lookup(buffer, "base_link", "tcp", AT + SECOND // 4, tolerance_s=0.0)
    np.testing.assert_allclose(found[:3, 3], (0.35, 0, 0))


@given(st.integers(-(10**9), 10**9), st.integers(0, 10**9))
def test_outside_the_samples_the_nearest_end_counts_within_the_tolerance(offset_ns: int, tolerance_ns: int):
    buffer = tf2_ros.Buffer()
    buffer.set_transform(transform("base_link", "tcp", 0.3), "test")
    try:
        found = lookup(buffer, "base_link", "tcp", AT + offset_ns, tolerance_ns / 1e9)
    except InputError as error:
        assert error.reason == "transform_stale" and abs(offset_ns) > tolerance_ns - 1
    else:
        assert abs(offset_ns) <= tolerance_ns + 1
        assert found[0, 3] == 0.3


def test_a_static_transform_holds_at_every_stamp():
    buffer = tf2_ros.Buffer()
    buffer.set_transform_static(transform("camera", "tcp", 0.7), "test")
    assert lookup(buffer, "camera", "tcp", AT + 3600 * SECOND, tolerance_s=0.0)[0, 3] == 0.7


def test_frames_of_two_trees_are_not_connected(buffer: tf2_ros.Buffer):
    buffer.set_transform(transform("world", "other", 0.0), "test")
    with pytest.raises(InputError) as caught:
        lookup(buffer, "other", "tcp", AT, tolerance_s=1.0)
    assert caught.value.reason == "transform_missing"
