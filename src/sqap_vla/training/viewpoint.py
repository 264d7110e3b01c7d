# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Pictures as though the camera stood elsewhere.

Two pinhole cameras see a plane through a homography (Hartley and Zisserman, Multiple View Geometry, 2nd ed., section
13.1). A picture is warped by that of a plane just over the table: what lies on the table goes where the other camera
would see it, and what is higher, like the hand on its way, nearly so. What the picture did not show is filled with its
border.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sqap_vla.sim.camera import CameraConfig, camera_T_base, intrinsics, moved_around

PLANE_HEIGHT_M = 0.04  # the top of a cube


@dataclass(frozen=True)
class Viewpoints:
    """Where a camera may stand, against the one that took the picture, each range uniform.

    azimuth_rad, elevation_rad: around its target. distance: from it, relative. target_m: of the target, along each
    axis, either way. fov: tangent of half the field of view, relative.
    """

    azimuth_rad: tuple[float, float] = (-0.36, 0.36)
    elevation_rad: tuple[float, float] = (-0.08, 0.14)
    distance: tuple[float, float] = (0.92, 1.10)
    target_m: float = 0.02
    fov: tuple[float, float] = (0.92, 1.22)

    def draw(self, camera: CameraConfig, rng: np.random.Generator) -> CameraConfig:
        return moved_around(
            camera,
            rng.uniform(*self.azimuth_rad),
            rng.uniform(*self.elevation_rad),
            rng.uniform(*self.distance),
            rng.uniform(-self.target_m, self.target_m, 3),
            rng.uniform(*self.fov),
        )


def plane_homography(source: CameraConfig, other: CameraConfig, height_m: float = PLANE_HEIGHT_M) -> np.ndarray:
    """Takes pixels of a plane as `source` sees it to where `other` does, [3, 3]; frames as in sim/camera.py.

    height_m: of the plane over the base frame's origin.
    """
    from_source, from_other = (_plane_to_picture(camera, height_m) for camera in (source, other))
    return from_other @ np.linalg.inv(from_source)


def _plane_to_picture(camera: CameraConfig, height_m: float) -> np.ndarray:
    """(x, y, 1) on the plane -> homogeneous pixel, [3, 3]."""
    projection = intrinsics(camera) @ camera_T_base(camera)[:3]  # [3, 4]
    return np.column_stack([projection[:, :2], height_m * projection[:, 2] + projection[:, 3]])


def warp_pictures(pixels: Tensor, homographies: Tensor) -> Tensor:
    """Pictures [n, C, H, W], each through its homography [n, 3, 3], which takes its pixels to those of the result."""
    _, _, height, width = pixels.shape
    v, u = torch.meshgrid(*(torch.arange(side, device=pixels.device) for side in (height, width)), indexing="ij")
    places = torch.stack([u, v, torch.ones_like(u)], dim=-1).flatten(0, 1).to(pixels.dtype)  # [H W, 3]
    sources = warp_points(places[None, :, :2], torch.linalg.inv(homographies))  # [n, H W, 2]
    grid = 2 * sources / sources.new_tensor([width - 1, height - 1]) - 1  # -1 and 1: the outermost pixels' middles
    grid = grid.unflatten(1, (height, width))
    return F.grid_sample(pixels, grid, mode="bilinear", padding_mode="border", align_corners=True)


def warp_points(points: Tensor, homographies: Tensor) -> Tensor:
    """Pixels [n, k, 2] of n pictures, each through its homography [n, 3, 3]."""
    homogeneous = F.pad(points, (0, 1), value=1.0) @ homographies.transpose(1, 2)  # [n, k, 3]
    return homogeneous[..., :2] / homogeneous[..., 2:]


def in_square_picture(homography: np.ndarray, camera: CameraConfig, side_px: int) -> np.ndarray:
    """The same homography between frames that were resized to side_px x side_px (cogact/preprocess.py)."""
    scale = np.array([side_px / camera.width_px, side_px / camera.height_px])
    resized = np.diag([*scale, 1.0])
    resized[:2, 2] = 0.5 * scale - 0.5  # a pixel's middle is half a pixel from its corner, in both sizes
    return resized @ homography @ np.linalg.inv(resized)
