# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""`sqap-vla evaluate --ros`: episodes through the real nodes over DDS, in a simulator that does not wait.

What the policy takes to think, and what DDS takes, counts: the arm goes on with what it was told before. Tabletop,
loader and policy are processes of their own, in a ROS domain of their own. The policy is deactivated between two
episodes, so that none begins with what was seen in the one before.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import rclpy
from lifecycle_msgs.msg import Transition

from sqap_vla.evaluation.closed_loop import EpisodeResult
from sqap_vla.evaluation.evaluate import Evaluation
from sqap_vla.nodes.episode_watch import EpisodeWatch
from sqap_vla.nodes.lifecycle_client import LifecycleClient
from sqap_vla.nodes.method_parameters import PARAMETER_NAMES
from sqap_vla.nodes.node_process import NodeFailed, NodeProcess
from sqap_vla.nodes.tabletop_loop import keep_to_this_machine, start_loop
from sqap_vla.runtime.method import make_method
from sqap_vla.runtime.methods.registry import common_options

TRANSITION_TIMEOUT_S = 30.0


def ros_episodes(question: Evaluation, seeds: Sequence[int], workers: int) -> Iterator[EpisodeResult]:
    """One after the other. Raises ValueError for more than one worker, whose latency would not be a robot's,
    NodeFailed where a node ends or an episode does not."""
    if workers != 1:
        raise ValueError(f"{workers} workers with --ros; latency counts there, so episodes run one at a time")
    if not seeds:
        return
    keep_to_this_machine()
    rclpy.init(signal_handler_options=rclpy.SignalHandlerOptions.NO)
    try:
        with ExitStack() as stack:
            logs = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sqap_vla_")))
            watch = EpisodeWatch(question.settings.step_s)
            stack.callback(watch.destroy_node)
            nodes = _start(stack, question, logs)
            tabletop, loader, policy = nodes
            loader.transition(watch, Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE)
            policy.transition(watch, Transition.TRANSITION_CONFIGURE)
            client = stack.enter_context(LifecycleClient(watch, policy.name, lambda: policy.alive))
            for seed in seeds:
                start_s = time.monotonic()
                watch.reset(seed, nodes)
                _change(client, Transition.TRANSITION_ACTIVATE)
                yield watch.finish(seed, nodes, start_s)
                _change(client, Transition.TRANSITION_DEACTIVATE)
    finally:
        rclpy.try_shutdown()


def _change(client: LifecycleClient, transition: int) -> None:
    if not client.change(transition, TRANSITION_TIMEOUT_S):
        raise NodeFailed(f"the policy made no transition {transition}; finished episodes stay")


def _start(stack: ExitStack, question: Evaluation, logs: Path) -> list[NodeProcess]:
    """Tabletop, loader and policy, unconfigured."""
    options = question.options
    said = {"instruction_topic": "~/unheard", "instruction": question.instruction} if question.instruction else {}
    return start_loop(
        stack,
        logs,
        make_method(question.method, **options),
        tabletop={
            "family": question.task,
            "scenario": question.scenario,
            "auto_reset": False,
            "max_steps": question.max_steps or 0,
        },
        loader={
            "checkpoint": question.checkpoint,
            "artifact_dir": str(logs / "artifact"),
            **_parameters({name: value for name, value in options.items() if name in common_options()}),
        },
        policy={"method": question.method, "cfg_scale": question.cfg_scale, **_parameters(options), **said},
    )


def _parameters(options: dict[str, Any]) -> dict[str, Any]:
    """A method's options as the nodes' parameters."""
    values = {PARAMETER_NAMES[name]: value for name, value in options.items()}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
