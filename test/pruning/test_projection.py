# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Projection against pixels computed by hand and against the distortion formulas written out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sqap_vla.pruning.projection import CameraModel, project

K = ((500.0, 0.0, 320.0), (0.0, 400.0, 240.0), (0.0, 0.0, 1.0))
BARREL = (-0.3, 0.08, 0.001, -0.002, 0.0)


def camera(model: str = "plumb_bob", distortion: tuple[float, ...] = (), matrix=K) -> CameraModel:
    return CameraModel(matrix, model, distortion, 640, 480)


def test_pinhole_pixels_by_hand():
    points = [[0, 0, 2.0], [0.4, -0.3, 2.0], [-1.0, 0.5, 1.0]]
    expected = [[320, 240], [320 + 100, 240 - 60], [320 - 500, 240 + 200]]  # also outside
    for model in ("", "plumb_bob"):
        np.testing.assert_allclose(project(camera(model), np.array(points)), expected, atol=1e-9)


@pytest.mark.parametrize("count", range(6))
def test_plumb_bob_takes_zero_to_five_coefficients_and_reads_missing_ones_as_zero(count):
    points = np.array([[0.2, -0.1, 1.0], [-0.3, 0.25, 1.2]])
    full = (*BARREL[:count], *[0.0] * (5 - count))
    np.testing.assert_allclose(
        project(camera(distortion=BARREL[:count]), points), project(camera(distortion=full), points), atol=1e-12
    )


def test_plumb_bob_matches_the_formula():
    k1, k2, p1, p2, k3 = distortion = (-0.3, 0.08, 0.001, -0.002, -0.005)
    x, y = 0.3, -0.2
    s = x * x + y * y
    radial = 1 + k1 * s + k2 * s**2 + k3 * s**3
    u = 500 * (x * radial + 2 * p1 * x * y + p2 * (s + 2 * x * x)) + 320
    v = 400 * (y * radial + p1 * (s + 2 * y * y) + 2 * p2 * x * y) + 240
    pixel = project(camera(distortion=distortion), np.array([[3 * x, 3 * y, 3.0]]))
    np.testing.assert_allclose(pixel, [[u, v]], atol=1e-9)


@pytest.mark.parametrize("extra", [0, 4, 6])
def test_rational_polynomial_matches_the_formula(extra):
    k1, k2, p1, p2, k3, k4, k5, k6 = distortion = (0.4, 0.1, 0.0, 0.0, 0.01, 0.7, 0.2, 0.02)
    x, y = 0.5, 0.4
    s = x * x + y * y
    radial = (1 + k1 * s + k2 * s**2 + k3 * s**3) / (1 + k4 * s + k5 * s**2 + k6 * s**3)
    pixel = project(camera("rational_polynomial", distortion + (0.0,) * extra), np.array([[x, y, 1.0]]))
    np.testing.assert_allclose(pixel, [[500 * x * radial + 320, 400 * y * radial + 240]], atol=1e-9)


def test_equidistant_matches_the_formula_far_off_axis():
    k = (0.05, -0.01, 0.002, -0.0003)
    theta = np.deg2rad(75)
    theta_d = theta * (1 + sum(c * theta ** (2 * i + 2) for i, c in enumerate(k)))
    direction = np.array([0.6, 0.8])
    point = np.array([[*(np.sin(theta) * direction), np.cos(theta)]])
    np.testing.assert_allclose(
        project(camera("equidistant", k), point), [[500 * theta_d * 0.6 + 320, 400 * theta_d * 0.8 + 240]], atol=1e-9
    )


def test_points_not_in_front_of_the_camera_have_no_pixel():
    unseen = [[0, 0, -1.0], [0.1, 0.1, 0.0], [0, 0, 1e-9], [np.nan, 0, 1], [0, np.inf, 1]]
    pixels = project(camera(), np.array([*unseen, [0, 0, 1.0]]))
    assert np.isnan(pixels[:5]).all()
    np.testing.assert_allclose(pixels[5], [320, 240])


