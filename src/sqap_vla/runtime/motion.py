# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""From one command to the next: acceleration, jerk, and a fade-in after rest.

`Limits` bounds a single command. Here is the memory: what went out last. Commands go out once per `period_s`, so a
twist may differ from the one before by at most max acceleration x period_s, counted in commands and not by a clock,
which may stand, jump or be late. Speed and workspace come last and win: before the wall, braking may be harder.

A stop is not shaped: it is sent as zero at once, and the consumer brakes. After it, motion begins from rest: the
acceleration is limited from zero, and for the first `fade_in_s` the command is scaled from 0 to 1.
"""

from __future__ import annotations

import math

import numpy as np

from sqap_vla.runtime.limits import LimitedCommand, Limits

LINEAR_ACCELERATION = "linear_acceleration"
ANGULAR_ACCELERATION = "angular_acceleration"
FADE_IN = "fade_in"
_ROUNDING = 1e-9


class MotionLimiter:
    """Not thread-safe. limits: may be exchanged between two commands.

    Raises ValueError for a period that is not positive and finite, or a negative fade-in.
    """

    def __init__(self, limits: Limits, period_s: float, fade_in_s: float = 0.0) -> None:
        if not (math.isfinite(period_s) and period_s > 0):
            raise ValueError(f"period_s is {period_s}; it must be positive and finite")
        if not (math.isfinite(fade_in_s) and fade_in_s >= 0):
            raise ValueError(f"fade_in_s is {fade_in_s}; it must be finite and at least 0")
        self.limits = limits
        self._period_s, self._fade_in_s = period_s, fade_in_s
        self.rest()

    def rest(self) -> None:
        """The robot was told to stop: the next command starts from rest."""
        self._twist, self._acceleration = np.zeros(6), np.zeros(6)
        self._moving_s = 0.0

    def apply(
        self, twist: np.ndarray, base_T_target: np.ndarray, base_T_ee: np.ndarray, step_s: float
    ) -> LimitedCommand:
        """As Limits.apply, and within acceleration and jerk of the command before. Raises RefusedCommand."""
        scale = min((self._moving_s + self._period_s) / self._fade_in_s, 1.0) if self._fade_in_s > 0 else 1.0
        limited = self.limits.apply(twist * scale, base_T_target, base_T_ee, step_s, reach=scale)
        engaged = [*limited.engaged, *([FADE_IN] if scale < 1 else [])]
        shaped = np.concatenate(
            [
                self._shape(limited.twist, slice(0, 3), LINEAR_ACCELERATION, engaged),
                self._shape(limited.twist, slice(3, 6), ANGULAR_ACCELERATION, engaged),
            ]
        )
        shaped = self.limits.bound(shaped, base_T_ee, step_s, engaged)
        self._acceleration = (shaped - self._twist) / self._period_s
        self._twist, self._moving_s = shaped, self._moving_s + self._period_s
        return LimitedCommand(shaped, limited.base_T_target, tuple(dict.fromkeys(engaged)), scale)

    def _shape(self, wanted: np.ndarray, part: slice, name: str, engaged: list[str]) -> np.ndarray:
        """The part [3] of the wanted twist, as near as acceleration and jerk allow after one period."""
        limits = self.limits
        linear = name == LINEAR_ACCELERATION
        shaped = approach(
            self._twist[part],
            self._acceleration[part],
            wanted[part],
            limits.max_linear_accel_m_s2 if linear else limits.max_angular_accel_rad_s2,
            limits.max_linear_jerk_m_s3 if linear else limits.max_angular_jerk_rad_s3,
            self._period_s,
        )
        if not np.allclose(shaped, wanted[part], rtol=_ROUNDING, atol=1e-12):
            engaged.append(name)
        return shaped


def approach(
    velocity: np.ndarray,
    acceleration: np.ndarray,
    wanted: np.ndarray,
    max_acceleration: float,
    max_jerk: float | None,
    period_s: float,
) -> np.ndarray:
    """The velocity vector after one period on the way from `velocity`, with its acceleration, to the wanted one.

    The norm of its change is at most max_acceleration x period_s. With a jerk limit the acceleration changes by at most
    max_jerk x period_s, and falls in time, so that the wanted velocity is not overshot.
    """
    error = wanted - velocity
    size = float(np.linalg.norm(error))
    new_acceleration = np.zeros_like(velocity)
    if size > 0:
        allowed = min(max_acceleration, size / period_s)
        if max_jerk is not None:
            lag = max_jerk * period_s / 2
            allowed = min(allowed, math.sqrt(lag * lag + 2 * max_jerk * size) - lag)
        new_acceleration = error / size * allowed
    if max_jerk is not None:
        change = new_acceleration - acceleration
        size, allowed = float(np.linalg.norm(change)), max_jerk * period_s
        if size > allowed:
            new_acceleration = acceleration + change / size * allowed
    return velocity + new_acceleration * period_s
