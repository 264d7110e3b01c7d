# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""One thread that runs inference on the newest frame only.

The executor hands a frame over and goes on; a frame that waits while another one runs is replaced by a newer one.
Nothing queues up, so the age of what the policy sees is bounded by one inference, whatever the camera's rate.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

Frame = TypeVar("Frame")


class InferenceWorker(Generic[Frame]):
    """Calls run(frame) on its own thread. An exception in `run` goes to on_error and ends only that frame."""

    def __init__(
        self, run: Callable[[Frame], None], on_error: Callable[[Exception], None], name: str = "inference"
    ) -> None:
        self._run, self._on_error = run, on_error
        self._wake = threading.Condition()
        self._waiting: Frame | None = None
        self._stopping = False
        self._started_s: float | None = None
        self.replaced = 0  # frames that were never run because a newer one came
        self._thread = threading.Thread(target=self._loop, name=name, daemon=True)
        self._thread.start()

    def submit(self, frame: Frame) -> None:
        with self._wake:
            self.replaced += self._waiting is not None
            self._waiting = frame
            self._wake.notify()

    def busy_s(self) -> float:
        """How long the inference that runs now has been running; 0 where none does. For the watchdog."""
        started_s = self._started_s
        return 0.0 if started_s is None else time.monotonic() - started_s

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def clear(self) -> None:
        """Forgets the waiting frame."""
        with self._wake:
            self._waiting = None

    def stop(self, timeout_s: float) -> bool:
        """Ends the thread after the running frame. False if it did not end within the time."""
        with self._wake:
            self._stopping = True
            self._waiting = None
            self._wake.notify()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _loop(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._stopping or self._waiting is not None)
                if self._stopping:
                    return
                frame, self._waiting = self._waiting, None
            self._started_s = time.monotonic()
            try:
                self._run(frame)
            except Exception as error:  # noqa: BLE001 the thread's outermost frame: it must not end the thread unseen
                self._on_error(error)
            finally:
                self._started_s = None
