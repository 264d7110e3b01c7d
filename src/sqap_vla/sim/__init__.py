# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The built-in tabletop: a MuJoCo scene, a gymnasium environment and a scripted expert. No ROS, no torch.

World frame = `base_link`: x to the front of the robot, y to its left, z up; the table's surface is z = 0.
SI units. `backend` is imported first: it chooses MuJoCo's off-screen renderer, before mujoco is imported.
"""

from sqap_vla.sim.backend import RenderingError  # isort: skip
from sqap_vla.sim.camera import CameraConfig, camera_T_base, intrinsics, project_points
from sqap_vla.sim.controller import ControlConfig
from sqap_vla.sim.environment import EnvironmentConfig, TabletopEnv
from sqap_vla.sim.expert import PickExpert
from sqap_vla.sim.tasks import INSTRUCTIONS, PickTask, Task, parse_instruction

__all__ = [
    "INSTRUCTIONS",
    "CameraConfig",
    "ControlConfig",
    "EnvironmentConfig",
    "PickExpert",
    "PickTask",
    "RenderingError",
    "TabletopEnv",
    "Task",
    "camera_T_base",
    "intrinsics",
    "parse_instruction",
    "project_points",
]
