# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Parameters of what goes out to the robot: rate, ages, watchdogs and limits."""

from __future__ import annotations

from dataclasses import dataclass

from rclpy.parameter import Parameter

from sqap_vla.nodes.parameters import parameter
from sqap_vla.runtime.limits import Limits

_DOUBLE = Parameter.Type.DOUBLE
_DOUBLES = Parameter.Type.DOUBLE_ARRAY


def _limit(name: str, description: str, maximum: float) -> float | None:
    return parameter(None, description, name=f"limits.{name}", kind=_DOUBLE, minimum=0.0, maximum=maximum)


def _corner(name: str, description: str) -> tuple[float, ...]:
    return parameter((), description, name=f"limits.{name}", kind=_DOUBLES)


@dataclass(frozen=True)
class CommandParameters:
    dry_run: bool = parameter(True, "Commands go to ~/dry_run/ only. Set false to move the robot.", static=True)
    rate_hz: float = parameter(
        20.0,
        "Rate of the commands [Hz]; MoveIt Servo drops what is older than 0.1 s.",
        minimum=1.0,
        maximum=500.0,
        static=True,
    )
    max_chunk_age_s: float = parameter(
        1.0,
        "Longest time a chunk is followed after its image's stamp [s].",
        minimum=0.05,
        maximum=20.0,
        static=True,
    )
    max_silence_s: float = parameter(
        2.0,
        "Wall time without a usable image or a new transform after which commands stop, whatever the stamps say [s].",
        minimum=0.05,
        maximum=60.0,
        static=True,
    )
    max_inference_s: float = parameter(
        10.0,
        "Running time of one inference from which on it hangs: commands stop [s].",
        minimum=0.1,
        maximum=3600.0,
        static=True,
    )
    fade_in_s: float = parameter(
        0.5,
        "Time over which commands grow from nothing to full after a stop [s].",
        minimum=0.0,
        maximum=10.0,
        static=True,
    )
    deadman_topic: str = parameter(
        "", "A switch that is held, std_msgs/Bool: motion only while true keeps coming. '': none.", static=True
    )
    deadman_timeout_s: float = parameter(
        0.5, "Silence after which the switch counts as released [s].", minimum=0.05, maximum=5.0, static=True
    )
    limit_linear_m_s: float | None = _limit("max_linear_m_s", "Largest end-effector speed [m/s]. Required.", 10.0)
    limit_angular_rad_s: float | None = _limit(
        "max_angular_rad_s", "Largest end-effector turn rate [rad/s]. Required.", 20.0
    )
    limit_linear_accel_m_s2: float | None = _limit(
        "max_linear_accel_m_s2", "Largest change of speed from command to command [m/s^2]. Required.", 100.0
    )
    limit_angular_accel_rad_s2: float | None = _limit(
        "max_angular_accel_rad_s2", "Largest change of turn rate from command to command [rad/s^2]. Required.", 500.0
    )
    limit_linear_jerk_m_s3: float | None = _limit(
        "max_linear_jerk_m_s3", "Largest change of acceleration [m/s^3]. Unset: unlimited.", 10000.0
    )
    limit_angular_jerk_rad_s3: float | None = _limit(
        "max_angular_jerk_rad_s3", "Largest change of angular acceleration [rad/s^3]. Unset: unlimited.", 50000.0
    )
    workspace_min_m: tuple[float, ...] = _corner(
        "workspace_min_m", "Lower corner x y z of the workspace box in base_frame [m]. Required."
    )
    workspace_max_m: tuple[float, ...] = _corner(
        "workspace_max_m", "Upper corner x y z of the workspace box in base_frame [m]. Required."
    )

    def make_limits(self) -> Limits:
        """Raises ValueError where a required limit is missing: nothing moves without all of them."""
        required = {
            "max_linear_m_s": self.limit_linear_m_s,
            "max_angular_rad_s": self.limit_angular_rad_s,
            "max_linear_accel_m_s2": self.limit_linear_accel_m_s2,
            "max_angular_accel_rad_s2": self.limit_angular_accel_rad_s2,
            "workspace_min_m": self.workspace_min_m,
            "workspace_max_m": self.workspace_max_m,
        }
        missing = [name for name, value in required.items() if value is None or value == ()]
        if missing:
            raise ValueError(
                f"limits not set: {', '.join('limits.' + name for name in missing)}; the policy does not start "
                "without explicit limits, see config/ for examples"
            )
        return Limits(
            **required,
            max_linear_jerk_m_s3=self.limit_linear_jerk_m_s3,
            max_angular_jerk_rad_s3=self.limit_angular_jerk_rad_s3,
        )
