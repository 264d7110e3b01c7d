# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The MuJoCo model of the tabletop and what its parts are called.

The scene is `assets/tabletop.xml` with `assets/arm.xml`: geometric primitives only. `Scene` owns the model
and its state, sets camera and object poses, and answers where things are; it neither controls nor judges.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import mujoco
import numpy as np

from sqap_vla.sim.camera import CameraConfig, base_T_camera
from sqap_vla.sim.transforms import make_transform

ARM_JOINTS = ("waist", "shoulder", "elbow", "forearm_roll", "wrist_pitch", "wrist_roll")
FINGER_JOINTS = ("left_finger", "right_finger")
JOINTS = ARM_JOINTS + FINGER_JOINTS
CUBE_COLORS = ("red", "green", "blue")
CUBE_HALF_M = 0.02
FINGER_TRAVEL_M = 0.0425  # of each finger
TIMESTEP_S = 0.004  # of the physics
CAMERA_NAME = "third_person"
HOME_RAD = np.array([0.0, 0.0, 0.60, 0.0, 0.9708, 0.0])  # hand pointing straight down, in front of the robot

_XML = Path(__file__).parent / "assets" / "tabletop.xml"


@dataclass(frozen=True)
class CubeRegion:
    """Where cubes are put at the start: a rectangle of the table in the base frame, and how far apart."""

    x_m: tuple[float, float] = (0.28, 0.46)
    y_m: tuple[float, float] = (-0.22, 0.08)
    min_distance_m: float = 0.09

    def __post_init__(self) -> None:
        if self.x_m[0] >= self.x_m[1] or self.y_m[0] >= self.y_m[1]:
            raise ValueError(f"cube region x {self.x_m}, y {self.y_m} is empty; give (low, high) with low < high")

    def sample(self, rng: np.random.Generator, count: int, tries: int = 1000) -> np.ndarray:
        """Places of `count` cubes, x, y [m], yaw [rad], [count, 3]. Raises ValueError if they do not fit."""
        placed: list[np.ndarray] = []
        for _ in range(tries):
            if len(placed) == count:
                break
            pose = rng.uniform((self.x_m[0], self.y_m[0], -np.pi / 4), (self.x_m[1], self.y_m[1], np.pi / 4))
            if all(np.hypot(*(pose - other)[:2]) >= self.min_distance_m for other in placed):
                placed.append(pose)
        if len(placed) < count:
            raise ValueError(
                f"{count} cubes {self.min_distance_m} m apart do not fit x {self.x_m}, y {self.y_m}; enlarge the region"
            )
        return np.array(placed)


class Scene:
    """Model and state of the tabletop."""

    def __init__(self, camera: CameraConfig) -> None:
        self.model = mujoco.MjModel.from_xml_path(str(_XML))
        self.model.opt.timestep = TIMESTEP_S
        self.data = mujoco.MjData(self.model)
        self.camera = camera
        joint = self.model.joint
        self.joint_qpos = np.array([joint(name).qposadr[0] for name in JOINTS])
        self.arm_qpos = self.joint_qpos[:6]
        self.arm_dof = np.array([joint(name).dofadr[0] for name in ARM_JOINTS])
        self.ee_site = self.model.site("ee").id
        self.pad_geoms = tuple(self.model.geom(name).id for name in ("left_pad", "right_pad"))
        self._apply_camera()

    def _apply_camera(self) -> None:
        camera_id, pose = self.model.camera(CAMERA_NAME).id, base_T_camera(self.camera)
        optical_to_opengl = np.diag([1.0, -1.0, -1.0])
        self.model.cam_pos[camera_id] = pose[:3, 3]
        mujoco.mju_mat2Quat(self.model.cam_quat[camera_id], (pose[:3, :3] @ optical_to_opengl).ravel())
        self.model.cam_fovy[camera_id] = np.degrees(self.camera.fov_y_rad)
        self.model.vis.global_.offwidth = self.camera.width_px
        self.model.vis.global_.offheight = self.camera.height_px

    def reset(self, cubes: np.ndarray) -> None:
        """Arm at home, gripper open, drawer closed; cubes [3, 3]: x, y [m], yaw [rad], as CUBE_COLORS."""
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[self.arm_qpos] = HOME_RAD
        self.data.qpos[self.joint_qpos[6:]] = FINGER_TRAVEL_M
        for color, (x, y, yaw) in zip(CUBE_COLORS, cubes, strict=True):
            address = self.model.joint(f"{color}_cube").qposadr[0]
            self.data.qpos[address : address + 3] = x, y, CUBE_HALF_M
            self.data.qpos[address + 3 : address + 7] = np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2)
        mujoco.mj_forward(self.model, self.data)

    def base_T_ee(self) -> np.ndarray:
        """Pose [4, 4] of the end-effector: between the finger pads, z approach, y opening direction."""
        site = self.ee_site
        return make_transform(self.data.site_xmat[site].reshape(3, 3), self.data.site_xpos[site])

    def base_T_cube(self, color: str) -> np.ndarray:
        """Pose [4, 4] of the cube of that colour."""
        body = self.data.body(f"{color}_cube")
        return make_transform(body.xmat.reshape(3, 3), body.xpos)

    def joint_positions(self) -> np.ndarray:
        """Positions [8] of JOINTS: six angles [rad], two finger travels [m]."""
        return self.data.qpos[self.joint_qpos].copy()

    def gripper_open(self) -> float:
        """How far the fingers stand open, 0 closed to 1 open, as measured."""
        return float(np.clip(self.data.qpos[self.joint_qpos[6:]].mean() / FINGER_TRAVEL_M, 0.0, 1.0))

    def is_grasped(self, color: str) -> bool:
        """Whether both finger pads touch the cube of that colour."""
        cube = self.model.geom(f"{color}_cube").id
        pairs = self.data.contact.geom  # [ncon, 2]
        touching = set(pairs[(pairs == cube).any(axis=1)].ravel().tolist())
        return all(pad in touching for pad in self.pad_geoms)
