# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""A model_loader process, seen from outside through its topics and services."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import SetParameters
from rclpy.context import Context
from rclpy.node import Node
from rclpy.parameter import Parameter
from std_msgs.msg import String
from std_srvs.srv import Trigger

from sqap_vla.cogact.config import CogActConfig, DecoderConfig, HeadConfig, VisionTowerConfig
from sqap_vla.nodes import qos
from sqap_vla.nodes.spinning import spin_until

TIMEOUT_S = 30.0
CONFIG = CogActConfig(
    dino=VisionTowerConfig(
        embed_dim=32,
        depth=2,
        num_heads=2,
        mlp_hidden=48,
        register_tokens=4,
        class_token=True,
        layer_scale=True,
    ),
    siglip=VisionTowerConfig(embed_dim=32, depth=2, num_heads=2, mlp_hidden=37),
    decoder=DecoderConfig(
        vocab_size=192, hidden_size=32, intermediate_size=48, num_layers=2, num_heads=2, num_kv_heads=2
    ),
    head=HeadConfig(depth=1, hidden_size=32, num_heads=2, token_size=32),
)


@contextmanager
def helper_node() -> Iterator[Node]:
    """A node of the test's, in a context of its own."""
    context = Context()
    rclpy.init(context=context, domain_id=int(os.environ["ROS_DOMAIN_ID"]))
    node = Node("helper", context=context)
    try:
        yield node
    finally:
        node.destroy_node()
        rclpy.shutdown(context=context)


class Loader:
    """A loader process, seen from outside."""

    def __init__(self, helper: Node, log: Path, name: str, cache: Path, *arguments: str) -> None:
        self.helper, self.name, self._log_path = helper, name, log
        self.status: list[DiagnosticStatus] = []
        helper.create_subscription(DiagnosticStatus, f"{name}/status", self.status.append, qos.latched())
        command = [
            sys.executable,
            "-m",
            "sqap_vla.nodes.model_loader",
            "--ros-args",
            "-r",
            f"__node:={name}",
            *arguments,
        ]
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                command, stdout=file, stderr=file, env={**os.environ, "XDG_CACHE_HOME": str(cache)}
            )

    def log(self) -> str:
        return self._log_path.read_text()

    def wait(self, done: Callable[[], bool]) -> None:
        assert spin_until(self.helper, lambda: done() or self.process.poll() is not None, TIMEOUT_S) and done(), (
            self.log()
        )

    def call(self, kind: type, service: str, request: Any) -> Any:
        client = self.helper.create_client(kind, f"{self.name}/{service}")
        self.wait(client.service_is_ready)
        future = client.call_async(request)
        self.wait(future.done)
        self.helper.destroy_client(client)
        return future.result()

    def set(self, **values: Any) -> list[Any]:
        parameters = [Parameter(name, value=value).to_parameter_msg() for name, value in values.items()]
        return self.call(SetParameters, "set_parameters", SetParameters.Request(parameters=parameters)).results

    def transition(self, number: int) -> bool:
        return self.call(ChangeState, "change_state", ChangeState.Request(transition=Transition(id=number))).success

    def state(self) -> int:
        return self.call(GetState, "get_state", GetState.Request()).current_state.id

    def reload(self) -> Trigger.Response:
        return self.call(Trigger, "reload", Trigger.Request())

    def has_status(self, level: bytes, text: str) -> None:
        self.wait(lambda: bool(self.status) and self.status[-1].level == level and text in self.status[-1].message)

    def late_joiner(self) -> list[dict[str, Any]]:
        """What somebody who subscribes now hears of the manifest; grows while the test spins."""
        heard: list[dict[str, Any]] = []
        self.helper.create_subscription(
            String, f"{self.name}/manifest", lambda msg: heard.append(json.loads(msg.data)), qos.latched()
        )
        return heard

    def manifest_publishers(self) -> int:
        return self.helper.count_publishers(f"/{self.name}/manifest")

    def end(self, *signals: int) -> int:
        for number in signals:
            self.process.send_signal(number)
        try:
            return self.process.wait(TIMEOUT_S)
        finally:
            self.process.kill()


def configure_and_activate(loader: Loader) -> None:
    for number in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
        assert loader.transition(number), loader.log()
