# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""A consumer of the tabletop node, and the node as a process of its own, in the domain of the test run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from geometry_msgs.msg import TwistStamped
from rcl_interfaces.srv import SetParameters
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.time import Time
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import Bool, Float64MultiArray, String
from std_srvs.srv import Trigger
from tf2_ros import Buffer, TransformListener

from sqap_vla.nodes.conversions import matrix_from_transform, stamp_msg, stamp_ns

TIMEOUT_S = 30.0
LATCHED = QoSProfile(depth=5, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class Client:
    """A consumer of a simulated robot; `wait` spins until a condition on what it has heard holds."""

    def __init__(self, namespace: str, robot: str = "tabletop", remaps: Sequence[str] = ()) -> None:
        self.robot = robot
        self.context = Context()
        rclpy.init(context=self.context)
        words = ["--ros-args", *(word for remap in remaps for word in ("-r", remap))]
        self.node = Node("client", context=self.context, namespace=namespace, cli_args=words)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.heard: dict[str, list[Any]] = {}
        for kind, topic, profile in (
            (Clock, "/clock", 10),
            (Image, "camera/image_raw", 10),
            (CameraInfo, "camera/camera_info", 10),
            (JointState, "joint_states", 50),
            (String, "instruction", LATCHED),
            (Bool, f"{robot}/success", LATCHED),
            (String, f"{robot}/episode", LATCHED),
        ):
            messages = self.heard[topic] = []
            self.node.create_subscription(kind, topic, messages.append, profile)
        self.buffer = Buffer()
        self.listener = TransformListener(self.buffer, self.node)
        self.twist = self.node.create_publisher(TwistStamped, "command/twist", 1)
        self.gripper = self.node.create_publisher(Float64MultiArray, "command/gripper", 1)
        self.instruction = self.node.create_publisher(String, "instruction", LATCHED)

    def wait(self, condition: Callable[[], Any], what: str, process: subprocess.Popen | None = None) -> Any:
        deadline = time.monotonic() + TIMEOUT_S
        while not (result := condition()):
            assert time.monotonic() < deadline, f"timed out waiting for {what}"
            assert process is None or process.poll() is None, f"the {self.robot} process ended"
            self.executor.spin_once(timeout_sec=0.1)
        return result

    def last(self, topic: str) -> Any:
        return self.heard[topic][-1] if self.heard[topic] else None

    def stamps(self, topic: str) -> list[int]:
        return [stamp_ns(message.header.stamp) for message in self.heard[topic]]

    def frame(self) -> Image:
        """The next new camera frame."""
        seen = len(self.heard["camera/image_raw"])
        self.wait(lambda: len(self.heard["camera/image_raw"]) > seen, "a camera frame")
        return self.last("camera/image_raw")

    def base_T_ee(self, at_ns: int) -> np.ndarray:
        at = Time(nanoseconds=at_ns)
        self.wait(lambda: self.buffer.can_transform("base_link", "gripper_tcp", at), f"TF at {at_ns} ns")
        return matrix_from_transform(self.buffer.lookup_transform("base_link", "gripper_tcp", at).transform)

    def now_ns(self) -> int:
        return stamp_ns(self.last("/clock").clock)

    def send(
        self,
        linear: tuple[float, float, float] = (0.0, 0.0, 0.0),
        at_ns: int | None = None,
        frame: str = "base_link",
    ) -> None:
        msg = TwistStamped()
        msg.header.stamp, msg.header.frame_id = stamp_msg(self.now_ns() if at_ns is None else at_ns), frame
        msg.twist.linear.x, msg.twist.linear.y, msg.twist.linear.z = linear
        self.twist.publish(msg)

    def call(self, kind: type, name: str, request: Any) -> Any:
        client = self.node.create_client(kind, name)
        self.wait(client.service_is_ready, name)
        future = client.call_async(request)
        self.wait(future.done, name)
        self.node.destroy_client(client)
        return future.result()

    def set_parameter(self, name: str, value: Any) -> Any:
        request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
        return self.call(SetParameters, f"{self.robot}/set_parameters", request).results[0]

    def trigger(self, service: str) -> Trigger.Response:
        """Calls a service of the robot, such as reset or step."""
        return self.call(Trigger, f"{self.robot}/{service}", Trigger.Request())

    def episode(self) -> dict[str, Any]:
        return json.loads(self.last(f"{self.robot}/episode").data)

    def is_connected(self) -> bool:
        """Whether the tabletop hears this client; on the instruction topic it hears itself, too."""
        commands = self.twist.get_subscription_count() and self.gripper.get_subscription_count()
        return bool(commands) and self.instruction.get_subscription_count() == 2

    def close(self) -> None:
        self.executor.shutdown()
        self.node.destroy_node()
        self.context.shutdown()


def node_environment() -> dict[str, str]:
    source = str(Path(__file__).parents[2] / "src")
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))}


def node_command(*parameters: str) -> list[str]:
    arguments = [argument for parameter in parameters for argument in ("-p", parameter)]
    return [sys.executable, "-m", "sqap_vla.nodes.tabletop", "--ros-args", *arguments]


@contextmanager
def tabletop(*parameters: str, namespace: str = "/") -> Iterator[Client]:
    """The running node and a client that has heard its first frame and is connected to its inputs."""
    command = [*node_command(*parameters), "-r", f"__ns:={namespace}"]
    process = subprocess.Popen(command, env=node_environment())
    client = Client(namespace)
    try:
        client.wait(lambda: client.last("camera/image_raw"), "the first frame", process)
        client.wait(client.is_connected, "the command subscriptions", process)
        yield client
    finally:
        client.close()
        process.terminate()
        process.wait(TIMEOUT_S)
