# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The camera's geometry is that of the rendered image, checked against what each pixel really shows
(segmentation).

Pinned: principal point at (size - 1) / 2 (a half-pixel slip shows as a common offset of all objects), optical
frame per REP-103, end-effector frame between the fingers.
"""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from sqap_vla.sim import (
    SCENARIOS,
    CameraConfig,
    EnvironmentConfig,
    Expert,
    TabletopEnv,
    camera_T_base,
    intrinsics,
    project_points,
)
from sqap_vla.sim.scene import CUBE_COLORS

HAND_GEOMS = ("palm", "palm_stripe", "left_finger", "left_pad", "right_finger", "right_pad")


def hand_mask(env: TabletopEnv) -> np.ndarray:
    return np.isin(env.camera_renderer().geom_ids(), [env.scene.model.geom(name).id for name in HAND_GEOMS])


def ee_pixel(env: TabletopEnv) -> np.ndarray:
    return project_points(env.camera, env.scene.base_T_ee()[None, :3, 3])[0]


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("size", [(640, 480), (320, 240), (224, 224)])
def test_projected_cube_centres_fall_on_their_pixels(size: tuple[int, int], scenario: str) -> None:
    camera = CameraConfig(width_px=size[0], height_px=size[1])
    env = TabletopEnv(EnvironmentConfig(observe_rgb=False, camera=camera, scenario=scenario, factors=("camera",)))
    offsets, cameras = [], set()
    for seed in range(6):
        obs, _ = env.reset(seed=seed)
        cameras.add(env.camera)
        assert np.array_equal(obs["camera_matrix"], intrinsics(env.camera))
        assert np.array_equal(obs["camera_T_base"], camera_T_base(env.camera))
        ids = env.camera_renderer().geom_ids()
        for color in CUBE_COLORS:
            rows, columns = np.nonzero(ids == env.scene.model.geom(f"{color}_cube").id)
            centre_m = env.scene.base_T_cube(color)[None, :3, 3]
            offsets.append((columns.mean(), rows.mean()) - project_points(env.camera, centre_m)[0])
    env.close()
    assert len(cameras) == (1 if scenario == "visual_matching" else 6)
    assert np.abs(offsets).max() < 1.0  # px
    assert np.abs(np.median(offsets, axis=0)).max() < 0.2  # half a pixel in the principal point would show here


@pytest.mark.parametrize("seed", range(4))
def test_projected_end_effector_falls_on_the_gripper_throughout_an_episode(env: TabletopEnv, seed: int) -> None:
    env.reset(seed=seed)
    expert, done, checked = Expert(env), False, 0
    while not done:
        mask, pixel = hand_mask(env), ee_pixel(env)
        rows, columns = np.nonzero(mask)
        hull = cv2.convexHull(np.stack([columns, rows], axis=1).astype(np.float32))
        assert (
            cv2.pointPolygonTest(hull, tuple(map(float, pixel)), measureDist=True) > -2.0
        )  # px outside the gripper's outline
        nearest = np.hypot(columns - pixel[0], rows - pixel[1]).min()
        assert nearest < 28.0  # px of 640: half the 85 mm between open fingers, 1.1 m away
        checked += 1
        *_, terminated, truncated, _ = env.step(expert.action())
        done = terminated or truncated
    assert checked >= 5


def test_end_effector_lies_between_the_closed_fingers(env: TabletopEnv) -> None:
    env.reset(seed=0)
    for _ in range(4):
        env.step(np.zeros(7))  # no motion, gripper closed
    column, row = np.round(ee_pixel(env)).astype(int)
    assert hand_mask(env)[row - 1 : row + 2, column - 1 : column + 2].any()


def test_optical_frame_follows_rep_103() -> None:
    config = CameraConfig()
    dst = camera_T_base(config)
    target = dst[:3, :3] @ np.array(config.target_m) + dst[:3, 3]
    assert np.allclose(target[:2], 0.0, atol=1e-12) and target[2] > 0.0  # z looks at the target
    assert (dst[:3, :3] @ (0.0, 0.0, 1.0))[1] < 0.0  # y points down
    assert np.isclose(np.linalg.det(dst[:3, :3]), 1.0)


def test_a_point_behind_the_camera_has_no_pixel() -> None:
    config = CameraConfig()
    behind = 2.0 * np.array(config.position_m) - np.array(config.target_m)
    assert np.isnan(project_points(config, behind[None])).all()


def test_field_of_view_spans_the_image_height() -> None:
    config = CameraConfig(fov_y_rad=0.8, width_px=640, height_px=480)
    matrix = intrinsics(config)
    assert np.isclose(2 * np.arctan(240 / matrix[1, 1]), 0.8) and matrix[0, 2] == 319.5


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"width_px": 8}, "width_px is 8"),
        ({"fov_y_rad": 3.0}, "fov_y_rad is 3.0"),
        ({"target_m": (0.96, -0.76, 0.0)}, "straight up or down"),
    ],
)
def test_bad_cameras_are_refused(values: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CameraConfig(**values)
