# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""A BufferCore whose lookups can wait, and which forgets its history when the node's clock jumps back."""

from __future__ import annotations

import time as wall
from collections.abc import Callable

from geometry_msgs.msg import TransformStamped
from rclpy.clock import Clock, JumpThreshold, TimeJump
from rclpy.duration import Duration
from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.task import Future
from rclpy.time import Time
from tf2_py import BufferCore, TransformException

NO_WAIT = Duration()


class Buffer(BufferCore):
    """Transforms of the last `cache_time` (default 10 s).

    Waiting blocks the calling thread in wall time: from a callback, transforms must arrive through another
    thread (a multi-threaded executor, or TransformListener(spin_thread=True))."""

    def __init__(self, cache_time: Duration | None = None, node: Node | None = None) -> None:
        super().__init__(cache_time)
        self._waiting: list[Callable[[], None]] = []
        self.clock = node.get_clock() if node is not None else Clock()
        threshold = JumpThreshold(min_forward=None, min_backward=Duration(seconds=-1), on_clock_change=True)
        self.jump_handle = self.clock.create_jump_callback(threshold, post_callback=self.time_jump_callback)

    def time_jump_callback(self, time_jump: TimeJump) -> None:
        """Forget transforms of a time that is now in the future."""
        get_logger("tf2_buffer").warning("the clock jumped back or changed its source: the history is cleared")
        self.clear()

    def set_transform(self, transform: TransformStamped, authority: str) -> None:
        """Store a sample of a moving transform and wake whoever waits for it."""
        super().set_transform(transform, authority)
        self._answer_waiting()

    def set_transform_static(self, transform: TransformStamped, authority: str) -> None:
        """Store a transform that holds at every time and wake whoever waits for it."""
        super().set_transform_static(transform, authority)
        self._answer_waiting()

    def lookup_transform(
        self, target_frame: str, source_frame: str, time: Time, timeout: Duration = NO_WAIT
    ) -> TransformStamped:
        """target_T_source at `time` (0: latest common), waiting up to `timeout`; raises a
        TransformException.
        """
        self.can_transform(target_frame, source_frame, time, timeout)
        return self.lookup_transform_core(target_frame, source_frame, time)

    def lookup_transform_full(
        self,
        target_frame: str,
        target_time: Time,
        source_frame: str,
        source_time: Time,
        fixed_frame: str,
        timeout: Duration = NO_WAIT,
    ) -> TransformStamped:
        """target_T_source between two times through `fixed_frame`, waiting up to `timeout`."""
        self.can_transform_full(target_frame, target_time, source_frame, source_time, fixed_frame, timeout)
        return self.lookup_transform_full_core(target_frame, target_time, source_frame, source_time, fixed_frame)

    def can_transform(
        self,
        target_frame: str,
        source_frame: str,
        time: Time,
        timeout: Duration = NO_WAIT,
        return_debug_tuple: bool = False,
    ) -> bool | tuple[bool, str]:
        """Whether the lookup succeeds within `timeout`; with `return_debug_tuple` also why not."""
        answer = self._wait(lambda: self.can_transform_core(target_frame, source_frame, time), timeout)
        return answer if return_debug_tuple else answer[0]

    def can_transform_full(
        self,
        target_frame: str,
        target_time: Time,
        source_frame: str,
        source_time: Time,
        fixed_frame: str,
        timeout: Duration = NO_WAIT,
        return_debug_tuple: bool = False,
    ) -> bool | tuple[bool, str]:
        """Whether the full lookup succeeds within `timeout`; with `return_debug_tuple` also why not."""
        answer = self._wait(
            lambda: self.can_transform_full_core(target_frame, target_time, source_frame, source_time, fixed_frame),
            timeout,
        )
        return answer if return_debug_tuple else answer[0]

    def wait_for_transform_async(self, target_frame: str, source_frame: str, time: Time) -> Future:
        """A future that holds target_T_source as soon as it is known."""
        return self._future(lambda: self.lookup_transform_core(target_frame, source_frame, time))

    def wait_for_transform_full_async(
        self, target_frame: str, target_time: Time, source_frame: str, source_time: Time, fixed_frame: str
    ) -> Future:
        """A future that holds the full transform as soon as it is known."""
        return self._future(
            lambda: self.lookup_transform_full_core(target_frame, target_time, source_frame, source_time, fixed_frame)
        )

    async def lookup_transform_async(self, target_frame: str, source_frame: str, time: Time) -> TransformStamped:
        """Like lookup_transform, without a timeout and without blocking the executor."""
        return await self.wait_for_transform_async(target_frame, source_frame, time)

    async def lookup_transform_full_async(
        self, target_frame: str, target_time: Time, source_frame: str, source_time: Time, fixed_frame: str
    ) -> TransformStamped:
        """Like lookup_transform_full, without a timeout and without blocking the executor."""
        return await self.wait_for_transform_full_async(
            target_frame, target_time, source_frame, source_time, fixed_frame
        )

    def _wait(self, ask: Callable[[], tuple[bool, str]], timeout: Duration) -> tuple[bool, str]:
        deadline = wall.monotonic() + timeout.nanoseconds * 1e-9
        with self._changed:
            while not (answer := ask())[0] and (left := deadline - wall.monotonic()) > 0:
                self._changed.wait(left)
        return answer

    def _future(self, lookup: Callable[[], TransformStamped]) -> Future:
        future = Future()

        def attempt() -> None:
            if future.done():
                return
            try:
                future.set_result(lookup())
            except TransformException:
                return  # not yet: the next transform to arrive asks again

        with self._changed:
            attempt()
            if not future.done():
                self._waiting.append(attempt)
                future.add_done_callback(lambda _: self._forget(attempt))
        return future

    def _answer_waiting(self) -> None:
        with self._changed:
            waiting = list(self._waiting)
        for attempt in waiting:
            attempt()

    def _forget(self, attempt: Callable[[], None]) -> None:
        with self._changed:
            if attempt in self._waiting:
                self._waiting.remove(attempt)
