# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The MuJoCo model of the tabletop and what its parts are called.

The scene is `assets/tabletop.xml` with the arm and the distractors: geometric primitives only. `Scene` owns the
model and its state, sets camera and object poses, and answers where things are and what touches what; it
neither controls nor judges. Drawer frame: the axes of the base frame, origin in the middle of the drawer's
underside when closed; the drawer opens towards -y.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import mujoco
import numpy as np

from sqap_vla.sim.camera import CameraConfig, base_T_camera
from sqap_vla.sim.textures import fill_textures
from sqap_vla.sim.transforms import make_transform

ARM_JOINTS = ("waist", "shoulder", "elbow", "forearm_roll", "wrist_pitch", "wrist_roll")
FINGER_JOINTS = ("left_finger", "right_finger")
JOINTS = ARM_JOINTS + FINGER_JOINTS
CUBE_COLORS = ("red", "green", "blue")
CUBE_HALF_M = 0.02
CUBE_RADIUS_M = CUBE_HALF_M * 2**0.5  # of the circle around the cube, seen from above
DISTRACTOR_RADII_M = {"can": 0.025, "carton": 0.035, "lemon": 0.029, "puck": 0.030, "brick": 0.036}
FINGER_TRAVEL_M = 0.0425  # of each finger
DRAWER_TRAVEL_M = 0.14
TIMESTEP_S = 0.004  # of the physics
CAMERA_NAME = "third_person"
HOME_RAD = np.array([0.0, 0.0, 0.60, 0.0, 0.9708, 0.0])  # hand pointing straight down, in front of the robot

_XML = Path(__file__).parent / "assets" / "tabletop.xml"
_HIDDEN_GROUP = 4  # of geoms: not rendered
_FINGER_GEOMS = ("left_finger", "left_pad", "right_finger", "right_pad")


