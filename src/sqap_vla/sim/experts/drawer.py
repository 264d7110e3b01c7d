# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Opening and closing the drawer with closed fingers: they hook the handle bar from behind, or push it from the front.

The handle bar runs along x. Behind it there is room for a finger's thickness and a centimetre on either side. The
gripper is either open or closed here, since that is all that a policy with CogACT's actions can ask for.
"""

from __future__ import annotations

from math import hypot

import numpy as np

from sqap_vla.sim.experts.hand import Hand
from sqap_vla.sim.scene import DRAWER_TRAVEL_M, Scene

ABOVE_M = 0.075  # of the hand over the bar: the fingertips pass over the cabinet
PULLED_M = DRAWER_TRAVEL_M - 0.008  # as far as it is pulled
SHUT_M = 0.002  # as far as it is pushed
FRONT_M = 0.045  # from the bar to the hand before it pushes
BEHIND_M = 0.029  # from the bar to the hand before it pulls: the middle of the gap
TOUCH_M = 0.018  # from the bar to the hand that touches it
_BAR_HALF_M = 0.045
_ALONG_X_RAD = 0.0
_TURNED_RAD = 0.15


def open_drawer(hand: Hand, scene: Scene) -> np.ndarray:
    """One action towards the open drawer."""
    bar_m = scene.handle_m()
    if scene.drawer_m() >= PULLED_M - 0.004:
        return hand.rise_to(bar_m[2] + ABOVE_M, gripper_open=0.0)
    behind_m = bar_m + np.array([0.0, BEHIND_M, 0.0])
    rotation = hand.rotation_opening_along(_ALONG_X_RAD)
    offset_m = hand.position_m - bar_m
    if is_hooked(hand, scene):
        pulled_m = bar_m[1] + TOUCH_M - (PULLED_M + 0.01 - scene.drawer_m())
        return hand.go(np.array([bar_m[0], pulled_m, bar_m[2]]), rotation, gripper_open=0.0)
    over = abs(offset_m[0]) < 0.015 and abs(offset_m[1] - BEHIND_M) < 0.008
    if over and _is_turned(hand, rotation) and hand.gripper_open < 0.15:
        return hand.go(behind_m, rotation, gripper_open=0.0)
    return _approach(hand, behind_m, rotation, bar_m)


def is_hooked(hand: Hand, scene: Scene) -> bool:
    """Whether the closed fingers are behind the bar, at its height."""
    offset_m = hand.position_m - scene.handle_m()
    behind = 0.010 < offset_m[1] < 0.048 and abs(offset_m[0]) < 0.026 and abs(offset_m[2]) < 0.016
    return behind and hand.gripper_open < 0.3


def close_drawer(hand: Hand, scene: Scene) -> np.ndarray:
    """One action towards the shut drawer."""
    bar_m = scene.handle_m()
    if scene.drawer_m() <= SHUT_M:
        return hand.rise_to(bar_m[2] + ABOVE_M, gripper_open=0.0)
    front_m = bar_m - np.array([0.0, FRONT_M, 0.0])
    rotation = hand.rotation_opening_along(_ALONG_X_RAD)
    offset_m = hand.position_m - bar_m
    before = -2 * FRONT_M < offset_m[1] < -0.012 and abs(offset_m[0]) < _BAR_HALF_M - 0.01
    turned = hypot(*hand.turn_rad(rotation)) < 0.3
    if before and turned and abs(offset_m[2]) < 0.012 and hand.gripper_open < 0.15:
        shut_m = np.array([hand.position_m[0], hand.position_m[1] + scene.drawer_m() + FRONT_M, bar_m[2]])
        return hand.go(shut_m, rotation, gripper_open=0.0)
    if hand.off_m(front_m) < 0.012 and _is_turned(hand, rotation) and hand.gripper_open < 0.15:
        return hand.go(front_m, rotation, gripper_open=0.0)
    clear = leave_handle(hand, scene)
    return _approach(hand, front_m, rotation, bar_m) if clear is None else clear


def leave_handle(hand: Hand, scene: Scene) -> np.ndarray | None:
    """One action upwards while the hand is at the handle, so that it can travel; None once it is clear."""
    bar_m = scene.handle_m()
    offset_m = hand.position_m - bar_m
    at_handle = abs(offset_m[0]) < _BAR_HALF_M + 0.03 and -0.03 < offset_m[1] < 0.05
    if not at_handle or offset_m[2] > ABOVE_M - 0.025:
        return None
    if scene.is_handle_grasped():  # closed fingers would take the bar along
        return hand.rise_to(hand.position_m[2], gripper_open=1.0)
    return hand.rise_to(bar_m[2] + ABOVE_M, gripper_open=float(hand.gripper_open > 0.5))


def _is_turned(hand: Hand, rotation: np.ndarray) -> bool:
    return hypot(*hand.turn_rad(rotation)) < _TURNED_RAD


def _approach(hand: Hand, goal_m: np.ndarray, rotation: np.ndarray, bar_m: np.ndarray) -> np.ndarray:
    """Over the goal, at a height that clears the cabinet; straight up first where the hand is too low."""
    over_m = np.append(goal_m[:2], bar_m[2] + ABOVE_M)
    if hand.position_m[2] < over_m[2] - 0.02 and hand.off_m(goal_m) > 0.02:
        return hand.rise_to(over_m[2], gripper_open=0.0)
    return hand.go(over_m, rotation, gripper_open=0.0)
