# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The ring against tokens counted by hand, and its fallbacks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sqap_vla.pruning import ring as rings
from sqap_vla.pruning.projection import CameraModel
from sqap_vla.pruning.ring import pixel_to_token, ring_from_geometry

# tokens of 40 x 30 px
CAMERA = CameraModel(((400, 0, 320), (0, 400, 240), (0, 0, 1)), "plumb_bob", (), 640, 480)
ORIGIN = np.zeros((1, 3))


def pose_at_pixel(u: float, v: float, depth: float = 1.0) -> np.ndarray:
    camera_T_ee = np.eye(4)
    camera_T_ee[:3, 3] = (depth * (u - 320) / 400, depth * (v - 240) / 400, depth)
    return camera_T_ee


def box(u0: int, u1: int, v0: int, v1: int) -> np.ndarray:
    mask = np.zeros((16, 16), dtype=bool)  # [t_v, t_u]
    mask[v0 : v1 + 1, u0 : u1 + 1] = True
    return mask.ravel()


def test_ring_by_hand():
    ring = ring_from_geometry(CAMERA, pose_at_pixel(410, 100), ORIGIN, radius=2, budget=154)
    assert ring.centers == ((10, 3),)  # 410 / 40, 100 / 30
    np.testing.assert_array_equal(ring.mask, box(8, 12, 1, 5))
    assert ring.pixel == pytest.approx((410, 100))
    assert ring.fallback == ""
    assert ring.mask[16 * 3 + 10]


def test_a_rotated_camera_is_taken_into_account():
    # optical axis along +x of the end-effector's frame
    camera_T_ee = np.array([[0, -1.0, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0.5], [0, 0, 0, 1]])
    ring = ring_from_geometry(CAMERA, camera_T_ee, np.array([[0.5, -0.2, 0.1]]), radius=0, budget=154)
    assert ring.pixel == pytest.approx((320 + 400 * 0.2, 240 - 400 * 0.1))


def test_ring_is_clipped_at_the_corner():
    ring = ring_from_geometry(CAMERA, pose_at_pixel(0.5, 479.5), ORIGIN, radius=2, budget=154)
    np.testing.assert_array_equal(ring.mask, box(0, 2, 13, 15))


def test_several_points_give_the_union_and_an_unseen_one_is_left_out():
    fingertips = np.array([[0, 0, 0], [0.5, 0, 0], [9.0, 0, 0]])
    ring = ring_from_geometry(CAMERA, pose_at_pixel(100, 100), fingertips, radius=1, budget=154)
    assert ring.centers == ((2, 3), (7, 3))
    np.testing.assert_array_equal(ring.mask, box(1, 3, 2, 4) | box(6, 8, 2, 4))


def test_fingertip_in_view_makes_the_ring_while_the_end_effector_is_outside():
    points = np.array([[0, 0, 0], [0.5, 0, 0]])
    ring = ring_from_geometry(CAMERA, pose_at_pixel(-50, 100), points, radius=0, budget=154)
    assert ring.centers == ((3, 3),)
    assert ring.fallback == ""
    assert ring.pixel == pytest.approx((-50, 100))


def test_a_ring_larger_than_the_budget_keeps_the_nearest_ties_to_the_lowest_index():
    ring = ring_from_geometry(CAMERA, pose_at_pixel(330, 250), ORIGIN, radius=2, budget=11)
    assert ring.centers == ((8, 8),)
    expected = box(7, 9, 7, 9)  # the nine at distance <= 1, then the first two of the row above
    expected[[16 * 6 + 6, 16 * 6 + 7]] = True
    np.testing.assert_array_equal(ring.mask, expected)


