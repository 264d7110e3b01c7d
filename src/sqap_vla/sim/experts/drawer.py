# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Opening the drawer by its handle, held between the fingers, and pushing it shut with the closed hand.

The handle bar runs along x; the fingers stand on both sides of it. Behind the bar there is room for a half
open finger only, so the gripper is set to STRADDLE_OPEN before the hand goes down, and stays there until the
hand has left upwards.
"""

from __future__ import annotations

import numpy as np

from sqap_vla.sim.experts.hand import Hand
from sqap_vla.sim.scene import DRAWER_TRAVEL_M, Scene

STRADDLE_OPEN = 0.40
ABOVE_M = 0.075  # of the hand over the bar: the fingertips pass over the cabinet
PULLED_M = DRAWER_TRAVEL_M - 0.008  # as far as it is pulled
SHUT_M = 0.002  # as far as it is pushed
FRONT_M = 0.045  # from the bar to the hand before it pushes
_BAR_HALF_M = 0.045
_ALONG_Y_RAD, _ALONG_X_RAD = np.pi / 2, 0.0


def open_drawer(hand: Hand, scene: Scene) -> np.ndarray:
    """One action towards the open drawer."""
    bar_m = scene.handle_m()
    rotation = hand.rotation_opening_along(_ALONG_Y_RAD)
    if scene.drawer_m() >= PULLED_M - 0.004 and not scene.is_handle_grasped():
        return hand.rise_to(bar_m[2] + ABOVE_M, STRADDLE_OPEN)
    if _straddles(hand, bar_m):
        if scene.drawer_m() >= PULLED_M:
            return hand.rise_to(hand.position_m[2], STRADDLE_OPEN)
        if scene.is_handle_grasped():
            pulled_m = np.array([hand.position_m[0], bar_m[1] - (PULLED_M + 0.01 - scene.drawer_m()), bar_m[2]])
            return hand.go(pulled_m, rotation, gripper_open=0.0)
        return hand.go(bar_m, rotation, gripper_open=0.0)
    if hand.is_aligned(bar_m, rotation) and abs(hand.gripper_open - STRADDLE_OPEN) < 0.12:
        return hand.go(bar_m, rotation, STRADDLE_OPEN)
    return _approach(hand, bar_m, rotation, STRADDLE_OPEN, bar_m)


def close_drawer(hand: Hand, scene: Scene) -> np.ndarray:
    """One action towards the shut drawer."""
    bar_m = scene.handle_m()
    if scene.drawer_m() <= SHUT_M:
        return hand.rise_to(bar_m[2] + ABOVE_M, gripper_open=0.0)
    front_m = bar_m - np.array([0.0, FRONT_M, 0.0])
    rotation = hand.rotation_opening_along(_ALONG_X_RAD)
    offset_m = hand.position_m - bar_m
    before = -2 * FRONT_M < offset_m[1] < -0.012 and abs(offset_m[0]) < _BAR_HALF_M - 0.01
    turned = np.linalg.norm(hand.turn_rad(rotation)) < 0.3
    if before and turned and abs(offset_m[2]) < 0.012 and hand.gripper_open < 0.15:
        shut_m = np.array([hand.position_m[0], hand.position_m[1] + scene.drawer_m() + FRONT_M, bar_m[2]])
        return hand.go(shut_m, rotation, gripper_open=0.0)
    if hand.is_aligned(front_m, rotation) and hand.gripper_open < 0.15:
        return hand.go(front_m, rotation, gripper_open=0.0)
    clear = leave_handle(hand, scene)
    return _approach(hand, front_m, rotation, 0.0, bar_m) if clear is None else clear


def leave_handle(hand: Hand, scene: Scene) -> np.ndarray | None:
    """One action upwards while the hand is at the handle, so that it can travel; None once it is clear."""
    bar_m = scene.handle_m()
    offset_m = hand.position_m - bar_m
    at_handle = abs(offset_m[0]) < _BAR_HALF_M + 0.03 and -0.03 < offset_m[1] < 0.05
    if not at_handle or offset_m[2] > ABOVE_M - 0.025:
        return None
    # Half open first, standing still: closed fingers would take the bar along, wide ones the front.
    clamped = scene.is_handle_grasped()
    return hand.rise_to(hand.position_m[2] if clamped else bar_m[2] + ABOVE_M, STRADDLE_OPEN)


def _straddles(hand: Hand, bar_m: np.ndarray) -> bool:
    offset_m = np.abs(hand.position_m - bar_m)
    return bool(offset_m[0] < _BAR_HALF_M - 0.015 and offset_m[1] < 0.012 and offset_m[2] < 0.012)


def _approach(
    hand: Hand, goal_m: np.ndarray, rotation: np.ndarray, gripper_open: float, bar_m: np.ndarray
) -> np.ndarray:
    """Over the goal, at a height that clears the cabinet; straight up first where the hand is too low."""
    over_m = np.append(goal_m[:2], bar_m[2] + ABOVE_M)
    if hand.position_m[2] < over_m[2] - 0.02 and hand.off_m(goal_m) > 0.02:
        return hand.rise_to(over_m[2], gripper_open)
    return hand.go(over_m, rotation, gripper_open)
