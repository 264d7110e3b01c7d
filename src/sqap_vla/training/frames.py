# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""What is kept of one camera frame: picture, true state, and the expert's chunk for several tasks.

Frames are stored in shards of two files: `shard-NNNNN.images.npy` (uint8 [F, 224, 224, 3], read by memory mapping) and
`shard-NNNNN.npz` (the rest). The .npz is renamed into place last, so a shard that has one is complete.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from sqap_vla.cogact.preprocess import resize
from sqap_vla.sim import INSTRUCTIONS, TabletopEnv, project_points
from sqap_vla.sim.scene import CUBE_COLORS

KEYPOINTS = (*(f"{color}_cube" for color in CUBE_COLORS), "hand", "handle")


@dataclass(frozen=True, eq=False)
class Frames:
    """F frames, K tasks each.

    images: uint8 [F, 224, 224, 3]. keypoints: float32 [F, 5, 2], where KEYPOINTS are in the 224x224 picture [px], NaN
    where behind the camera. points: float32 [F, 5, 3], where they are in the base frame [m]. yaws: float32 [F, 3], of
    the cubes [rad]. hand: float32 [F, 10], rotation matrix of the hand, row-major, and how far the gripper is open.
    drawer: float32 [F], how far it is open [m]. held: bool [F, 4], which cube, or the handle, is between the pads.
    tasks: int64 [F, K], indices of INSTRUCTIONS, -1 where there are fewer. chunks: float32 [F, K, 16, 7].
    """

    images: np.ndarray
    keypoints: np.ndarray
    points: np.ndarray
    yaws: np.ndarray
    hand: np.ndarray
    drawer: np.ndarray
    held: np.ndarray
    tasks: np.ndarray
    chunks: np.ndarray

    def __len__(self) -> int:
        return len(self.images)


def state_of(env: TabletopEnv) -> dict[str, np.ndarray]:
    """The fields of one frame that describe the scene."""
    scene = env.scene
    poses = [scene.base_T_cube(color) for color in CUBE_COLORS]
    base_T_ee = scene.base_T_ee()
    points = np.array([*(pose[:3, 3] for pose in poses), base_T_ee[:3, 3], scene.handle_m()])
    size_px = np.array([env.camera.width_px, env.camera.height_px])
    return {
        "keypoints": (project_points(env.camera, points) + 0.5) * (224.0 / size_px) - 0.5,
        "points": points,
        "yaws": np.array([np.arctan2(pose[1, 0], pose[0, 0]) for pose in poses]),
        "hand": np.append(base_T_ee[:3, :3].ravel(), scene.gripper_open()),
        "drawer": np.array(scene.drawer_m()),
        "held": np.array([*(scene.is_grasped(color) for color in CUBE_COLORS), scene.is_handle_grasped()]),
    }


def picture_of(env: TabletopEnv) -> np.ndarray:
    """The camera's picture as the network sees it, uint8 [224, 224, 3]."""
    return resize(env.camera_image())


class ShardWriter:
    """Gathers frames and writes a shard for every `size` of them. Shards of several writers may share a directory if
    their prefixes differ."""

    def __init__(self, directory: Path, prefix: str, size: int = 512) -> None:
        self._directory, self._prefix, self._size = directory, prefix, size
        self._rows: list[dict[str, np.ndarray]] = []
        directory.mkdir(parents=True, exist_ok=True)
        self._next = 1 + max((_number(path) for path in directory.glob(f"{prefix}-*.npz")), default=-1)

    def add(self, row: dict[str, np.ndarray]) -> bool:
        """Takes one frame's fields. True where that completed a shard."""
        self._rows.append(row)
        if len(self._rows) < self._size:
            return False
        self.flush()
        return True

    def flush(self) -> None:
        """Writes what has been gathered."""
        if not self._rows:
            return
        stacked = {name: np.stack([row[name] for row in self._rows]) for name in self._rows[0]}
        stem = self._directory / f"{self._prefix}-{self._next:05d}"
        np.save(stem.with_suffix(".images.npy"), stacked.pop("images"))
        types = {"tasks": np.int64, "held": bool}
        partial = stem.with_suffix(".partial.npz")
        np.savez(partial, **{name: value.astype(types.get(name, np.float32)) for name, value in stacked.items()})
        os.replace(partial, stem.with_suffix(".npz"))
        self._rows, self._next = [], self._next + 1


def _number(path: Path) -> int:
    digits = path.stem.rpartition("-")[2]
    return int(digits) if digits.isdigit() else -1


def shard_files(directory: Path) -> list[Path]:
    """The complete shards of a directory, in the order of their names."""
    return sorted(path for path in directory.glob("*.npz") if not path.name.endswith(".partial.npz"))


def read_shard(file: Path) -> Frames:
    """A shard with its images mapped, not read. Raises ValueError where its tasks are not the tabletop's."""
    with np.load(file) as arrays:
        values = {field.name: arrays[field.name] for field in fields(Frames) if field.name != "images"}
    if values["tasks"].max(initial=-1) >= len(INSTRUCTIONS):
        raise ValueError(
            f"{file} names task {values['tasks'].max()}; the tabletop has {len(INSTRUCTIONS)}: make it anew"
        )
    return Frames(images=np.load(file.with_suffix(".images.npy"), mmap_mode="r"), **values)
