# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The tree of frames: which transforms join two of them, and for which times. Knows neither messages nor
locks.

Names and order of arguments are tf2's: lookup(target, source) gives target_T_source. Times are nanoseconds; 0
means the latest time for which every transform of the chain is known."""

from __future__ import annotations

from tf2_py.cache import Sample, StaticCache, TimeCache
from tf2_py.exceptions import (
    ConnectivityException,
    ExtrapolationException,
    InvalidArgumentException,
    LookupException,
)
from tf2_py.rigid import IDENTITY, Rigid, compose, inverse

MAX_GRAPH_DEPTH = 1000
Edge = tuple[str, Sample]  # a frame and its transform to the parent


class FrameTree:
    """Every frame's samples, kept for `length_ns`."""

    def __init__(self, length_ns: int) -> None:
        self.length_ns = length_ns
        self.caches: dict[str, StaticCache | TimeCache] = {}
        # Parents without a parent of their own are known too; so is a frame whose history was cleared.
        self.frames: dict[str, None] = {}

    def insert(self, frame: str, sample: Sample, is_static: bool) -> bool:
        """Add a sample; False where it is older than the history goes back. Static and moving replace each
        other.
        """
        cache = self.caches.get(frame)
        if cache is None or cache.is_static != is_static:
            cache = self.caches[frame] = StaticCache() if is_static else TimeCache(self.length_ns)
        self.frames.setdefault(frame)
        self.frames.setdefault(sample.parent)
        return cache.insert(sample)

    def clear(self) -> None:
        """Forget the samples of moving transforms."""
        for cache in self.caches.values():
            cache.clear()

    def validate(self, argument: str, frame: str) -> None:
        """Raise what tf2 raises for a name that is no known frame."""
        if "\0" in frame:
            raise ValueError(f"{argument} {frame!r}: embedded null character")  # as tf2_py's C++ has it
        if not frame:
            raise InvalidArgumentException(f"{argument} is empty; a frame has a name")
        if frame.startswith("/"):
            raise InvalidArgumentException(f"{argument} '{frame}' starts with a slash; tf2 names frames without it")
        if frame not in self.frames:
            raise LookupException(f"{argument} '{frame}' does not exist in the buffer")

    def lookup(self, target: str, source: str, time_ns: int) -> tuple[Rigid, int]:
        """target_T_source and the time [ns] it holds for, for time 0 the latest common one."""
        if target == source:
            cache = self.caches.get(target)
            return IDENTITY, cache.latest_ns if time_ns == 0 and cache else time_ns
        self.validate("target_frame", target)
        self.validate("source_frame", source)
        if time_ns == 0:
            time_ns = self.latest_common_ns(target, source)
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

    def latest_common_ns(self, target: str, source: str) -> int:
        """Minimum over the chain's moving transforms of their newest stamp; 0 if there is none."""
        source_edges, target_edges = self._climb_latest(source), self._climb_latest(target)
        root = _common(source, source_edges, target, target_edges)
        if root is None:
            raise _unconnected(target, source)
        stamps = [sample.stamp_ns for edges in (source_edges, target_edges) for sample in _below(edges, root)]
        return min((stamp for stamp in stamps if stamp), default=0)

    def _climb(self, frame: str, time_ns: int) -> tuple[list[Edge], str]:
        """Edges (frame, its sample) from `frame` towards the root, and why the climb ended early (or '')."""
        edges: list[Edge] = []
        while (cache := self.caches.get(frame)) is not None:
            try:
                sample = cache.at(time_ns)
            except ExtrapolationException as error:
                return edges, str(error)
            edges.append((frame, sample))
            _check_depth(edges)
            frame = sample.parent
        return edges, ""

    def _climb_latest(self, frame: str) -> list[Edge]:
        """Edges from `frame` to the root by the newest samples."""
        edges: list[Edge] = []
        while (cache := self.caches.get(frame)) is not None and cache.latest is not None:
            edges.append((frame, cache.latest))
            _check_depth(edges)
            frame = cache.latest.parent
        return edges


def _check_depth(edges: list[Edge]) -> None:
    if len(edges) > MAX_GRAPH_DEPTH:
        raise LookupException(f"the tree of frames contains a loop through '{edges[-1][0]}'")


def _common(source: str, source_edges: list[Edge], target: str, target_edges: list[Edge]) -> str | None:
    """The lowest frame above (or at) both ends."""
    above_source = {source, *(sample.parent for _, sample in source_edges)}
    return next(
        (frame for frame in (target, *(sample.parent for _, sample in target_edges)) if frame in above_source),
        None,
    )


def _below(edges: list[Edge], root: str) -> list[Sample]:
    """The samples from the start of the climb up to `root`."""
    samples = []
    for frame, sample in edges:
        if frame == root:
            break
        samples.append(sample)
    return samples


def _chain(edges: list[Edge], root: str) -> Rigid:
    """root_T_start of a climb."""
    result = IDENTITY
    for sample in _below(edges, root):
        result = compose(sample.transform, result)
    return result


def _unconnected(target: str, source: str) -> ConnectivityException:
    return ConnectivityException(f"no chain of transforms joins '{target}' and '{source}': they are in separate trees")
