# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Rate and age of the inputs, and whether a frame's stamp can be believed.

Rates and arrival ages are measured on the steady clock: a /clock that stands still must not make an input look fresh.
Ages of stamps are measured on the node's ROS clock.
"""

from __future__ import annotations

import time
from collections import deque

from sqap_vla.nodes.conversions import InputError


class InputMonitor:
    """Arrivals of one input over the last `window` messages."""

    def __init__(self, window: int = 30) -> None:
        self._arrivals_s: deque[float] = deque(maxlen=window)
        self.last_stamp_ns: int | None = None
        self.count = 0

    def arrived(self, stamp_ns: int | None = None) -> None:
        self._arrivals_s.append(time.monotonic())
        self.last_stamp_ns = stamp_ns
        self.count += 1

    def rate_hz(self) -> float:
        """Mean rate over the window, up to now: it falls when messages stop coming."""
        arrivals_s = tuple(self._arrivals_s)
        if len(arrivals_s) < 2:
            return 0.0
        return len(arrivals_s[1:]) / max(arrivals_s[-1] - arrivals_s[0], time.monotonic() - arrivals_s[0], 1e-6)

    def age_s(self) -> float | None:
        """Time since the last arrival; None where nothing ever came."""
        return time.monotonic() - self._arrivals_s[-1] if self._arrivals_s else None


class StampGate:
    """Lets a frame through whose stamp is set, fresh, not from the future, and newer than the one before."""

    def __init__(self, max_age_s: float, future_tolerance_s: float) -> None:
        self.max_age_s, self.future_tolerance_s = max_age_s, future_tolerance_s
        self._last_ns: int | None = None

    def check(self, stamp_ns: int, now_ns: int) -> None:
        """Raises InputError (stamp_missing, stamp_in_future, image_stale, image_out_of_order)."""
        if stamp_ns <= 0:  # to tf2, zero means the latest transform; the robot may have moved since the image
            raise InputError(
                "stamp_missing",
                f"image stamp is {stamp_ns / 1e9:g} s; header.stamp must be the time of exposure: set it in the driver",
            )
        age_s = (now_ns - stamp_ns) / 1e9
        hint = "compare the clocks of camera and robot, and use_sim_time"
        if age_s < -self.future_tolerance_s:
            raise InputError(
                "stamp_in_future",
                f"image stamp is {-age_s:.3f} s ahead of the clock; at most "
                f"{self.future_tolerance_s:.3f} s is allowed: {hint}",
            )
        if age_s > self.max_age_s:
            raise InputError(
                "image_stale",
                f"image is {age_s:.3f} s old by its stamp; at most max_image_age_s = "
                f"{self.max_age_s:.3f} is allowed: {hint}",
            )
        if self._last_ns is not None and stamp_ns <= self._last_ns:
            raise InputError(
                "image_out_of_order",
                f"image stamp {stamp_ns} is not newer than {self._last_ns}; is more than one publisher on the topic?",
            )
        self._last_ns = stamp_ns

    def reset(self) -> None:
        self._last_ns = None


class ClockWatch:
    """Notices a clock that stands still or goes back (a bag that loops, a simulator's reset, a stepped clock).

    To be asked at every tick of the command timer.
    """

    def __init__(self) -> None:
        self._last_ns = 0
        self._moved_s = self._asked_s = time.monotonic()
        self.running_s = 0.0  # wall time, summed over the ticks between which the clock moved

    def jumped_back(self, now_ns: int) -> bool:
        """True once per jump."""
        asked_s, self._asked_s = self._asked_s, time.monotonic()
        if now_ns != self._last_ns:
            self._moved_s = self._asked_s
            self.running_s += self._asked_s - asked_s
        jumped, self._last_ns = now_ns < self._last_ns, now_ns
        return jumped

    def still_s(self) -> float:
        """Wall time since the clock moved, or since `restart_still`."""
        return time.monotonic() - self._moved_s

    def restart_still(self) -> None:
        self._moved_s = time.monotonic()


class SilenceWatch:
    """How long nothing new came, in wall time during which the ROS clock moved.

    Ages by stamp are blind where /clock crawls: a second of it may take minutes. Time during which it stands is
    left out: in lockstep it does while the policy thinks, and ClockWatch bounds it.
    """

    def __init__(self, clock: ClockWatch) -> None:
        self._clock = clock
        self._stamp_ns: int | None = None
        self._since_s = clock.running_s

    def heard(self) -> None:
        self._since_s = self._clock.running_s

    def stamped(self, stamp_ns: int) -> None:
        """Heard, where the stamp is another one than before."""
        if stamp_ns != self._stamp_ns:
            self._stamp_ns = stamp_ns
            self.heard()

    def silent_s(self) -> float:
        return self._clock.running_s - self._since_s
