# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The samples of one frame relative to its parent: a history of bounded length, or one static transform.

Times are nanoseconds; 0 asks for the newest sample. The parent may change from sample to sample.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import NamedTuple

from tf2_py.exceptions import ExtrapolationException
from tf2_py.rigid import Rigid, interpolate


class Sample(NamedTuple):
    """Transform parent_T_frame at one time."""

    stamp_ns: int
    parent: str
    transform: Rigid


def _seconds(stamp_ns: int) -> str:
    return f"{stamp_ns * 1e-9:.6f}"


class StaticCache:
    """One transform, valid at every time. Its stamp is reported as 0, which "latest" computations skip."""

    is_static = True
    oldest_ns = latest_ns = 0

    def __init__(self) -> None:
        self._sample: Sample | None = None

    def __len__(self) -> int:
        return 1

    def insert(self, sample: Sample) -> bool:
        """Replace the transform."""
        self._sample = sample
        return True

    def clear(self) -> None:
        """Static transforms outlive a cleared history: their publisher sends them only once."""

    @property
    def latest(self) -> Sample | None:
        """The transform with stamp 0."""
        return self._sample._replace(stamp_ns=0) if self._sample else None

    def at(self, time_ns: int) -> Sample:
        """The transform, stamped with the requested time."""
        assert self._sample is not None
        return self._sample._replace(stamp_ns=time_ns)


class TimeCache:
    """Samples in order of time, none older than `length_ns` before the newest."""

    is_static = False

    def __init__(self, length_ns: int) -> None:
        self._length_ns = length_ns
        self._stamps: list[int] = []
        self._samples: list[Sample] = []

    def __len__(self) -> int:
        return len(self._samples)

    @property
    def latest(self) -> Sample | None:
        """The newest sample, None when there is none."""
        return self._samples[-1] if self._samples else None

    @property
    def latest_ns(self) -> int:
        """Stamp of the newest sample, 0 when there is none."""
        return self._stamps[-1] if self._stamps else 0

    @property
    def oldest_ns(self) -> int:
        """Stamp of the oldest sample, 0 when there is none."""
        return self._stamps[0] if self._stamps else 0

    def clear(self) -> None:
        """Forget every sample."""
        self._stamps.clear()
        self._samples.clear()

    def insert(self, sample: Sample) -> bool:
        """Add a sample at its place in time; False where it is older than the history goes back."""
        if self._samples:
            horizon_ns = self.latest_ns - self._length_ns
            expired = next(index for index, stamp in enumerate(self._stamps) if stamp >= horizon_ns)
            del self._stamps[:expired], self._samples[:expired]
            if sample.stamp_ns < horizon_ns:
                return False
        # Of two samples with one stamp the later arrival counts; an exact repetition adds nothing.
        position = bisect_right(self._stamps, sample.stamp_ns)
        same = position
        while same > 0 and self._stamps[same - 1] == sample.stamp_ns:
            same -= 1
            if self._samples[same] == sample:
                return True
        self._stamps.insert(position, sample.stamp_ns)
        self._samples.insert(position, sample)
        return True

    def at(self, time_ns: int) -> Sample:
        """The sample at `time_ns` (0: newest), interpolated between its neighbours if they share a parent.

        Raises ExtrapolationException outside the stored span: tf2 never extrapolates.
        """
        if not self._samples:
            raise ExtrapolationException(f"no sample is stored to answer a lookup at time {_seconds(time_ns)}")
        if time_ns == 0 or time_ns == self.latest_ns:
            return self._samples[-1]
        if len(self._samples) == 1:
            raise ExtrapolationException(
                f"lookup at time {_seconds(time_ns)} would need extrapolation: the only sample is at time "
                f"{_seconds(self.latest_ns)}"
            )
        if time_ns > self.latest_ns:
            raise ExtrapolationException(
                f"lookup would need extrapolation into the future: requested time {_seconds(time_ns)}, "
                f"newest sample at time {_seconds(self.latest_ns)}"
            )
        if time_ns < self.oldest_ns:
            raise ExtrapolationException(
                f"lookup would need extrapolation into the past: requested time {_seconds(time_ns)}, "
                f"oldest sample at time {_seconds(self.oldest_ns)}"
            )
        newer = bisect_right(self._stamps, time_ns)
        one, two = self._samples[newer - 1], self._samples[newer]
        if one.parent != two.parent:
            return one
        ratio = (time_ns - one.stamp_ns) / (two.stamp_ns - one.stamp_ns)
        return Sample(one.stamp_ns, one.parent, interpolate(one.transform, two.transform, ratio))
