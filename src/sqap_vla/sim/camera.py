# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Geometry of the simulated camera, as a ROS camera_info and TF would describe it.

Optical frame per REP-103: z forward, x right, y down. Pixel (u, v) is the centre of column u, row v, as in
OpenCV, so the principal point of a WxH image is ((W - 1) / 2, (H - 1) / 2). The pinhole is ideal: square
pixels, no distortion. MuJoCo's own camera frame is OpenGL's (looks along -z, y up); only this module and the
scene know of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from sqap_vla.sim.transforms import invert_transform, make_transform

MAX_SIDE_PX = 1920


@dataclass(frozen=True)
class CameraConfig:
    """Where the third-person camera stands, where it looks, and the image it makes.

    position_m, target_m: in the base frame; the image's vertical is the base frame's z.
    fov_y_rad: vertical field of view.
    Raises ValueError for a size outside [16, 1920] px, a field of view outside (0.1, 2.6) rad,
    or a camera that looks straight up or down.
    """

    position_m: tuple[float, float, float] = (0.96, -0.76, 0.79)
    target_m: tuple[float, float, float] = (0.27, 0.03, 0.145)
    fov_y_rad: float = 0.63
    width_px: int = 320
    height_px: int = 240

    def __post_init__(self) -> None:
        for name in ("width_px", "height_px"):
            side = getattr(self, name)
            if not 16 <= side <= MAX_SIDE_PX:
                raise ValueError(f"{name} is {side}; it must be between 16 and {MAX_SIDE_PX}")
        if not 0.1 < self.fov_y_rad < 2.6:
            raise ValueError(f"fov_y_rad is {self.fov_y_rad}; it must be between 0.1 and 2.6 rad")
        forward = np.subtract(self.target_m, self.position_m)
        if np.linalg.norm(forward[:2]) < 1e-3 * max(np.linalg.norm(forward), 1e-9):
            raise ValueError(
                f"camera at {self.position_m} looks straight up or down at {self.target_m}; move it off that vertical"
            )


def moved_around(
    config: CameraConfig,
    azimuth_rad: float,
    elevation_rad: float,
    distance: float,
    target_m: np.ndarray,
    fov: float,
) -> CameraConfig:
    """The camera elsewhere on a sphere around its target.

    azimuth_rad, elevation_rad: by how much it is turned around it. distance: from it, relative. target_m: by how much
    the target, and the camera with it, is shifted [3]. fov: tangent of half the field of view, relative.
    """
    offset_m = np.subtract(config.position_m, config.target_m)
    azimuth_rad = np.arctan2(offset_m[1], offset_m[0]) + azimuth_rad
    elevation_rad = np.arctan2(offset_m[2], np.hypot(*offset_m[:2])) + elevation_rad
    direction = np.array([np.cos(azimuth_rad), np.sin(azimuth_rad), np.tan(elevation_rad)]) * np.cos(elevation_rad)
    target_m = np.asarray(config.target_m) + target_m
    return replace(
        config,
        position_m=tuple((target_m + np.linalg.norm(offset_m) * distance * direction).tolist()),
        target_m=tuple(target_m.tolist()),
        fov_y_rad=float(2 * np.arctan(fov * np.tan(0.5 * config.fov_y_rad))),
    )


def base_T_camera(config: CameraConfig) -> np.ndarray:
    """Pose [4, 4] of the optical frame in the base frame."""
    position_m = np.asarray(config.position_m, dtype=np.float64)
    forward = np.asarray(config.target_m, dtype=np.float64) - position_m
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, (0.0, 0.0, 1.0))
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    return make_transform(np.stack([right, down, forward], axis=1), position_m)


def camera_T_base(config: CameraConfig) -> np.ndarray:
    """Pose [4, 4] of the base frame in the optical frame: takes base coordinates to optical ones."""
    return invert_transform(base_T_camera(config))


def intrinsics(config: CameraConfig) -> np.ndarray:
    """Camera matrix K [3, 3] in px."""
    focal_px = 0.5 * config.height_px / np.tan(0.5 * config.fov_y_rad)
    return np.array(
        [
            [focal_px, 0.0, 0.5 * (config.width_px - 1)],
            [0.0, focal_px, 0.5 * (config.height_px - 1)],
            [0.0, 0.0, 1.0],
        ]
    )


def project_points(config: CameraConfig, points_base_m: np.ndarray) -> np.ndarray:
    """Pixels [N, 2] of points [N, 3] given in the base frame; a point behind the camera gives NaN."""
    dst = camera_T_base(config)
    optical = points_base_m @ dst[:3, :3].T + dst[:3, 3]  # [N, 3]
    depth = np.where(optical[:, 2:] > 1e-6, optical[:, 2:], np.nan)
    return ((optical / depth) @ intrinsics(config).T)[:, :2]
