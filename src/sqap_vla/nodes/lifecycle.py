# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""What every lifecycle node needs: transitions that report their errors, and a process that ends cleanly.

rclpy turns an exception in a transition callback into ERROR without a word; `guarded` logs it first. A transition
that fails for a reason a person can mend (ValueError, OSError: parameters, files, inputs) returns FAILURE, so that it
can be tried again.
"""

from __future__ import annotations

import functools
import gc
import os
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.node import Node

from sqap_vla.nodes.clock_guard import ignore_impossible_clock
from sqap_vla.nodes.parent_watch import end_with_parent

Transition = Callable[[LifecycleNode, LifecycleState], TransitionCallbackReturn]


def guarded(transition: Transition) -> Transition:
    """Logs what a transition callback raises. Known errors: FAILURE with one line. Bugs: ERROR with the traceback."""

    @functools.wraps(transition)
    def wrapper(node: LifecycleNode, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            return transition(node, state)
        except StopRequested as stop:
            node.get_logger().info(f"{transition.__name__} was left: {stop}")
            return TransitionCallbackReturn.FAILURE
        except (ValueError, OSError) as error:
            node.get_logger().error(f"{transition.__name__} failed: {error}")
            node.transition_error = str(error)
            return TransitionCallbackReturn.FAILURE
        except Exception as error:  # noqa: BLE001 rclpy would swallow it; the node goes to error processing
            node.get_logger().fatal(f"{transition.__name__}: {type(error).__name__}: {error}\n{traceback.format_exc()}")
            node.transition_error = f"{type(error).__name__}: {error}"
            return TransitionCallbackReturn.ERROR

    return wrapper


class StopRequested(KeyboardInterrupt):
    """SIGINT or SIGTERM came while an `interruptible` body ran. No Exception: what runs there must not swallow it."""


class _Signals:
    """SIGINT and SIGTERM received by this process, and whether the next one may interrupt what runs."""

    def __init__(self) -> None:
        self.received: list[int] = []
        self.may_interrupt = False

    def handle(self, number: int, frame: FrameType | None) -> None:
        self.received.append(number)
        if self.may_interrupt:
            self.may_interrupt = False  # once: what follows is the clearing away
            raise StopRequested("the process was asked to end")


_signals = _Signals()


def stop_requested() -> bool:
    """Whether the process was asked to end: for callbacks that work for long."""
    return bool(_signals.received)


@contextmanager
def interruptible() -> Iterator[None]:
    """Within the body, SIGINT or SIGTERM raises StopRequested wherever it is: for reading a large model.

    The body must leave nothing half done behind. Python runs signal handlers on the main thread, so it must run there.
    """
    if stop_requested():
        raise StopRequested("the process was asked to end")
    _signals.may_interrupt = True
    try:
        yield
    finally:
        _signals.may_interrupt = False


def handle_signals() -> None:
    """SIGINT and SIGTERM are noted, and looked at where it is safe. A second one changes nothing."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _signals.handle)


def run_node(make_node: Callable[[], Node], args: list[str] | None = None) -> int:
    """Spins one node until SIGINT or SIGTERM. Returns the exit status: 0, or 1 where the node could not start.

    The context outlives the signal, so that the node's `close` can still send a stop. A second signal changes nothing.
    """
    rclpy.init(args=args, signal_handler_options=rclpy.SignalHandlerOptions.NO)
    handle_signals()
    end_with_parent()
    try:
        node = make_node()
    except (ValueError, RuntimeError) as error:  # parameters, or a machine that lacks something
        rclpy.logging.get_logger("sqap_vla").fatal(str(error))
        rclpy.try_shutdown()
        return 1
    ignore_impossible_clock(node)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    if isinstance(node, LifecycleNode):
        node.get_logger().info(f"is there, unconfigured (process {os.getpid()})")
    try:
        while rclpy.ok() and not stop_requested():
            executor.spin_once(timeout_sec=0.2)
    except ExternalShutdownException:
        pass
    finally:
        close = getattr(node, "close", None)
        if close is not None:
            close()
        executor.remove_node(node)
        node.destroy_node()
        rclpy.try_shutdown()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # Python restores the default while it ends: a late one would kill
        gc.freeze()  # else Python, ending, searches torch for garbage: 0.6 s of CPU time
    return 0
