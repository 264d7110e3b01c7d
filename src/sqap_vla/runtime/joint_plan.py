# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""A short joint trajectory that follows the chunk and ends at rest.

Each plan begins where the one before is at that time, position and velocity, so that plans follow each other without a
jump; follows the wanted motion of the end-effector for `horizon_s` through differential inverse kinematics; and slows
down to rest until `span_s`. A consumer that hears nothing more, whatever happened to us, comes to rest by itself.

Velocities are straight between points, so a cubic through positions and velocities is exact, and between two points no
joint is faster or accelerates more than at them. The largest speed is what the slowing down can take away again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sqap_vla.runtime.actions import rotvec_from_rotation
from sqap_vla.runtime.kinematics import ArmKinematics, JointLimits, joint_velocities
from sqap_vla.runtime.limits import Limits
from sqap_vla.runtime.motion import approach

MAX_SPAN_S = 0.5
STEP_S = 0.05

Motion = tuple[np.ndarray, np.ndarray]  # twist [6] that the chunk wants, and the pose [4, 4] where it wants the hand
Preview = Callable[[int], "Motion | None"]


@dataclass(frozen=True, eq=False)
class JointPlan:
    """Points at start_ns + times_s [K]; positions and velocities [K, n]. The last velocity is zero."""

    start_ns: int
    times_s: np.ndarray
    positions: np.ndarray
    velocities: np.ndarray
    engaged: tuple[str, ...] = ()

    def at(self, now_ns: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Position, velocity and acceleration [n] at that time; after the end, at rest at its last point."""
        time_s = max((now_ns - self.start_ns) / 1e9, 0.0)
        if time_s >= self.times_s[-1]:
            return self.positions[-1], np.zeros_like(self.positions[-1]), np.zeros_like(self.positions[-1])
        point = int(np.searchsorted(self.times_s, time_s, side="right")) - 1
        since_s = time_s - self.times_s[point]
        length_s = self.times_s[point + 1] - self.times_s[point]
        acceleration = (self.velocities[point + 1] - self.velocities[point]) / length_s
        velocity = self.velocities[point] + acceleration * since_s
        position = self.positions[point] + (self.velocities[point] + velocity) / 2 * since_s
        return position, velocity, acceleration


class JointPlanner:
    """limits: of the end-effector, may be exchanged. correction_s: time in which a deviation of the hand from where the
    chunk wants it is made up for.

    Raises ValueError unless 0 < horizon_s < span_s <= 0.5.
    """

    def __init__(
        self,
        arm: ArmKinematics,
        joint_limits: JointLimits,
        limits: Limits,
        correction_s: float,
        horizon_s: float = 0.25,
        span_s: float = MAX_SPAN_S,
    ) -> None:
        if not 0 < horizon_s < span_s <= MAX_SPAN_S:
            raise ValueError(
                f"horizon is {horizon_s} s, span {span_s} s; it must be 0 < horizon < span <= {MAX_SPAN_S}"
            )
        self.limits = limits
        fastest = np.minimum(joint_limits.velocity, joint_limits.acceleration * (span_s - horizon_s))
        self._arm, self._correction_s = arm, correction_s
        self._joint_limits = dataclasses.replace(joint_limits, velocity=fastest)
        self._horizon_s, self._span_s = horizon_s, span_s

    def plan(
        self,
        now_ns: int,
        state: tuple[np.ndarray, np.ndarray, np.ndarray],
        base_T_ee: np.ndarray,
        preview: Preview,
        scale: float = 1.0,
    ) -> JointPlan:
        """From `state` (position, velocity, acceleration) at now_ns on.

        base_T_ee: where the hand is measured to be now; its deviation from the chunk's pose is made up for. scale: of
        the wanted motion, for a fade-in. Raises RefusedCommand for numbers that are not finite.
        """
        position, velocity, acceleration = state
        steps = max(round(self._horizon_s / STEP_S), 1)
        step_s = self._horizon_s / steps
        points = [(0.0, position, velocity)]
        engaged: list[str] = []
        here = preview(now_ns)
        deviation = np.zeros(6) if here is None else _difference(here[1], base_T_ee)
        for step in range(steps):
            motion = preview(now_ns + round((step + 1) * step_s * 1e9))
            ahead = position + velocity * step_s  # the velocity that is chosen is reached at the end of the step
            pose, jacobian = self._arm.forward(ahead)
            wanted = np.zeros(6)
            if motion is not None:
                correction = deviation / self._correction_s
                deviation = deviation - correction * step_s
                wanted = scale * (motion[0] + correction)
            twist = self.limits.bound(wanted, pose, self._correction_s, engaged)
            goal, names = joint_velocities(jacobian, twist, ahead, self._joint_limits, step_s)
            engaged += names
            new = np.array(
                [
                    approach(
                        velocity[joint : joint + 1],
                        acceleration[joint : joint + 1],
                        goal[joint : joint + 1],
                        float(self._joint_limits.acceleration[joint]),
                        None if self._joint_limits.jerk is None else float(self._joint_limits.jerk[joint]),
                        step_s,
                    )[0]
                    for joint in range(len(position))
                ]
            )
            new = np.clip(new, -self._joint_limits.velocity, self._joint_limits.velocity)  # where a jerk limit overshot
            acceleration = (new - velocity) / step_s
            position = position + (velocity + new) / 2 * step_s
            velocity = new
            points.append(((step + 1) * step_s, position, velocity))
        points += _slow_down(*points[-1], self._span_s)
        times_s, positions, velocities = (np.array(column) for column in zip(*points, strict=True))
        return JointPlan(now_ns, times_s, positions, velocities, tuple(dict.fromkeys(engaged)))

    def stop(self, now_ns: int, state: tuple[np.ndarray, np.ndarray, np.ndarray]) -> JointPlan:
        """To rest as fast as the accelerations allow, within the span."""
        position, velocity, _ = state
        needed_s = float(np.max(np.abs(velocity) / self._joint_limits.acceleration))
        points = [(0.0, position, velocity)]
        points += _slow_down(0.0, position, velocity, min(max(needed_s, STEP_S), self._span_s))
        times_s, positions, velocities = (np.array(column) for column in zip(*points, strict=True))
        return JointPlan(now_ns, times_s, positions, velocities)


def _slow_down(start_s: float, position: np.ndarray, velocity: np.ndarray, end_s: float) -> list[tuple]:
    """Points at which the velocity falls in a straight line to zero."""
    steps = max(round((end_s - start_s) / STEP_S), 1)
    length_s = end_s - start_s
    points = []
    for step in range(1, steps + 1):
        part = step / steps
        points.append(
            (start_s + part * length_s, position + velocity * length_s * (part - part**2 / 2), velocity * (1 - part))
        )
    return points


def _difference(base_T_wanted: np.ndarray, base_T_ee: np.ndarray) -> np.ndarray:
    """[6] along base axes: what leads from the one pose to the other."""
    turn = rotvec_from_rotation(base_T_wanted[:3, :3] @ base_T_ee[:3, :3].T)
    return np.concatenate([base_T_wanted[:3, 3] - base_T_ee[:3, 3], turn])