@pytest.mark.parametrize(
    ("camera", "pose", "reason", "pixel"),
    [
        (None, pose_at_pixel(1, 1), rings.NO_CAMERA_INFO, None),
        (None, None, rings.NO_CAMERA_INFO, None),
        (CAMERA, None, rings.NO_CAMERA_TRANSFORM, None),
        (CAMERA, pose_at_pixel(320, 240, depth=-1), rings.BEHIND_CAMERA, None),
        (CAMERA, pose_at_pixel(700, 100), rings.OUTSIDE_IMAGE, (700, 100)),
        (CAMERA, pose_at_pixel(320, -0.01), rings.OUTSIDE_IMAGE, (320, -0.01)),
        (CAMERA, pose_at_pixel(640, 240), rings.OUTSIDE_IMAGE, (640, 240)),
    ],
)
def test_fallbacks(camera, pose, reason, pixel):
    ring = ring_from_geometry(camera, pose, ORIGIN, radius=2, budget=154)
    assert ring.fallback == reason
    assert not ring.mask.any() and ring.centers == ()
    assert ring.pixel == (None if pixel is None else pytest.approx(pixel))


def test_a_point_beyond_the_fold_of_the_distortion_is_outside_and_has_no_pixel():
    folding = CameraModel(CAMERA.matrix, "plumb_bob", (-0.3, 0.0), 640, 480)
    ring = ring_from_geometry(folding, pose_at_pixel(320 + 400 * 1.82, 240), ORIGIN, radius=2, budget=154)
    assert (ring.fallback, ring.pixel) == (rings.OUTSIDE_IMAGE, None)


@pytest.mark.parametrize(
    "arguments",
    [
        {"points_ee": np.zeros(3)},
        {"points_ee": np.zeros((0, 3))},
        {"radius": -1},
        {"budget": 0},
        {"camera_T_ee": np.full((4, 4), np.nan)},
        {"camera_T_ee": np.eye(3)},
    ],
)
def test_malformed_arguments_are_refused(arguments):
    valid = {"camera": CAMERA, "camera_T_ee": pose_at_pixel(1, 1), "points_ee": ORIGIN, "radius": 2, "budget": 9}
    with pytest.raises(ValueError, match="must be|at least"):
        ring_from_geometry(**{**valid, **arguments})


@settings(max_examples=200, deadline=None)
@given(st.floats(0, 639.999), st.floats(0, 479.999), st.integers(0, 20), st.integers(1, 256))
def test_inside_the_image_the_ring_holds_its_centre_within_radius_and_budget(u, v, radius, budget):
    ring = ring_from_geometry(CAMERA, pose_at_pixel(u, v), ORIGIN, radius, budget)
    if ring.fallback:  # the way through 3D can round a border pixel out
        assert min(u, v, 640 - u, 480 - v) < 1e-6
        return
    ((t_u, t_v),) = ring.centers
    assert ring.mask[16 * t_v + t_u]
    kept_v, kept_u = np.divmod(np.flatnonzero(ring.mask), 16)
    distance = np.maximum(abs(kept_u - t_u), abs(kept_v - t_v))
    assert distance.max() <= radius
    whole = sum(max(abs(a - t_u), abs(b - t_v)) <= radius for a in range(16) for b in range(16))
    assert ring.mask.sum() == min(whole, budget)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 15), st.integers(0, 15)), min_size=1, max_size=4, unique=True),
    st.integers(0, 6),
    st.integers(1, 256),
)
def test_the_ring_of_several_centres_is_the_nearest_tokens_within_the_radius(centers, radius, budget):
    distance = [min(max(abs(index % 16 - t_u), abs(index // 16 - t_v)) for t_u, t_v in centers) for index in range(256)]
    nearest = sorted(range(256), key=lambda index: (distance[index], index))[:budget]
    expected = [index for index in nearest if distance[index] <= radius]
    mask = rings._tokens_around(tuple(centers), radius, budget, 16)
    assert np.flatnonzero(mask).tolist() == sorted(expected)


def test_pixel_to_token_at_the_borders():
    assert pixel_to_token((0, 0), 640, 480) == (0, 0)
    assert pixel_to_token((39.999, 30), 640, 480) == (0, 1)
    assert pixel_to_token((np.nextafter(640, 0), np.nextafter(480, 0)), 640, 480) == (15, 15)
    assert pixel_to_token((640, 0), 640, 480) is None
    assert pixel_to_token((np.nan, 0), 640, 480) is None