def test_a_point_that_barrel_distortion_would_fold_back_into_the_image_has_no_pixel():
    # r (1 - 0.3 r^2) peaks at r = 1 / sqrt(0.9) = 1.054; at r = 1.826 it is back at 0, the image's centre
    folding = camera(distortion=(-0.3, 0.0))
    assert folding.max_radius == pytest.approx(1 / np.sqrt(0.9))
    r = np.sqrt(1 / 0.3)
    pixels = project(folding, np.array([[r, 0, 1.0], [0, -1.06, 1.0], [1.05, 0, 1.0]]))
    assert np.isnan(pixels[:2]).all()
    assert pixels[2, 0] == pytest.approx(500 * 1.05 * (1 - 0.3 * 1.05**2) + 320)


def test_fold_limits_of_the_other_models():
    assert camera("").max_radius == np.inf
    assert camera(distortion=(0.1, 0.01, 0, 0, 0.001)).max_radius == np.inf
    # theta (1 - 0.2 theta^2) peaks at theta = 1 / sqrt(0.6) = 1.29 rad; with -0.1 it does beyond 90 degrees
    assert camera("equidistant", (-0.2, 0, 0, 0)).max_radius == pytest.approx(np.tan(1 / np.sqrt(0.6)))
    assert camera("equidistant", (-0.1, 0, 0, 0)).max_radius == np.inf
    pole_at_2 = (0, 0, 0, 0, 0, -0.25, 0, 0)
    assert camera("rational_polynomial", pole_at_2).max_radius == pytest.approx(2.0)


@settings(max_examples=100, deadline=None)
@given(st.floats(-0.5, 0.3), st.floats(-0.2, 0.2), st.floats(-0.1, 0.1), st.floats(0.01, 5), st.floats(0, 7))
def test_along_a_ray_from_the_centre_pixels_move_outwards_until_there_is_none(k1, k2, k3, r, angle):
    model = CameraModel(((500, 0, 0), (0, 500, 0), (0, 0, 1)), "plumb_bob", (k1, k2, 0, 0, k3), 640, 480)
    radii = np.linspace(0, r, 200)
    points = np.column_stack([radii * np.cos(angle), radii * np.sin(angle), np.ones_like(radii)])
    distance = np.linalg.norm(project(model, points), axis=1)
    visible = np.isfinite(distance)
    assert (np.diff(visible.astype(int)) <= 0).all()  # once folded, never back
    assert (np.diff(distance[visible]) > -1e-9).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"matrix": np.zeros((3, 3))}, "focal lengths are 0 and 0"),
        ({"matrix": np.full((3, 3), np.nan)}, "not finite"),
        ({"matrix": np.ones(8)}, "8 values"),
        ({"matrix": ((500, 3, 320), (0, 400, 240), (0, 0, 1))}, "without skew"),
        ({"distortion": (np.nan,)}, "not finite"),
        ({"distortion": (0.1,) * 8}, "8 coefficients"),
        ({"distortion_model": "thin_prism"}, "known are"),
        ({"distortion_model": "equidistant"}, "it takes 4"),
        ({"distortion_model": "rational_polynomial", "distortion": (0.0,) * 5}, "it takes 8 or 12 or 14"),
        ({"width": 0}, "0x480"),
    ],
)
def test_bad_intrinsics_are_refused_with_the_value(change, message):
    fields = {"matrix": K, "distortion_model": "plumb_bob", "distortion": (), "width": 640, "height": 480}
    with pytest.raises(ValueError, match=message):
        CameraModel(**{**fields, **change})


def test_camera_info_row_major_k_is_accepted_and_frozen():
    model = CameraModel(np.ravel(K), "plumb_bob", np.zeros(5), 640, 480)
    np.testing.assert_array_equal(model.matrix, K)
    with pytest.raises(ValueError, match="read-only"):
        model.matrix[0, 0] = 1
    with pytest.raises(ValueError, match=r"\[N, 3\]"):
        project(model, np.zeros(3))
    assert project(model, np.zeros((0, 3))).shape == (0, 2)
