# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Twists become joint targets that move the end-effector by twist x time, within the limits, without drift."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("mujoco", reason="needs MuJoCo")

from sqap_vla.sim import ControlConfig
from sqap_vla.sim.follower import ArmFollower
from sqap_vla.sim.scene import HOME_RAD
from sqap_vla.sim.transforms import rotation_from_vector

STILL = np.zeros(6)


@pytest.fixture
def follower() -> ArmFollower:
    return ArmFollower(ControlConfig())


def test_an_arm_that_follows_moves_by_twist_times_time(follower: ArmFollower) -> None:
    joints, start = HOME_RAD, follower.base_T_ee(HOME_RAD)
    for _ in range(25):
        joints = follower.follow(np.array([0.02, 0.05, 0.04, 0, 0, 0.2]), 0.04, joints)
    moved = follower.base_T_ee(joints)
    assert np.allclose(moved[:3, 3] - start[:3, 3], (0.02, 0.05, 0.04), atol=1e-3)
    assert np.allclose(moved[:3, :3], rotation_from_vector(np.array([0, 0, 0.2])) @ start[:3, :3], atol=2e-3)


def test_a_servo_that_lags_by_a_little_does_not_make_the_target_drift(follower: ArmFollower) -> None:
    lagging = HOME_RAD + 0.01
    targets = [follower.follow(STILL, 0.04, lagging if step else HOME_RAD) for step in range(50)]
    assert np.allclose(targets[0], targets[-1], atol=1e-4)


def test_a_blocked_arm_does_not_wind_up(follower: ArmFollower) -> None:
    for _ in range(100):
        joints = follower.follow(np.array([0, 0.25, 0, 0, 0, 0]), 0.04, HOME_RAD)
    lead_m = np.linalg.norm(follower.base_T_ee(joints)[:3, 3] - follower.base_T_ee(HOME_RAD)[:3, 3])
    assert lead_m <= ControlConfig().max_lead_m + 1e-3


def test_the_target_stays_in_the_workspace(follower: ArmFollower) -> None:
    joints = HOME_RAD
    for _ in range(200):
        joints = follower.follow(np.array([0, 0, -0.25, 0, 0, 0]), 0.04, joints)
    assert follower.base_T_ee(joints)[2, 3] == pytest.approx(ControlConfig().workspace_min_m[2], abs=1e-3)


def test_after_a_reset_the_arm_is_sent_to_where_it_is(follower: ArmFollower) -> None:
    follower.follow(np.array([0.2, 0, 0, 0, 0, 0]), 0.1, HOME_RAD)
    follower.reset()
    elsewhere = HOME_RAD + np.array([0.3, 0, 0, 0, 0, 0])
    assert np.allclose(follower.follow(STILL, 0.04, elsewhere), elsewhere, atol=1e-4)
