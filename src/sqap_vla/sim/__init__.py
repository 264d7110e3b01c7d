# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The built-in tabletop: a MuJoCo scene, a gymnasium environment and scripted experts. No ROS, no torch.

World frame = `base_link`: x to the front of the robot, y to its left, z up; the table's surface is z = 0.
SI units. `backend` is imported first: it chooses MuJoCo's off-screen renderer, before mujoco is imported.
"""

from sqap_vla.sim.backend import RenderingError  # isort: skip
from sqap_vla.sim.camera import CameraConfig, camera_T_base, intrinsics, project_points
from sqap_vla.sim.controller import ControlConfig
from sqap_vla.sim.environment import EnvironmentConfig, TabletopEnv
from sqap_vla.sim.experts import Expert
from sqap_vla.sim.instructions import FAMILIES, INSTRUCTIONS, parse_instruction, tasks_of
from sqap_vla.sim.scenarios import FACTORS, SCENARIOS
from sqap_vla.sim.tasks import Task

__all__ = [
    "FACTORS",
    "FAMILIES",
    "INSTRUCTIONS",
    "SCENARIOS",
    "CameraConfig",
    "ControlConfig",
    "EnvironmentConfig",
    "Expert",
    "RenderingError",
    "TabletopEnv",
    "Task",
    "camera_T_base",
    "intrinsics",
    "parse_instruction",
    "project_points",
    "tasks_of",
]
