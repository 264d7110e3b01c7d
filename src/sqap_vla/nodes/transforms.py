# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Looking up transforms at the image's stamp.

A transform newer than the image is interpolated by tf2. Where the newest one is older than the image, the newest is
taken only if it is at most `tolerance_s` older; anything staler counts as missing, because a robot that moves is no
longer there.
"""

from __future__ import annotations

import time

import numpy as np
import tf2_ros
from geometry_msgs.msg import TransformStamped
from rclpy.duration import Duration
from rclpy.logging import get_logger
from rclpy.time import Time

from sqap_vla.nodes.conversions import InputError, matrix_from_transform, stamp_ns

NO_TRANSFORM = "transform_missing"
STALE_TRANSFORM = "transform_stale"
CLEAR_PERIOD_S = 1.0  # of the wall, between two times that a buffer of wrong stamps is cleared


def lookup(
    buffer: tf2_ros.Buffer, target: str, source: str, at_ns: int, tolerance_s: float, timeout_s: float = 0.0
) -> np.ndarray:
    """target_T_source [4, 4] at `at_ns`. Raises InputError (transform_missing, transform_stale, transform_invalid)."""
    try:
        found = _ask(buffer, target, source, at_ns, timeout_s)
    except tf2_ros.ExtrapolationException:
        found = _newest_within(buffer, target, source, at_ns, tolerance_s)
    except (tf2_ros.LookupException, tf2_ros.ConnectivityException, tf2_ros.InvalidArgumentException) as error:
        raise InputError(
            NO_TRANSFORM,
            f"no transform from '{source}' to '{target}': {error}. Is it published, and are the frame "
            "parameters right?",
        ) from error
    return matrix_from_transform(found.transform)


def _newest_within(
    buffer: tf2_ros.Buffer, target: str, source: str, at_ns: int, tolerance_s: float
) -> TransformStamped:
    try:
        newest = _ask(buffer, target, source)
    except tf2_ros.TransformException as error:
        raise InputError(NO_TRANSFORM, f"no transform from '{source}' to '{target}': {error}") from error
    age_s = (at_ns - stamp_ns(newest.header.stamp)) / 1e9
    if not -tolerance_s <= age_s <= tolerance_s:
        raise InputError(
            STALE_TRANSFORM,
            f"the newest transform from '{source}' to '{target}' is {age_s:.3f} s from the image's "
            f"stamp; at most tf_tolerance_s = {tolerance_s:.3f} is allowed. Do both use the same clock (use_sim_time)?",
        )
    return newest


def _ask(buffer: tf2_ros.Buffer, target: str, source: str, at_ns: int = 0, timeout_s: float = 0.0) -> TransformStamped:
    """target_T_source at `at_ns`; zero means the latest time common to the chain. Raises a TransformException."""
    try:
        return buffer.lookup_transform(target, source, Time(nanoseconds=at_ns), Duration(seconds=timeout_s))
    except ValueError as error:  # tf2's C++ takes no name with a zero byte in it, and an image's frame_id is anybody's
        raise tf2_ros.InvalidArgumentException(f"frame name {target!r} or {source!r}: {error}") from error


class NewestPose:
    """target_T_source now, or None where it is missing, invalid, or further than max_age_s from now.

    One sample with a stamp from the future, left by a clock that went back or sent by mistake, would hide every later
    one until that time comes, since tf2 keeps what is newest. So the buffer is cleared: it fills with what comes now.
    """

    def __init__(self, buffer: tf2_ros.Buffer, target: str, source: str, max_age_s: float) -> None:
        self.max_age_s = max_age_s
        self.stamp_ns: int | None = None  # of the newest transform, whether it can be used or not
        self._buffer, self._target, self._source = buffer, target, source
        self._cleared_s = float("-inf")

    def at(self, now_ns: int) -> np.ndarray | None:
        try:
            newest = _ask(self._buffer, self._target, self._source)
        except tf2_ros.ExtrapolationException:  # links of the chain have no time in common
            self._clear()
            return None
        except tf2_ros.TransformException:
            return None
        self.stamp_ns = stamp_ns(newest.header.stamp)
        age_s = (now_ns - self.stamp_ns) / 1e9
        if age_s < -self.max_age_s:
            self._clear()
        if abs(age_s) > self.max_age_s:
            return None
        try:
            return matrix_from_transform(newest.transform)
        except InputError:
            return None

    def _clear(self) -> None:
        if time.monotonic() - self._cleared_s < CLEAR_PERIOD_S:
            return
        self._cleared_s = time.monotonic()
        get_logger("sqap_vla").warning(
            f"transforms from '{self._source}' to '{self._target}' are stamped in the future, "
            "or share no time: they are forgotten",
            throttle_duration_sec=10.0,
        )
        self._buffer.clear()


def newest_age_s(buffer: tf2_ros.Buffer, target: str, source: str, now_ns: int) -> float | None:
    """Age of the newest target_T_source by its stamp; None where there is none."""
    try:
        newest = _ask(buffer, target, source)
    except tf2_ros.TransformException:
        return None
    return (now_ns - stamp_ns(newest.header.stamp)) / 1e9
