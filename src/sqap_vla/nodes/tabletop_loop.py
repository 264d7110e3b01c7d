# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Tabletop, loader and policy as processes that close the loop in real time: for the demo, and for `evaluate --ros`."""

from __future__ import annotations

import os
import random
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ament_index_python.packages import get_package_share_directory

from sqap_vla.nodes.node_process import NodeProcess
from sqap_vla.runtime.methods.base import Method

CONFIG = Path(get_package_share_directory("sqap_vla")) / "config" / "tabletop.yaml"


def keep_to_this_machine() -> None:
    """Before rclpy.init: a domain and a range of its own, since this must never command somebody's robot. What the
    environment says already stays."""
    os.environ.setdefault("ROS_DOMAIN_ID", str(random.SystemRandom().randint(1, 100)))
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")


def start_node(stack: ExitStack, logs: Path, name: str, parameters: Mapping[str, Any], **options: Any) -> NodeProcess:
    """A node with the tabletop's preset, until the stack is left. Its output goes to logs/NAME.log."""
    return stack.enter_context(NodeProcess(name, name, parameters, log=logs / f"{name}.log", files=[CONFIG], **options))


def start_loop(
    stack: ExitStack,
    logs: Path,
    method: Method,
    tabletop: Mapping[str, Any],
    loader: Mapping[str, Any],
    policy: Mapping[str, Any],
) -> list[NodeProcess]:
    """The three nodes, unconfigured, in the order in which they depend on each other. method: as `policy` names it; the
    loader compresses for it. tabletop, loader, policy: parameters beside the preset's."""
    recipe = method.recipe
    precision = recipe.policy.precision.value if recipe else "bf16"
    remap = {"command/twist": "policy/twist", "command/gripper": "policy/gripper"}
    return [
        start_node(stack, logs, "tabletop", tabletop, remap=remap),
        start_node(stack, logs, "model_loader", {**loader, "precision": precision}),
        start_node(stack, logs, "policy", {"dry_run": False, "tf_timeout_s": 0.1, **policy}),
    ]
