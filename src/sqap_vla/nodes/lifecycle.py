# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""What every lifecycle node needs: transitions that report their errors, and a process that ends cleanly.

rclpy turns an exception in a transition callback into ERROR without a word; `guarded` logs it first. A transition that fails
for a reason a person can mend (ValueError, OSError: parameters, files, inputs) returns FAILURE, so that it can be tried again.
"""
from __future__ import annotations

import functools
import gc
import signal
import traceback
from collections.abc import Callable

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.node import Node

Transition = Callable[[LifecycleNode, LifecycleState], TransitionCallbackReturn]


def guarded(transition: Transition) -> Transition:
    """Logs what a transition callback raises. Known errors: FAILURE with one line. Bugs: ERROR with the traceback."""

    @functools.wraps(transition)
    def wrapper(node: LifecycleNode, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            return transition(node, state)
        except (ValueError, OSError) as error:
            node.get_logger().error(f"{transition.__name__} failed: {error}")
            node.transition_error = str(error)
            return TransitionCallbackReturn.FAILURE
        except Exception as error:  # rclpy would swallow it; after the traceback the node goes to error processing
            node.get_logger().fatal(f"{transition.__name__}: {type(error).__name__}: {error}\n{traceback.format_exc()}")
            node.transition_error = f"{type(error).__name__}: {error}"
            return TransitionCallbackReturn.ERROR

    return wrapper


_signals: list[int] = []  # SIGINT and SIGTERM received by this process


def stop_requested() -> bool:
    """Whether the process was asked to end: for callbacks that work for long."""
    return bool(_signals)


def run_node(make_node: Callable[[], Node], args: list[str] | None = None) -> int:
    """Spins one node until SIGINT or SIGTERM. Returns the exit status: 0, or 1 where the node could not start.

    The context outlives the signal, so that the node's `close` can still send a stop. A second signal changes nothing.
    """
    rclpy.init(args=args, signal_handler_options=rclpy.SignalHandlerOptions.NO)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, frame: _signals.append(received))
    try:
        node = make_node()
    except (ValueError, RuntimeError) as error:  # parameters, or a machine that lacks something
        rclpy.logging.get_logger("sqap_vla").fatal(str(error))
        rclpy.try_shutdown()
        return 1
    executor = SingleThreadedExecutor()
    executor.add_node(node)
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
        for number in (signal.SIGINT, signal.SIGTERM):  # Python restores the default while it ends: a late one would kill
            signal.signal(number, signal.SIG_IGN)
        gc.freeze()  # else Python, ending, searches torch for garbage: 0.6 s of CPU time
    return 0
