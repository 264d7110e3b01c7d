# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""camera_info and transforms as they come from a graph.

Pinned: region of interest and binning move the intrinsics so that a point lands on the same place of the part
that is sent; any CameraInfo or Transform is converted or gives an InputError.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

pytest.importorskip("rclpy", reason="needs ROS 2")

from geometry_msgs.msg import Quaternion, Transform, Vector3
from sensor_msgs.msg import CameraInfo, RegionOfInterest

from sqap_vla.nodes.conversions import (
    InputError,
    camera_from_info,
    matrix_from_transform,
    pose_from_matrix,
)
from sqap_vla.pruning.projection import project

K = [500.0, 0.0, 320.0, 0.0, 510.0, 240.0, 0.0, 0.0, 1.0]
P = [400.0, 0.0, 300.0, -20.0, 0.0, 410.0, 200.0, 0.0, 0.0, 0.0, 1.0, 0.0]


def info(**changes: object) -> CameraInfo:
    fields = {
        "width": 640,
        "height": 480,
        "k": K,
        "p": P,
        "d": [0.1, -0.05, 0.001, 0.002, 0.01],
        "distortion_model": "plumb_bob",
    }
    return CameraInfo(**{**fields, **changes})


def refusal(msg: CameraInfo) -> str:
    with pytest.raises(InputError) as caught:
        camera_from_info(msg)
    assert caught.value.reason == "camera_info_invalid"
    return str(caught.value)


def test_plain_intrinsics_are_taken_as_they_are():
    camera = camera_from_info(info())
    np.testing.assert_array_equal(camera.matrix.ravel(), K)
    assert (camera.width, camera.height, camera.distortion_model) == (640, 480, "plumb_bob")
    assert camera.distortion == (0.1, -0.05, 0.001, 0.002, 0.01)


def test_a_rectified_image_takes_p_without_distortion():
    camera = camera_from_info(info(), rectified=True)
    np.testing.assert_array_equal(camera.matrix, [[400, 0, 300], [0, 410, 200], [0, 0, 1]])
    assert camera.distortion == ()


@pytest.mark.parametrize(
    "binning, roi",
    [
        ((2, 2), (0, 0, 0, 0)),
        ((2, 4), (0, 0, 0, 0)),
        ((1, 1), (100, 50, 320, 200)),
        ((0, 0), (100, 50, 320, 200)),
        ((2, 2), (100, 60, 320, 200)),
    ],
)
def test_a_point_lands_on_the_same_place_of_the_part_that_is_sent(binning: tuple[int, int], roi: tuple[int, ...]):
    """REP-104: the region is given in pixels of the full image; binning comes after it."""
    x, y, width, height = roi
    region = RegionOfInterest(x_offset=x, y_offset=y, width=width, height=height)
    camera = camera_from_info(info(binning_x=binning[0], binning_y=binning[1], roi=region))
    factors = np.maximum(binning, 1)
    assert (camera.width, camera.height) == tuple(np.array([width or 640, height or 480]) // factors)
    points = np.array([[0.05, -0.02, 1.0], [-0.2, 0.1, 0.8], [0.0, 0.0, 2.0]])
    full = project(camera_from_info(info()), points)
    np.testing.assert_allclose(project(camera, points), (full - (x, y)) / factors, atol=1e-9)


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"k": [0.0] * 9}, "uncalibrated"),
        ({"k": [math.nan, *K[1:]]}, "not finite"),
        ({"k": [*K[:4], math.inf, *K[5:]]}, "not finite"),
        ({"k": [-500.0, *K[1:]]}, "must be positive"),
        ({"k": [500.0, 3.0, *K[2:]]}, "without skew"),
        ({"d": [math.nan] * 5}, "not finite"),
        ({"d": [0.1] * 7}, "7 coefficients"),
        ({"d": [1e200, 0.0, 0.0, 0.0, 1e200]}, "no calibration"),
        ({"distortion_model": "fov"}, "'fov' is not supported"),
        ({"width": 0}, "0x480"),
        ({"binning_x": 1000}, "0x480"),
    ],
)
def test_intrinsics_that_mean_nothing_are_refused(changes: dict[str, object], said: str):
    assert said in refusal(info(**changes))


