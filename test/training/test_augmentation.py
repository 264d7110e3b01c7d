# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""A picture that is seen from elsewhere shows things where the other camera would, and the truth moves along."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sqap_vla.sim import CameraConfig, project_points
from sqap_vla.training.augmentation import Augmentation
from sqap_vla.training.viewpoint import (
    PLANE_HEIGHT_M,
    Viewpoints,
    in_square_picture,
    plane_homography,
    warp_pictures,
    warp_points,
)

CAMERA, SIDE_PX = CameraConfig(), 224


def on_plane(rng: np.random.Generator, count: int) -> np.ndarray:
    """Points [count, 3] of the plane, on the table."""
    return np.column_stack([rng.uniform((0.2, -0.3), (0.55, 0.2), (count, 2)), np.full(count, PLANE_HEIGHT_M)])


def resized(pixels: np.ndarray) -> np.ndarray:
    """Places in the camera's frame -> in the resized picture."""
    return (pixels + 0.5) * SIDE_PX / (CAMERA.width_px, CAMERA.height_px) - 0.5


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_points_of_the_plane_go_where_the_other_camera_sees_them(seed: int) -> None:
    rng = np.random.default_rng(seed)
    other, points_m = Viewpoints().draw(CAMERA, rng), on_plane(rng, 6)
    homography = in_square_picture(plane_homography(CAMERA, other), CAMERA, SIDE_PX)
    before, after = (resized(project_points(camera, points_m)) for camera in (CAMERA, other))
    moved = warp_points(torch.from_numpy(before)[None], torch.from_numpy(homography)[None])[0]
    np.testing.assert_allclose(moved.numpy(), after, atol=1e-6)


def test_a_camera_that_stays_changes_nothing() -> None:
    picture = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    still = torch.from_numpy(plane_homography(CAMERA, CAMERA)).float()[None]
    torch.testing.assert_close(warp_pictures(picture, still), picture, atol=1e-4, rtol=0)


def test_pictures_and_points_move_alike() -> None:
    rng = np.random.default_rng(3)
    for _ in range(8):
        other = Viewpoints().draw(CAMERA, rng)
        homography = torch.from_numpy(in_square_picture(plane_homography(CAMERA, other), CAMERA, SIDE_PX)).float()[None]
        u, v = 100 + int(rng.integers(-20, 20)), 120 + int(rng.integers(-20, 20))
        picture = torch.zeros(1, 1, SIDE_PX, SIDE_PX)
        picture[0, 0, v - 2 : v + 3, u - 2 : u + 3] = 1.0
        seen = warp_pictures(picture, homography)[0, 0]
        rows, columns = (torch.arange(SIDE_PX, dtype=torch.float32) @ mass for mass in (seen.sum(1), seen.sum(0)))
        expected = warp_points(torch.tensor([[[float(u), float(v)]]]), homography)[0, 0]
        torch.testing.assert_close(torch.stack([columns, rows]) / seen.sum(), expected, atol=0.2, rtol=0)


def test_what_is_left_alone_is_left_alone() -> None:
    pixels, keypoints = torch.rand(6, 3, SIDE_PX, SIDE_PX), 200 * torch.rand(6, 5, 2)
    same, places = Augmentation(clean_share=1.0)(pixels, keypoints, np.random.default_rng(0))
    assert torch.equal(same, pixels)
    torch.testing.assert_close(places, keypoints)


def test_others_are_changed_and_stay_pictures() -> None:
    pixels, keypoints = torch.rand(6, 3, SIDE_PX, SIDE_PX), 200 * torch.rand(6, 5, 2)
    keypoints[0, 0] = torch.nan  # behind the camera
    changed, places = Augmentation(clean_share=0.0, view_share=1.0)(pixels, keypoints, np.random.default_rng(0))
    assert changed.shape == pixels.shape and float(changed.min()) >= 0.0 and float(changed.max()) <= 1.0
    assert all(not torch.allclose(a, b, atol=0.05) for a, b in zip(changed, pixels, strict=True))
    assert places[0, 0].isnan().all() and places.isnan().sum() == 2
    assert ((places - keypoints).abs() > 1.0).any(dim=-1)[1:].any(dim=-1).all()


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_only_so_many_are_seen_from_elsewhere(share: float) -> None:
    keypoints = 200 * torch.rand(40, 5, 2)
    augment = Augmentation(clean_share=0.0, view_share=share)
    _, places = augment(torch.rand(40, 3, SIDE_PX, SIDE_PX), keypoints, np.random.default_rng(1))
    assert ((places - keypoints).abs() > 0.01).flatten(1).any(dim=1).float().mean() == share
