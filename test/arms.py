# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Robot descriptions for tests: arms of about a metre, with known limits."""

from __future__ import annotations

AXES = {
    "shoulder_pan": ("0 0 1", "0 0 0.2"),
    "shoulder_lift": ("0 1 0", "0 0 0.1"),
    "elbow": ("0 1 0", "0 0 0.35"),
    "forearm_roll": ("0 0 1", "0 0 0.15"),
    "wrist_pitch": ("0 1 0", "0 0 0.2"),
    "wrist_roll": ("0 0 1", "0 0 0.1"),
}
JOINTS = tuple(AXES)
LOWER, UPPER, VELOCITY = -2.8, 2.8, 2.0
BENT = (0.2, 0.5, 1.2, 0.1, -0.4, 0.3)  # far from singular


def arm_urdf(velocity: float = VELOCITY, continuous: str = "", extra: str = "") -> str:
    """Six revolute joints in a row from base_link to gripper_tcp. continuous: a joint without position limits."""
    parts = ['<robot name="arm"><link name="base_link"/>']
    parent = "base_link"
    for name, (axis, xyz) in AXES.items():
        kind = "continuous" if name == continuous else "revolute"
        bounds = "" if name == continuous else f'lower="{LOWER}" upper="{UPPER}" '
        parts.append(
            f'<link name="{name}_link"/><joint name="{name}" type="{kind}"><parent link="{parent}"/>'
            f'<child link="{name}_link"/><origin xyz="{xyz}"/><axis xyz="{axis}"/>'
            f'<limit {bounds}effort="10" velocity="{velocity}"/></joint>'
        )
        parent = f"{name}_link"
    parts.append(
        f'<link name="gripper_tcp"/><joint name="tcp" type="fixed"><parent link="{parent}"/>'
        f'<child link="gripper_tcp"/><origin xyz="0 0 0.12"/></joint>'
        f'<link name="finger"/><joint name="finger_slide" type="prismatic"><parent link="gripper_tcp"/>'
        f'<child link="finger"/><axis xyz="0 1 0"/><limit lower="0" upper="0.04" effort="1" velocity="1"/></joint>'
    )
    return "".join(parts) + extra + "</robot>"