NUMBER = st.one_of(st.floats(), st.floats(-1, 1), st.sampled_from([0.0, 1.0, 500.0, 320.0]))
SIZE = st.one_of(st.integers(0, 700), st.integers(0, 2**32 - 1))


@given(
    msg=st.builds(
        CameraInfo,
        width=SIZE,
        height=SIZE,
        k=st.one_of(st.just(K), st.lists(NUMBER, min_size=9, max_size=9)),
        p=st.lists(NUMBER, min_size=12, max_size=12),
        d=st.lists(NUMBER, max_size=14),
        distortion_model=st.sampled_from(["plumb_bob", "rational_polynomial", "equidistant", "", "fov"]),
        binning_x=SIZE,
        binning_y=SIZE,
        roi=st.builds(RegionOfInterest, x_offset=SIZE, y_offset=SIZE, width=SIZE, height=SIZE),
    ),
    rectified=st.booleans(),
)
@settings(max_examples=1000, deadline=None)
def test_any_camera_info_is_taken_or_refused_and_projects(msg: CameraInfo, rectified: bool):
    try:
        camera = camera_from_info(msg, rectified)
    except InputError as error:
        assert error.reason == "camera_info_invalid"
        return
    assert camera.width > 0 and camera.height > 0 and np.isfinite(camera.matrix).all()
    assert project(camera, np.array([[0.1, 0.2, 1.0], [3.0, 0.0, 0.5], [0.0, 0.0, -1.0]])).shape == (3, 2)


# Transforms


def transform(t: tuple[float, ...] = (0.1, -0.2, 0.3), q: tuple[float, ...] = (0.0, 0.0, 0.0, 1.0)) -> Transform:
    return Transform(translation=Vector3(x=t[0], y=t[1], z=t[2]), rotation=Quaternion(x=q[0], y=q[1], z=q[2], w=q[3]))


@given(st.tuples(*[st.floats(-math.pi, math.pi)] * 3), st.tuples(*[st.floats(-5, 5)] * 3))
def test_a_pose_comes_back_from_its_message(angles: tuple[float, ...], position: tuple[float, ...]):
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", angles).as_matrix()
    matrix[:3, 3] = position
    pose = pose_from_matrix(matrix)
    q = pose.orientation
    again = matrix_from_transform(transform(position, (q.x, q.y, q.z, q.w)))
    np.testing.assert_allclose(again, matrix, atol=1e-12)


def test_rotation_and_translation_are_where_rep_103_has_them():
    quarter_turn = (0.0, 0.0, math.sin(math.pi / 4), math.cos(math.pi / 4))  # about z: x goes to y
    matrix = matrix_from_transform(transform((1.0, 2.0, 3.0), quarter_turn))
    np.testing.assert_allclose(matrix @ (1, 0, 0, 1), (1, 3, 3, 1), atol=1e-12)


@pytest.mark.parametrize(
    "q",
    [
        (0.0, 0.0, 0.0, 0.0),
        (0.0, 0.0, 0.0, 0.5),
        (1.0, 1.0, 1.0, 1.0),
        (0.0, 0.0, 0.0, 1e200),
        (math.nan, 0.0, 0.0, 1.0),
        (0.0, math.inf, 0.0, 1.0),
    ],
)
def test_what_is_no_rotation_is_refused(q: tuple[float, ...]):
    with pytest.raises(InputError) as caught:
        matrix_from_transform(transform(q=q))
    assert caught.value.reason == "transform_invalid" and "unit quaternion" in str(caught.value)


@given(t=st.tuples(*[st.floats()] * 3), q=st.tuples(*[st.one_of(st.floats(), st.floats(-1, 1))] * 4))
@settings(max_examples=300)
def test_any_transform_gives_a_rigid_matrix_or_is_refused(t: tuple[float, ...], q: tuple[float, ...]):
    try:
        matrix = matrix_from_transform(transform(t, q))
    except InputError as error:
        assert error.reason == "transform_invalid"
        return
    assert np.isfinite(matrix).all()
    np.testing.assert_allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3), atol=1e-9)
