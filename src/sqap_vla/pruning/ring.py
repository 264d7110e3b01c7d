# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The visual tokens around the projected end-effector (paper eqs. 3 and 4), protected from pruning.

Tokens lie on a grid x grid raster, index = grid * t_v + t_u. The policy's input is the whole frame resized
without keeping its aspect ratio, so pixel u of a W px wide image belongs to column floor(grid * u / W), as
image coordinates scale; the half pixel between the conventions for a pixel's centre (0.0 or 0.5) is 1/80 of a
token at 640 px and is left out. A pixel is inside the image for 0 <= u < W and 0 <= v < H.

Computed on the host from the frame's geometry; missing geometry gives an empty ring and a reason.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sqap_vla.pruning.projection import MIN_DEPTH_M, CameraModel, project

NO_CAMERA_INFO = "no_camera_info"
NO_CAMERA_TRANSFORM = "no_camera_transform"
BEHIND_CAMERA = "behind_camera"
OUTSIDE_IMAGE = "outside_image"
FALLBACKS = (NO_CAMERA_INFO, NO_CAMERA_TRANSFORM, BEHIND_CAMERA, OUTSIDE_IMAGE)


@dataclass(frozen=True, eq=False)
class Ring:
    """Protected tokens of one frame.

    mask: bool [grid * grid], at most `budget` of them true. centers: token (t_u, t_v) of every point inside
    the image. pixel: (u, v) of the first point in the full-size image, also where that is outside the
    borders; None where it has none. fallback: '' or the one of FALLBACKS that left the ring empty.
    """

    mask: np.ndarray
    centers: tuple[tuple[int, int], ...]
    pixel: tuple[float, float] | None
    fallback: str


def pixel_to_token(pixel: tuple[float, float], width: int, height: int, grid: int = 16) -> tuple[int, int] | None:
    """Token (t_u, t_v) of a pixel of a width x height image (eq. 3); None where the pixel is outside."""
    u, v = pixel
    if not (0 <= u < width and 0 <= v < height):  # false for NaN too
        return None
    # u just below the width can round up to the grid's end
    return min(int(u * grid / width), grid - 1), min(int(v * grid / height), grid - 1)


def empty_ring(fallback: str, pixel: tuple[float, float] | None = None, grid: int = 16) -> Ring:
    """A ring that protects nothing, for the reason given."""
    return Ring(mask=np.zeros(grid * grid, dtype=bool), centers=(), pixel=pixel, fallback=fallback)


def ring_from_geometry(
    camera: CameraModel | None,
    camera_T_ee: np.ndarray | None,
    points_ee: np.ndarray,
    radius: int,
    budget: int,
    grid: int = 16,
) -> Ring:
    """Tokens within Chebyshev distance `radius` of the token of any projected point.

    points_ee: [P, 3] metres in the end-effector's frame; the first is the end-effector itself, more may be
    its fingertips. A ring larger than `budget` keeps the tokens nearest to their centre, ties to the lowest
    index. Points that cannot be seen are left out; the ring is empty only if that holds for all of them.
    Raises ValueError for a malformed transform or points, a negative radius, a budget below 1.
    """
    points_ee = np.asarray(points_ee, dtype=np.float64)
    if points_ee.ndim != 2 or points_ee.shape[1] != 3 or len(points_ee) == 0:
        raise ValueError(f"points_ee has shape {points_ee.shape}; give at least one point, [P, 3]")
    if radius < 0 or budget < 1:
        raise ValueError(f"radius is {radius} and budget {budget} tokens; they must be >= 0 and >= 1")
    if camera is None:
        return empty_ring(NO_CAMERA_INFO, grid=grid)
    if camera_T_ee is None:
        return empty_ring(NO_CAMERA_TRANSFORM, grid=grid)
    if camera_T_ee.shape != (4, 4) or not np.isfinite(camera_T_ee).all():
        raise ValueError(
            f"camera_T_ee is {camera_T_ee.tolist()}; it must be a finite [4, 4] matrix, or None if unknown"
        )

    points_camera = points_ee @ camera_T_ee[:3, :3].T + camera_T_ee[:3, 3]  # [P, 3]
    pixels = project(camera, points_camera)  # [P, 2]
    pixel = (float(pixels[0, 0]), float(pixels[0, 1])) if np.isfinite(pixels[0]).all() else None
    tokens = [pixel_to_token((u, v), camera.width, camera.height, grid) for u, v in pixels.tolist()]
    centers = tuple(dict.fromkeys(token for token in tokens if token is not None))
    if not centers:
        behind = bool((points_camera[:, 2] < MIN_DEPTH_M).all())
        return empty_ring(BEHIND_CAMERA if behind else OUTSIDE_IMAGE, pixel, grid)
    return Ring(_tokens_around(centers, radius, budget, grid), centers, pixel, fallback="")


def _tokens_around(centers: tuple[tuple[int, int], ...], radius: int, budget: int, grid: int) -> np.ndarray:
    offset = np.abs(np.arange(grid) - np.array(centers)[:, :, None])  # [C, 2, grid], along u and along v
    distance = np.maximum(offset[:, 1, :, None], offset[:, 0, None, :]).min(axis=0).ravel()  # [N]
    mask = distance <= radius
    if np.count_nonzero(mask) > budget:
        mask[np.argsort(distance, kind="stable")[budget:]] = False
    return mask
