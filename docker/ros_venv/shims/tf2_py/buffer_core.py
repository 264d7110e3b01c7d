# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The tree of frames and lookups through it; thread-safe; knows no node.

Conventions (REP-105 names, tf2's argument order): lookup(target, source) returns target_T_source, which maps a point
given in `source` to `target`; header.frame_id is the target, child_frame_id the source. Time 0 means the latest
time for which every transform of the chain is known.
"""

from __future__ import annotations

import math
import threading

from builtin_interfaces.msg import Time as TimeMsg
from geometry_msgs.msg import TransformStamped
from rclpy.duration import Duration
from rclpy.logging import get_logger
from rclpy.time import Time

from tf2_py.cache import Sample, StaticCache, TimeCache
from tf2_py.exceptions import (
    ConnectivityException,
    ExtrapolationException,
    InvalidArgumentException,
    LookupException,
    TransformException,
)
from tf2_py.rigid import IDENTITY, Rigid, compose, inverse

MAX_GRAPH_DEPTH = 1000
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
        self._length_ns = 10_000_000_000 if cache_time is None else cache_time.nanoseconds
        self._caches: dict[str, StaticCache | TimeCache] = {}
        self._authorities: dict[str, str] = {}
        # Insertion order is the order of all_frames_as_yaml; a frame stays known when the history is cleared.
        self._frames: dict[str, None] = {}
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
            for cache in self._caches.values():
                cache.clear()

    def lookup_transform_core(self, target_frame: str, source_frame: str, time: Time) -> TransformStamped:
        """target_T_source at `time`, stamped with the time it holds for. Raises a TransformException."""
        with self._changed:
            transform, stamp_ns = self._lookup(target_frame, source_frame, to_nanoseconds(time))
        return _to_message(transform, stamp_ns, target_frame, source_frame)

    def lookup_transform_full_core(self, target_frame: str, target_time: Time, source_frame: str,
                                   source_time: Time, fixed_frame: str) -> TransformStamped:
        """target_T_source from the source at one time to the target at another, `fixed_frame` standing still."""
        with self._changed:
            for name, frame in (("target_frame", target_frame), ("source_frame", source_frame),
                                ("fixed_frame", fixed_frame)):
                self._validate(name, frame)
            fixed_T_source, _ = self._lookup(fixed_frame, source_frame, to_nanoseconds(source_time))  # noqa: N806
            target_T_fixed, stamp_ns = self._lookup(  # noqa: N806
                target_frame, fixed_frame, to_nanoseconds(target_time))
        return _to_message(compose(target_T_fixed, fixed_T_source), stamp_ns, target_frame, source_frame)

    def can_transform_core(self, target_frame: str, source_frame: str, time: Time) -> tuple[bool, str]:
        """Whether the lookup would succeed, and if not, why."""
        try:
            self.lookup_transform_core(target_frame, source_frame, time)
        except TransformException as error:
            return False, str(error)
        return True, ""

    def can_transform_full_core(self, target_frame: str, target_time: Time, source_frame: str, source_time: Time,
                                fixed_frame: str) -> tuple[bool, str]:
        """Whether the lookup would succeed, and if not, why."""
        try:
            self.lookup_transform_full_core(target_frame, target_time, source_frame, source_time, fixed_frame)
        except TransformException as error:
            return False, str(error)
        return True, ""

    def get_latest_common_time(self, target_frame: str, source_frame: str) -> Time:
        """The newest time for which target_T_source is known; 0 if only static transforms are involved."""
        with self._changed:
            self._validate("target_frame", target_frame)
            self._validate("source_frame", source_frame)
            return Time(nanoseconds=self._latest_common_ns(target_frame, source_frame))

    def all_frames_as_yaml(self) -> str:
        """Every frame with its parent, broadcaster, rate and the span of its history, as a YAML mapping."""
        with self._changed:
            lines = []
            for frame in self._frames:
                cache = self._caches.get(frame)
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
            return "".join(f"{line}\n" for line in lines) if self._frames else "[]"

    def all_frames_as_string(self) -> str:
        """One sentence for each frame that has a parent."""
        with self._changed:
            return "".join(f"Frame {frame} exists with parent {cache.latest.parent}.\n"
                           for frame, cache in self._caches.items() if cache.latest is not None)

    def _frameExists(self, frame: str) -> bool:  # noqa: N802 - the name users of tf2_py know
        with self._changed:
            return frame in self._frames

    def _getFrameStrings(self) -> list[str]:  # noqa: N802
        with self._changed:
            return list(self._frames)

    def _insert(self, message: TransformStamped, authority: str, is_static: bool) -> None:
        parent, child = message.header.frame_id.removeprefix("/"), message.child_frame_id.removeprefix("/")
        r, t = message.transform.rotation, message.transform.translation
        transform = Rigid((r.x, r.y, r.z, r.w), (t.x, t.y, t.z))
        reason = _malformed(parent, child, transform)
        if reason:
            get_logger("tf2").error(
                f"transform '{parent}' -> '{child}' of authority '{authority}' is left out: {reason}")
            return
        with self._changed:
            cache = self._caches.get(child)
            if cache is None or cache.is_static != is_static:
                cache = self._caches[child] = StaticCache() if is_static else TimeCache(self._length_ns)
            self._frames.setdefault(child)
            self._frames.setdefault(parent)
            sample = Sample(to_nanoseconds(message.header.stamp), parent, transform)
            if not cache.insert(sample):
                get_logger("tf2").warning(
                    f"transform of frame '{child}' at time {sample.stamp_ns * 1e-9:.6f} of authority '{authority}' is "
                    f"left out: the buffer keeps {self._length_ns * 1e-9:g} s and its newest is at "
                    f"{cache.latest_ns * 1e-9:.6f}; clear the buffer after a jump of the clock")
                return
            self._authorities[child] = authority
            self._changed.notify_all()

    def _validate(self, argument: str, frame: str) -> None:
        if not frame:
            raise InvalidArgumentException(f"{argument} is empty; a frame has a name")
        if frame.startswith("/"):
            raise InvalidArgumentException(f"{argument} '{frame}' starts with a slash; tf2 names frames without it")
        if frame not in self._frames:
            raise LookupException(f"{argument} '{frame}' does not exist in the buffer")

    def _lookup(self, target: str, source: str, time_ns: int) -> tuple[Rigid, int]:
        """target_T_source and the time [ns] it holds for; the caller holds the lock."""
        if target == source:
            cache = self._caches.get(target)
            return IDENTITY, cache.latest_ns if time_ns == 0 and cache else time_ns
        self._validate("target_frame", target)
        self._validate("source_frame", source)
        if time_ns == 0:
            time_ns = self._latest_common_ns(target, source)
        source_edges, source_error = self._climb(source, time_ns)
        target_edges, target_error = self._climb(target, time_ns)
        root = _common(source, source_edges, target, target_edges)
        if root is None:
            error = target_error or source_error
            if error:
                raise ExtrapolationException(f"{error}, when looking up '{target}' <- '{source}'")
            raise _unconnected(target, source)
        root_T_source, root_T_target = _chain(source_edges, root), _chain(target_edges, root)  # noqa: N806
        return compose(inverse(root_T_target), root_T_source), time_ns

    def _climb(self, frame: str, time_ns: int) -> tuple[list[tuple[str, Sample]], str]:
        """Edges (frame, its sample) from `frame` towards the root, and why the climb ended early (or '')."""
        edges: list[tuple[str, Sample]] = []
        while (cache := self._caches.get(frame)) is not None:
            try:
                sample = cache.at(time_ns)
            except ExtrapolationException as error:
                return edges, str(error)
            edges.append((frame, sample))
            _check_depth(edges)
            frame = sample.parent
        return edges, ""

    def _latest_common_ns(self, target: str, source: str) -> int:
        """Minimum over the chain's moving transforms of their newest stamp; 0 if there is none."""
        def climb(frame: str) -> list[tuple[str, Sample]]:
            edges: list[tuple[str, Sample]] = []
            while (cache := self._caches.get(frame)) is not None and cache.latest is not None:
                edges.append((frame, cache.latest))
                _check_depth(edges)
                frame = cache.latest.parent
            return edges

        source_edges, target_edges = climb(source), climb(target)
        root = _common(source, source_edges, target, target_edges)
        if root is None:
            raise _unconnected(target, source)
        stamps = [sample.stamp_ns for edges in (source_edges, target_edges) for sample in _below(edges, root)]
        return min((stamp for stamp in stamps if stamp), default=0)


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


def _check_depth(edges: list[tuple[str, Sample]]) -> None:
    if len(edges) > MAX_GRAPH_DEPTH:
        raise LookupException(f"the tree of frames contains a loop through '{edges[-1][0]}'")


def _common(source: str, source_edges: list, target: str, target_edges: list) -> str | None:
    """The lowest frame above (or at) both ends."""
    above_source = {source, *(sample.parent for _, sample in source_edges)}
    return next((frame for frame in (target, *(sample.parent for _, sample in target_edges))
                 if frame in above_source), None)


def _below(edges: list[tuple[str, Sample]], root: str) -> list[Sample]:
    """The samples from the start of the climb up to `root`."""
    samples = []
    for frame, sample in edges:
        if frame == root:
            break
        samples.append(sample)
    return samples


def _chain(edges: list[tuple[str, Sample]], root: str) -> Rigid:
    """root_T_start of a climb."""
    result = IDENTITY
    for sample in _below(edges, root):
        result = compose(sample.transform, result)
    return result


def _unconnected(target: str, source: str) -> ConnectivityException:
    return ConnectivityException(f"no chain of transforms joins '{target}' and '{source}': they are in separate trees")


def _to_message(transform: Rigid, stamp_ns: int, target: str, source: str) -> TransformStamped:
    message = TransformStamped(child_frame_id=source)
    message.header.frame_id = target
    message.header.stamp = TimeMsg(sec=stamp_ns // 1_000_000_000, nanosec=stamp_ns % 1_000_000_000)
    t, r = message.transform.translation, message.transform.rotation
    t.x, t.y, t.z = transform.translation
    r.x, r.y, r.z, r.w = transform.rotation
    return message
