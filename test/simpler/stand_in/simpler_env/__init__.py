# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Stands in for SIMPLER in the tests: its tasks' names, its observations, actions, rates and quirks, without physics.

The tool follows an action at once and wholly. An episode succeeds when the gripper is closed within 3 cm of the goal
(0.05, 0, -0.05) m from where the tool started, along the base's axes. The picture is grey with a red square where the
tool is, drawn from the camera's own parameters. As in SIMPLER: the base is turned by half a turn in the world, numbers
are single precision, drawer tasks leave the tool's pose out of the observation, long tasks have two parts, the second
of which begins by itself after 100 steps, and `close` makes the environment unusable.

STAND_IN_DIES_AFTER=N in the environment: the process ends as if it had crashed at its Nth step.
"""

from __future__ import annotations

import itertools
import os
from types import SimpleNamespace
from typing import Any

import numpy as np

ENVIRONMENTS = [
    "google_robot_pick_coke_can",
    "google_robot_open_drawer",
    "google_robot_place_apple_in_closed_top_drawer",
    "widowx_spoon_on_towel",
]
# As registered with gymnasium, for SIMPLER's evaluation: name and instructions.
REGISTERED = {
    "GraspSingleOpenedCokeCanInScene-v0": ["pick coke can"],
    "GraspSingleOpenedCokeCanDistractorInScene-v0": ["pick coke can"],
    "MoveNearGoogleBakedTexInScene-v0": ["move apple near sponge"],
    "MoveNearGoogleInScene-v0": ["move apple near sponge"],
    **{
        f"{verb}{which}DrawerCustomInScene-v0": [f"{verb} {which} drawer".lower()]
        for verb in ("Open", "Close")
        for which in ("Top", "Middle", "Bottom")
    },
    "PlaceIntoClosedTopDrawerCustomInScene-v0": ["open top drawer", "place apple into top drawer"],
    "PutSpoonOnTableClothInScene-v0": ["put the spoon on the towel"],
    "PutCarrotOnPlateInScene-v0": ["put carrot on plate"],
    "StackGreenCubeOnYellowCubeBakedTexInScene-v0": ["stack the green block on the yellow block"],
    "PutEggplantInBasketScene-v0": ["put eggplant into yellow basket"],
}
INSTRUCTIONS = REGISTERED | {
    "google_robot_pick_coke_can": ["pick coke can"],
    "google_robot_open_drawer": ["open top drawer"],
    "google_robot_place_apple_in_closed_top_drawer": ["open top drawer", "place apple into top drawer"],
    "widowx_spoon_on_towel": ["put the spoon on the towel"],
}
GOAL_M = np.array([0.05, 0.0, -0.05])
GOOGLE = SimpleNamespace(
    uid="google_robot_static",
    hz=3,
    camera="overhead_camera",
    size=(512, 640),
    steps=80,
    matrix=np.array([[425.0, 0, 320], [0, 425, 256], [0, 0, 1]]),
    world_T_base=np.array([0.35, 0.2, 0.079, 0, 0, 0, 1]),
    tcp_m=np.array([0.44, -0.22, 0.96]),
    eye_m=np.array([0.2, 0.2, 1.29]),
    target_m=np.array([-0.1, 0.2, 0.87]),
    joints=("joint_torso", "joint_finger_right"),
)
WIDOWX = SimpleNamespace(
    uid="widowx",
    hz=5,
    camera="3rd_view_camera",
    size=(480, 640),
    steps=60,
    matrix=np.array([[623.588, 0, 319.501], [0, 623.588, 239.545], [0, 0, 1]]),
    world_T_base=np.array([0.147, 0.028, 0.87, 0, 0, 0, 1]),
    tcp_m=np.array([0.292, -0.006, 0.135]),
    eye_m=np.array([0.147, 0.188, 1.23]),
    target_m=np.array([-0.15, 0.03, 0.9]),
    joints=("waist", "left_finger"),
)
REACH_M = 0.03
STEPS = itertools.count(1)  # of this process


def camera_T_world(eye_m: np.ndarray, target_m: np.ndarray) -> np.ndarray:
    """[4, 4] of a camera at `eye_m` that looks at `target_m`, OpenCV axes, the world's z up in the picture."""
    forward = (target_m - eye_m) / np.linalg.norm(target_m - eye_m)
    right = np.cross(forward, [0, 0, 1])
    right /= np.linalg.norm(right)
    matrix = np.eye(4)
    matrix[:3, :3] = [right, np.cross(forward, right), forward]
    matrix[:3, 3] = -matrix[:3, :3] @ eye_m
    return matrix


