# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The policy that live replay talks to: the one that runs already, or one started for the purpose."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import rclpy
from lifecycle_msgs.msg import Transition
from rcl_interfaces.srv import GetParameters
from rclpy.node import Node
from rclpy.parameter import parameter_value_to_python

from sqap_vla.nodes.method_parameters import PARAMETER_NAMES
from sqap_vla.nodes.node_process import NodeProcess, parameter_values
from sqap_vla.nodes.policy_parameters import PolicyParameters
from sqap_vla.nodes.replay_feed import ReplayFeed, ReplayParameters
from sqap_vla.nodes.replay_live import POLICY_TIMEOUT_S, LivePlayer, ReplayTimeout
from sqap_vla.nodes.replay_offline import ReplayedFrame
from sqap_vla.nodes.spinning import spin_until

logger = logging.getLogger(__name__)

DISCOVERY_S = 5.0  # a node that is missed would be started a second time
TF_TIMEOUT_S = 0.25  # transforms are sent before their image; on a busy machine they may be heard a little after it
MUST_AGREE = ("method", "seed", "unnorm_key", "step_s", *PARAMETER_NAMES.values())


@contextmanager
def live_frames(
    feed: ReplayFeed, params: PolicyParameters, replay: ReplayParameters, start: bool = True
) -> Iterator[Iterator[ReplayedFrame]]:
    """Frames as the policy node answers them. A node /policy on the graph is used as it is, if its parameters agree.

    start: where there is none, start one; else wait for it, since two nodes of one name get each other's requests.
    Raises RuntimeError (NodeFailed, ReplayTimeout) or ValueError where it is set up differently.
    """
    rclpy.init()
    try:
        with ExitStack() as stack:
            player = LivePlayer(feed, replay.chunk_timeout_s)
            stack.callback(player.destroy_node)
            wait_s = DISCOVERY_S if start else POLICY_TIMEOUT_S
            if spin_until(player, lambda: ("policy", "/") in player.get_node_names_and_namespaces(), wait_s):
                logger.info("using the policy node that runs already")
                check_running_policy(player, params)
            elif not start:
                raise ReplayTimeout(f"no node /policy has come up within {wait_s:.0f} s")
            else:
                timeout_s = max(params.tf_timeout_s, TF_TIMEOUT_S)
                live = dataclasses.replace(params, dry_run=True, sensor_reliability="reliable", tf_timeout_s=timeout_s)
                policy = stack.enter_context(
                    NodeProcess("policy", "policy", parameter_values(live) | {"use_sim_time": True})
                )
                policy.transition(player, Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE)
            player.wait_for_policy()
            yield player.run()
    finally:
        rclpy.try_shutdown()


def check_running_policy(node: Node, params: PolicyParameters) -> None:
    """Raises ValueError where the running policy would give other chunks than the command line asks for."""
    names = [*MUST_AGREE, "use_sim_time", "dry_run"]
    running = {name: _comparable(value) for name, value in _parameters_of_policy(node, names).items()}
    # dry_run: recorded images must not move a robot, nor a simulated one.
    wanted = {name: _comparable(getattr(params, name)) for name in MUST_AGREE} | {"use_sim_time": True, "dry_run": True}
    different = [
        f"{name} is {running[name]!r} there, {wanted[name]!r} here" for name in names if running[name] != wanted[name]
    ]
    if different:
        raise ValueError(
            f"the running policy is set up differently: {'; '.join(different)}. Restart it to match, or stop it "
            "and a policy is started for the replay"
        )


def _parameters_of_policy(node: Node, names: Sequence[str]) -> dict[str, Any]:
    """By name, None where unset."""
    client = node.create_client(GetParameters, "policy/get_parameters")
    try:
        future = None
        if spin_until(node, client.service_is_ready, 10.0):
            future = client.call_async(GetParameters.Request(names=names))
            spin_until(node, future.done, POLICY_TIMEOUT_S)  # one that is being configured answers when it is done
        if future is None or not future.done():
            raise ValueError("the node /policy runs but does not tell its parameters; stop it, or give it time")
        values = future.result().values
    finally:
        node.destroy_client(client)
    if len(values) != len(names):  # rclpy's answer where it does not know one of them
        raise ValueError(
            "the node /policy runs and is not of this version; stop it, and a policy is started for the replay"
        )
    return dict(zip(names, map(parameter_value_to_python, values), strict=True))


def _comparable(value: Any) -> Any:
    """Arrays as tuples; an empty one is unset."""
    return value if value is None or isinstance(value, (bool, int, float, str)) else tuple(value) or None
