# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""What goes to the robot at one tick: a command, or a stop and why."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Command:
    """What the robot should do now.

    linear_m_s [3], angular_rad_s [3]: velocity of the end-effector's origin, along base axes. base_T_target
    [4, 4]: pose at the end of the row. gripper_open: 0 closed to 1 open, None: as it is. row: of the chunk.
    action [7]: that row after the ensemble, before limits. engaged: names of the limits that changed the
    command. scale: of a fade-in, 1 once it is over.
    """

    linear_m_s: np.ndarray
    angular_rad_s: np.ndarray
    base_T_target: np.ndarray
    gripper_open: float | None
    row: int
    action: np.ndarray
    engaged: tuple[str, ...]
    scale: float = 1.0


@dataclass(frozen=True)
class Stop:
    """No motion: send zero velocity and no new target. reason: a fixed word; detail: for a person."""

    reason: str
    detail: str = ""