class StandInEnv:
    """One task. `unwrapped` is itself, with the attributes that SIMPLER's scenes have."""

    def __init__(self, task: str, options: dict[str, Any]) -> None:
        robot = options.get("robot", task)
        kind = GOOGLE if robot.startswith("google") else WIDOWX
        self.task, self._kind, self.options = task, kind, options
        self.robot_uid, self.control_freq = options.get("robot", kind.uid), options.get("control_freq", kind.hz)
        self.spec = SimpleNamespace(max_episode_steps=options.get("max_episode_steps", kind.steps))
        self._world_T_base = kind.world_T_base
        joints = [SimpleNamespace(name=name) for name in kind.joints]
        self.agent = SimpleNamespace(robot=SimpleNamespace(get_active_joints=lambda: joints))
        self.unwrapped = self
        self._camera_T_world = camera_T_world(kind.eye_m, kind.target_m)
        self._closed = False

    @property
    def tcp(self) -> SimpleNamespace:
        return SimpleNamespace(pose=SimpleNamespace(p=self._world_tcp(), q=np.array([0, 0, 1, 0], np.float32)))

    def close(self) -> None:
        self._closed = True

    def reset(self, seed: int | None = None, options: dict | None = None) -> tuple[dict, dict]:
        assert not self._closed, "the environment is closed"
        options = options or {}
        if "robot" in self.options:  # made as the evaluation makes it: the episode says where everything is
            (x, y), rotation = (options["robot_init_options"][name] for name in ("init_xy", "init_rot_quat"))
            self._world_T_base = np.array([x, y, self._kind.world_T_base[2], *rotation])
            assert options["obj_init_options"].keys() & {"init_xy", "episode_id"}
        episode = options.get("obj_init_options", {}).get("episode_id")
        shift = np.random.default_rng(seed if episode is None else 10_000 + episode).uniform(-0.01, 0.01, 3)
        self._tcp_m = self._start_m = self._kind.tcp_m + shift
        self._opening, self._elapsed, self._part = 1.0, 0, 0
        return self._observation(), {}

    def step(self, action: np.ndarray) -> tuple[dict, float, bool, bool, dict]:
        assert action.shape == (7,) and not self._closed
        if next(STEPS) == int(os.environ.get("STAND_IN_DIES_AFTER", "0")):
            os._exit(3)
        if self._elapsed >= 100 and not self.is_final_subtask():
            self.advance_to_next_subtask()
        self._tcp_m = self._tcp_m + action[:3]
        if self._kind is GOOGLE:  # relative, +1 closes
            self._opening = float(np.clip(self._opening - 0.25 * action[6], 0, 1))
        else:  # absolute, +1 opens
            self._opening = float(action[6] > 0)
        self._elapsed += 1
        near = bool(np.linalg.norm(self._tcp_m - self._start_m - GOAL_M) < REACH_M)
        success = near and self._opening < 0.5 and self.is_final_subtask()
        stats = {"is_src_obj_grasped": np.bool_(near and self._opening < 0.5), "opening": np.float32(self._opening)}
        info = {"success": success, "elapsed_steps": self._elapsed, "episode_stats": stats}
        return self._observation(), 0.0, success, self._elapsed >= self.spec.max_episode_steps, info

    def get_language_instruction(self) -> str:
        return INSTRUCTIONS[self.task][self._part]

    def is_final_subtask(self) -> bool:
        return self._part == len(INSTRUCTIONS[self.task]) - 1

    def advance_to_next_subtask(self) -> None:
        self._part += 1

    def _world_tcp(self) -> np.ndarray:
        x, y, z = self._tcp_m
        yaw = 2 * np.arctan2(self._world_T_base[6], self._world_T_base[3])
        turned = np.array([x * np.cos(yaw) - y * np.sin(yaw), x * np.sin(yaw) + y * np.cos(yaw), z])
        return (self._world_T_base[:3] + turned).astype(np.float32)

    def _observation(self) -> dict:
        height, width = self._kind.size
        rgb = np.full((height, width, 3), 128, np.uint8)
        u, v, depth = self._kind.matrix @ (self._camera_T_world @ np.append(self._world_tcp(), 1))[:3]
        column, row = round(u / depth), round(v / depth)
        rgb[max(row - 4, 0) : row + 5, max(column - 4, 0) : column + 5] = (255, 0, 0)
        pose = np.concatenate([self._world_tcp(), [0, 0, 1, 0]]).astype(np.float32)
        camera = {
            "extrinsic_cv": self._camera_T_world.astype(np.float32),
            "intrinsic_cv": self._kind.matrix.astype(np.float32),
        }
        return {
            "agent": {
                "qpos": np.array([0.1, self._opening], np.float32),
                "qvel": np.zeros(2, np.float32),
                "base_pose": self._world_T_base.astype(np.float32),
            },
            "extra": {} if "drawer" in self.task.lower() else {"tcp_pose": pose},
            "camera_param": {self._kind.camera: camera},
            "image": {self._kind.camera: {"rgb": rgb}},
        }


def make(task: str, **options: Any) -> StandInEnv:
    return StandInEnv(task, options)
