# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Transforms as messages in and out of a FrameTree; thread-safe; knows no node.

Conventions (REP-105 names, tf2's argument order): lookup(target, source) returns target_T_source, which maps
a point given in `source` to `target`; header.frame_id is the target, child_frame_id the source. Time 0 means
the latest time for which every transform of the chain is known."""

from __future__ import annotations

import math
import threading

from builtin_interfaces.msg import Time as TimeMsg
from geometry_msgs.msg import TransformStamped
from rclpy.duration import Duration
from rclpy.logging import get_logger
from rclpy.time import Time

from tf2_py.cache import Sample
from tf2_py.exceptions import TransformException
from tf2_py.rigid import Rigid, compose
from tf2_py.tree import FrameTree

NORM_TOLERANCE = 10e-3


def to_nanoseconds(time: Time | TimeMsg) -> int:
    """Nanoseconds of an rclpy Time or a builtin_interfaces/Time."""
    if hasattr(time, "nanosec"):
        return time.sec * 1_000_000_000 + time.nanosec
    if hasattr(time, "nanoseconds"):
        return time.nanoseconds
    raise TypeError(f"time must be an rclpy.time.Time or a builtin_interfaces.msg.Time, not {type(time).__name__}")


class BufferCore:
    """Stores transforms of the last `cache_time` (default 10 s) and composes them."""

    def __init__(self, cache_time: Duration | None = None) -> None:
        self._tree = FrameTree(10_000_000_000 if cache_time is None else cache_time.nanoseconds)
        self._authorities: dict[str, str] = {}
        # A condition, so that a lookup with a timeout wakes up when a transform arrives.
        self._changed = threading.Condition(threading.RLock())

    def set_transform(self, transform: TransformStamped, authority: str) -> None:
        """Store a sample of a moving transform. A malformed one is logged and left out."""
        self._insert(transform, authority, is_static=False)

    def set_transform_static(self, transform: TransformStamped, authority: str) -> None:
        """Store a transform that holds at every time. A malformed one is logged and left out."""
        self._insert(transform, authority, is_static=True)

    def clear(self) -> None:
        """Forget the history of moving transforms; static ones and the names of the frames stay."""
        with self._changed:
            self._tree.clear()

    def lookup_transform_core(self, target_frame: str, source_frame: str, time: Time) -> TransformStamped:
        """target_T_source at `time`, stamped with the time it holds for. Raises a TransformException."""
        with self._changed:
            transform, stamp_ns = self._tree.lookup(target_frame, source_frame, to_nanoseconds(time))
        return _to_message(transform, stamp_ns, target_frame, source_frame)

    def lookup_transform_full_core(
        self, target_frame: str, target_time: Time, source_frame: str, source_time: Time, fixed_frame: str
    ) -> TransformStamped:
        """target_T_source from the source at one time to the target at another, `fixed_frame` standing
        still.
        """
        with self._changed:
            for name, frame in (
                ("target_frame", target_frame),
                ("source_frame", source_frame),
                ("fixed_frame", fixed_frame),
            ):
                self._tree.validate(name, frame)
            fixed_T_source, _ = self._tree.lookup(  # noqa: N806
                fixed_frame, source_frame, to_nanoseconds(source_time)
            )
            target_T_fixed, stamp_ns = self._tree.lookup(  # noqa: N806
                target_frame, fixed_frame, to_nanoseconds(target_time)
            )
        return _to_message(compose(target_T_fixed, fixed_T_source), stamp_ns, target_frame, source_frame)

    def can_transform_core(self, target_frame: str, source_frame: str, time: Time) -> tuple[bool, str]:
        """Whether the lookup would succeed, and if not, why."""
        try:
            self.lookup_transform_core(target_frame, source_frame, time)
        except TransformException as error:
            return False, str(error)
        return True, ""

    def can_transform_full_core(
        self, target_frame: str, target_time: Time, source_frame: str, source_time: Time, fixed_frame: str
    ) -> tuple[bool, str]:
        """Whether the lookup would succeed, and if not, why."""
        try:
            self.lookup_transform_full_core(target_frame, target_time, source_frame, source_time, fixed_frame)
        except TransformException as error:
            return False, str(error)
        return True, ""

    def get_latest_common_time(self, target_frame: str, source_frame: str) -> Time:
        """The newest time for which target_T_source is known; 0 if only static transforms are involved."""
        with self._changed:
            self._tree.validate("target_frame", target_frame)
            self._tree.validate("source_frame", source_frame)
            return Time(nanoseconds=self._tree.latest_common_ns(target_frame, source_frame))

    def all_frames_as_yaml(self) -> str:
        """Every frame with its parent, broadcaster, rate and the span of its history, as a YAML mapping."""
        with self._changed:
            lines = []
            for frame in self._tree.frames:
                cache = self._tree.caches.get(frame)
                if cache is None or cache.latest is None:
                    continue
                span_s = (cache.latest_ns - cache.oldest_ns) * 1e-9
                lines += [
                    f"{frame}: ",
                    f"  parent: '{cache.latest.parent}'",
                    f"  broadcaster: '{self._authorities.get(frame, 'no recorded authority')}'",
                    f"  rate: {len(cache) / max(span_s, 1e-4):.3f}",
                    f"  most_recent_transform: {cache.latest_ns * 1e-9:.6f}",
                    f"  oldest_transform: {cache.oldest_ns * 1e-9:.6f}",
                    f"  buffer_length: {span_s:.3f}",
                ]
            return "".join(f"{line}\n" for line in lines) if self._tree.frames else "[]"

    def all_frames_as_string(self) -> str:
        """One sentence for each frame that has a parent."""
        with self._changed:
            return "".join(
                f"Frame {frame} exists with parent {cache.latest.parent}.\n"
                for frame, cache in self._tree.caches.items()
                if cache.latest is not None
            )

    def _frameExists(self, frame: str) -> bool:  # noqa: N802 - the name users of tf2_py know
        with self._changed:
            return frame in self._tree.frames

    def _getFrameStrings(self) -> list[str]:  # noqa: N802
        with self._changed:
            return list(self._tree.frames)

    def _insert(self, message: TransformStamped, authority: str, is_static: bool) -> None:
        parent, child = message.header.frame_id.removeprefix("/"), message.child_frame_id.removeprefix("/")
        r, t = message.transform.rotation, message.transform.translation
        transform = Rigid((r.x, r.y, r.z, r.w), (t.x, t.y, t.z))
        reason = _malformed(parent, child, transform)
        if reason:
            get_logger("tf2").error(
                f"transform '{parent}' -> '{child}' of authority '{authority}' is left out: {reason}"
            )
            return
        with self._changed:
            sample = Sample(to_nanoseconds(message.header.stamp), parent, transform)
            if not self._tree.insert(child, sample, is_static):
                get_logger("tf2").warning(
                    f"transform of frame '{child}' at time {sample.stamp_ns * 1e-9:.6f} of authority "
                    f"'{authority}' is "
                    f"left out: the buffer keeps {self._tree.length_ns * 1e-9:g} s and its newest is at "
                    f"{self._tree.caches[child].latest_ns * 1e-9:.6f}; clear the buffer after a jump of "
                    "the clock"
                )
                return
            self._authorities[child] = authority
            self._changed.notify_all()


def _malformed(parent: str, child: str, transform: Rigid) -> str:
    if not child:
        return "child_frame_id is empty"
    if not parent:
        return "header.frame_id is empty"
    if parent == child:
        return "a frame cannot be its own parent"
    if any(map(math.isnan, (*transform.rotation, *transform.translation))):
        return f"it contains NaN: {transform}"
    if not abs(sum(x * x for x in transform.rotation) - 1.0) < NORM_TOLERANCE:
        return f"its rotation {transform.rotation} is no unit quaternion"
    return ""


def _to_message(transform: Rigid, stamp_ns: int, target: str, source: str) -> TransformStamped:
    message = TransformStamped(child_frame_id=source)
    message.header.frame_id = target
    message.header.stamp = TimeMsg(sec=stamp_ns // 1_000_000_000, nanosec=stamp_ns % 1_000_000_000)
    t, r = message.transform.translation, message.transform.rotation
    t.x, t.y, t.z = transform.translation
    r.x, r.y, r.z, r.w = transform.rotation
    return message
