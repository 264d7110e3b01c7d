# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""How SIMPLER's evaluation makes its environments: by their registered names, with arguments of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from simpler_env import REGISTERED, StandInEnv

ARGUMENTS = {
    *("robot", "control_freq", "sim_freq", "max_episode_steps", "scene_name", "rgb_overlay_path"),
    *("obs_mode", "control_mode", "camera_cfgs", "shader_dir", "urdf_version", "model_ids"),
    *("lr_switch", "upright", "laid_vertically", "distractor_config", "no_distractor"),
    *("slightly_darker_lighting", "slightly_brighter_lighting"),
    *("station_name", "light_mode", "disable_bad_material"),
}


def get_robot_control_mode(robot_name: str, policy_name: str | None) -> str:
    return f"of {robot_name}"


def build_maniskill2_env(env_name: str, **kwargs: Any) -> StandInEnv:
    unknown = kwargs.keys() - ARGUMENTS
    if unknown:
        raise TypeError(f"unexpected keyword arguments {sorted(unknown)}")
    if env_name not in REGISTERED:
        raise KeyError(f"no environment '{env_name}'")
    assert kwargs["control_mode"] == f"of {kwargs['robot']}" and kwargs["obs_mode"] == "rgbd"
    if "rgb_overlay_path" in kwargs:
        assert Path(kwargs["rgb_overlay_path"]).is_file()
    return StandInEnv(env_name, kwargs)