class Scene:
    """Model and state of the tabletop."""

    def __init__(self, camera: CameraConfig) -> None:
        self.model = mujoco.MjModel.from_xml_path(str(_XML))
        self.model.opt.timestep = TIMESTEP_S
        fill_textures(self.model)
        self.data = mujoco.MjData(self.model)
        joint, geom = self.model.joint, self.model.geom
        self.joint_qpos = np.array([joint(name).qposadr[0] for name in JOINTS])
        self.arm_qpos = self.joint_qpos[:6]
        self.arm_dof = np.array([joint(name).dofadr[0] for name in ARM_JOINTS])
        self.ee_site = self.model.site("ee").id
        self.pad_geoms = tuple(geom(name).id for name in ("left_pad", "right_pad"))
        self.finger_geoms = tuple(geom(name).id for name in _FINGER_GEOMS)
        self.distractors: dict[str, np.ndarray] = {}
        self._start_m = np.zeros((len(CUBE_COLORS), 3))
        self.model.vis.global_.offwidth, self.model.vis.global_.offheight = camera.width_px, camera.height_px
        self.set_camera(camera)

    def set_camera(self, camera: CameraConfig) -> None:
        """Moves the camera; its image size stays that of the first one."""
        self.camera, camera_id, pose = camera, self.model.camera(CAMERA_NAME).id, base_T_camera(camera)
        optical_to_opengl = np.diag([1.0, -1.0, -1.0])
        self.model.cam_pos[camera_id] = pose[:3, 3]
        mujoco.mju_mat2Quat(self.model.cam_quat[camera_id], (pose[:3, :3] @ optical_to_opengl).ravel())
        self.model.cam_fovy[camera_id] = np.degrees(camera.fov_y_rad)

    def reset(
        self, cubes: np.ndarray, drawer_m: float = 0.0, distractors: Mapping[str, np.ndarray] | None = None
    ) -> None:
        """Arm at home, gripper open, everything at rest.

        cubes [3, 3]: x, y [m], yaw [rad], as CUBE_COLORS. drawer_m: how far the drawer stands open.
        distractors: x, y, yaw of those that are on the table, by name; the others are put away.
        """
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[self.arm_qpos] = HOME_RAD
        self.data.qpos[self.joint_qpos[6:]] = FINGER_TRAVEL_M
        self.data.joint("drawer").qpos[0] = drawer_m
        for color, place in zip(CUBE_COLORS, cubes, strict=True):
            self._put(f"{color}_cube", place, CUBE_HALF_M)
        self.distractors = dict(distractors or {})
        for name in DISTRACTOR_RADII_M:
            body, present = self.model.body(name), name in self.distractors
            geoms = slice(body.geomadr[0], body.geomadr[0] + body.geomnum[0])
            self.model.geom_contype[geoms] = self.model.geom_conaffinity[geoms] = int(present)
            self.model.geom_group[geoms] = 0 if present else _HIDDEN_GROUP
            self.model.body_gravcomp[body.id] = float(not present)
            if present:
                self._put(name, self.distractors[name], 0.0)
        mujoco.mj_forward(self.model, self.data)
        self.mark_start()

    def _put(self, name: str, place: np.ndarray, height_m: float) -> None:
        x, y, yaw = place
        self.data.joint(name).qpos[:] = x, y, height_m, np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2)

    def mark_start(self) -> None:
        """Remembers where the cubes are now as where they were when the task was set."""
        self._start_m = np.array([self.base_T_cube(color)[:3, 3] for color in CUBE_COLORS])

    def displaced_m(self, color: str) -> float:
        """How far over the table the cube has moved since the task was set."""
        moved = self.base_T_cube(color)[:2, 3] - self._start_m[CUBE_COLORS.index(color), :2]
        return float(np.hypot(*moved))

    def base_T_ee(self) -> np.ndarray:
        """Pose [4, 4] of the end-effector: between the finger pads, z approach, y opening direction."""
        site = self.ee_site
        return make_transform(self.data.site_xmat[site].reshape(3, 3), self.data.site_xpos[site])

    def base_T_cube(self, color: str) -> np.ndarray:
        """Pose [4, 4] of the cube of that colour."""
        body = self.data.body(f"{color}_cube")
        return make_transform(body.xmat.reshape(3, 3), body.xpos)

    def cube_speed_m_s(self, color: str) -> float:
        """Speed of the cube's centre."""
        return float(np.linalg.norm(self.data.joint(f"{color}_cube").qvel[:3]))

    def drawer_m(self) -> float:
        """How far the drawer stands open, 0 to DRAWER_TRAVEL_M."""
        return float(self.data.joint("drawer").qpos[0])

    def drawer_speed_m_s(self) -> float:
        """How fast the drawer moves, either way."""
        return float(abs(self.data.joint("drawer").qvel[0]))

    def drawer_position_m(self) -> np.ndarray:
        """The origin [3] of the drawer frame in the base frame."""
        return self.data.body("drawer").xpos.copy()

    def handle_m(self) -> np.ndarray:
        """The middle [3] of the drawer's handle bar, which runs along x, in the base frame."""
        return self.data.site("handle").xpos.copy()

    def obstacles(self, *but: str) -> np.ndarray:
        """What stands on the table except the cubes of the colours `but`: x, y, radius [m], [N, 3]."""
        cubes = [(*self.base_T_cube(color)[:2, 3], CUBE_RADIUS_M) for color in CUBE_COLORS if color not in but]
        others = [(*self.data.body(name).xpos[:2], DISTRACTOR_RADII_M[name]) for name in self.distractors]
        return np.array(cubes + others).reshape(-1, 3)

    def joint_positions(self) -> np.ndarray:
        """Positions [8] of JOINTS: six angles [rad], two finger travels [m]."""
        return self.data.qpos[self.joint_qpos].copy()

    def gripper_open(self) -> float:
        """How far the fingers stand open, 0 closed to 1 open, as measured."""
        return float(np.clip(self.data.qpos[self.joint_qpos[6:]].mean() / FINGER_TRAVEL_M, 0.0, 1.0))

    def is_grasped(self, color: str) -> bool:
        """Whether both finger pads touch the cube of that colour."""
        return self._touching(f"{color}_cube").issuperset(self.pad_geoms)

    def is_touched(self, color: str) -> bool:
        """Whether any part of the fingers touches the cube of that colour."""
        return not self._touching(f"{color}_cube").isdisjoint(self.finger_geoms)

    def is_handle_grasped(self) -> bool:
        """Whether both finger pads touch the drawer's handle bar."""
        return self._touching("handle_bar").issuperset(self.pad_geoms)

    def is_handle_touched(self) -> bool:
        """Whether any part of the fingers touches the drawer's handle bar."""
        return not self._touching("handle_bar").isdisjoint(self.finger_geoms)

    def _touching(self, geom: str) -> set[int]:
        own, pairs = self.model.geom(geom).id, self.data.contact.geom  # [ncon, 2]
        return set(pairs[(pairs == own).any(axis=1)].ravel().tolist()) - {own}
