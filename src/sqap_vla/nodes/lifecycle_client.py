# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Lifecycle transitions of a node in another process, where a request may be lost.

DDS lists a process that was killed for its lease, some 20 s. Until then its services look as ready as those of the
node that was started in its place, and a request that goes out before the new one is known is never answered. So a
transition is asked for again where the node says that it is still in the state of before. Asking twice does no harm:
the second request finds no such transition in the new state.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.client import Client
from rclpy.node import Node
from rclpy.task import Future

from sqap_vla.nodes.spinning import spin_until

ASK_AGAIN_S = 2.0


class LifecycleClient:
    """Asks one node; leaving the with block gives the clients back.

    Args:
        helper: node that asks; its callbacks run while it waits.
        name: of the node that is asked, relative to the helper's namespace.
        alive: whether it still runs; where it does not, waiting ends.
    """

    def __init__(self, helper: Node, name: str, alive: Callable[[], bool]) -> None:
        self._helper, self._alive = helper, alive
        self._change: Client = helper.create_client(ChangeState, f"{name}/change_state")
        self._get: Client = helper.create_client(GetState, f"{name}/get_state")

    def __enter__(self) -> LifecycleClient:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._helper.destroy_client(self._change)
        self._helper.destroy_client(self._get)

    def state(self, timeout_s: float) -> int | None:
        """lifecycle_msgs/State.id, or None where nothing answers in time."""
        response = self._ask(self._get, GetState.Request(), lambda: True, timeout_s)
        return response.current_state.id if response else None

    def change(self, transition: int, timeout_s: float) -> bool | None:
        """Whether the node made lifecycle_msgs/Transition.id; None where it did not answer, or ended."""
        deadline_s = time.monotonic() + timeout_s
        before = self.state(timeout_s)
        request = ChangeState.Request(transition=Transition(id=transition))
        again = lambda: self.state(ASK_AGAIN_S) == before  # noqa: E731
        response = self._ask(self._change, request, again, deadline_s - time.monotonic())
        return response.success if response else None

    def _ask(self, client: Client, request: Any, again: Callable[[], bool], timeout_s: float) -> Any | None:
        """The first response. Asks once more every two seconds, where again() says so."""
        deadline_s = time.monotonic() + timeout_s
        asked: list[Future] = []

        def over() -> bool:
            return not self._alive() or any(future.done() for future in asked)

        while not over() and time.monotonic() < deadline_s:
            if client.service_is_ready() and (not asked or again()):
                asked.append(client.call_async(request))
            spin_until(self._helper, lambda: over() or (not asked and client.service_is_ready()), ASK_AGAIN_S)
        return next((future.result() for future in asked if future.done()), None)
