# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""What is worth a line in the log: the beginning of something, not every tick or frame of it."""

from __future__ import annotations

import time

QUIET_S = 10.0


class EdgeLog:
    """Knows when each kind of event was last seen. Kinds come from a closed vocabulary, so that this stays small.

    A kind begins when it was not seen for `quiet_s` of wall time. So two publishers, one good and one bad, whose frames
    come in turns, make one line and not one per frame.
    """

    def __init__(self, quiet_s: float = QUIET_S) -> None:
        self._quiet_s = quiet_s
        self._seen_s: dict[str, float] = {}

    def begins(self, kind: str) -> bool:
        """Notes that it was seen; True where it should be told."""
        now_s = time.monotonic()
        before_s, self._seen_s[kind] = self._seen_s.get(kind), now_s
        return before_s is None or now_s - before_s > self._quiet_s
