# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""A robot made of messages, and the policy as a process of its own, in the domain of the test run.

The robot looks along the base's z axis at its gripper: camera at (0.3, 0, -0.8), end-effector at (0.3, 0, 0.2). It
feeds while a test waits, and each of its inputs can be bent or left out.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import PoseStamped, TransformStamped, TwistStamped
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import SetParameters
from rclpy.context import Context
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Float64MultiArray, String
from tf2_msgs.msg import TFMessage

from sqap_vla.nodes import qos
from sqap_vla.nodes.conversions import image_from_rgb
from sqap_vla.nodes.node_process import NodeProcess
from sqap_vla.nodes.spinning import spin_until

TIMEOUT_S = 60.0
WIDTH, HEIGHT = 64, 48
PERIOD_S = 0.05
RGB = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
LIMITS = {
    "limits.max_linear_m_s": 0.2,
    "limits.max_angular_rad_s": 0.8,
    "limits.max_linear_accel_m_s2": 10.0,
    "limits.max_angular_accel_rad_s2": 40.0,
    "limits.workspace_min_m": [-1.0, -1.0, -1.0],
    "limits.workspace_max_m": [1.0, 1.0, 1.0],
}
PARAMETERS = {
    "unnorm_key": "tabletop",
    "gripper": "absolute",
    "instruction": "pick up the red cube",
    "ddim_steps": 2,
    "pruning_ratio": 0.4,
    "max_chunk_age_s": 1.0,
    **LIMITS,
}
COMMANDS = {"twist": TwistStamped, "target_pose": PoseStamped, "gripper": Float64MultiArray}
CONFIGURE, ACTIVATE = Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE
DEACTIVATE, CLEANUP = Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP


def leave(msg: Any) -> Any:
    """An input as it should be."""
    return msg


def nothing(msg: Any) -> None:
    """An input that is not published."""


class Robot:
    """Sensors and the consumer of commands. `bend` maps an input's name to what is done to its messages."""

    def __init__(
        self, namespace: str = "", policy: str = "policy", image_topic: str = "image", sim_time: bool = False
    ) -> None:
        self.context = Context()
        rclpy.init(context=self.context, domain_id=int(os.environ["ROS_DOMAIN_ID"]))
        use_sim_time = Parameter("use_sim_time", value=sim_time)
        self.node = Node("robot", context=self.context, namespace=namespace, parameter_overrides=[use_sim_time])
        self.policy = policy
        self.process: NodeProcess | None = None  # where it is known, no test waits for a process that has ended
        self.bend: dict[str, Callable[[Any], Any]] = {}
        self.heard: dict[str, list[Any]] = {}
        self._runs_with: dict[str, Any] | None = None  # parameters of an active policy, where nobody has changed it
        self._subscriptions: dict[str, Subscription] = {}
        sensor = QoSProfile(depth=5)
        self._out = {
            "tf": self.node.create_publisher(TFMessage, "/tf", 10),
            "camera_info": self.node.create_publisher(CameraInfo, "camera_info", sensor),
            "image": self.node.create_publisher(Image, image_topic, sensor),
        }
        self._instruction = self.node.create_publisher(String, "instruction", qos.latched())
        for prefix in ("", "dry_run/"):
            for name, kind in COMMANDS.items():
                self.listen(kind, prefix + name)
        self.listen(Float64MultiArray, "chunk")
        self.listen(DiagnosticStatus, "status", qos.latched())
        self.camera = self.node.create_timer(PERIOD_S, self.send_frame)

    def close(self) -> None:
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)

    # Sensors

    def send_frame(self) -> None:
        """Transforms, intrinsics and image under one stamp, each as it is bent."""
        stamp = self.node.get_clock().now().to_msg()
        info = CameraInfo(width=WIDTH, height=HEIGHT, k=[60.0, 0.0, 32.0, 0.0, 60.0, 24.0, 0.0, 0.0, 1.0])
        info.header.stamp = stamp
        sent = {
            "tf": TFMessage(transforms=[transform("gripper_tcp", 0.2, stamp), transform("camera", -0.8, stamp)]),
            "camera_info": info,
            "image": image_from_rgb(RGB, stamp, "camera"),
        }
        for name, msg in sent.items():
            bent = self.bend.get(name, leave)(msg)
            if bent is not None:
                self._out[name].publish(bent)

    def say(self, instruction: str) -> None:
        self._instruction.publish(String(data=instruction))

    # What the policy does

    def listen(self, kind: type, name: str, profile: QoSProfile | None = None) -> list[Any]:
        """Collects a topic of the policy's."""
        messages = self.heard[name] = []
        profile = QoSProfile(depth=50) if profile is None else profile
        topic = f"{self.policy}/{name}"
        self._subscriptions[name] = self.node.create_subscription(kind, topic, messages.append, profile)
        return messages

    def listen_no_more(self) -> None:
        """To what is made on demand."""
        for name in [name for name in self._subscriptions if name.startswith("debug/")]:
            self.node.destroy_subscription(self._subscriptions.pop(name))

    def wait(self, done: Callable[[], Any], what: str) -> None:
        process = self.process
        spin_until(self.node, lambda: done() or not (process is None or process.alive), TIMEOUT_S, step_s=0.01)
        assert done(), f"{what}; {self.told()}"

    def told(self) -> str:
        """The policy's last status, for messages of failed tests."""
        if not self.heard["status"]:
            return "the policy has not said anything"
        values = {pair.key: pair.value for pair in self.heard["status"][-1].values if pair.value}
        return f"last status: {self.heard['status'][-1].message}, {values}"

    def moves(self) -> bool:
        """Whether one of the last five twists was not zero."""
        return any(any(velocity(msg)) for msg in self.heard["dry_run/twist"][-5:])

    def forget(self) -> None:
        for messages in self.heard.values():
            messages.clear()

    def more(self, name: str, count: int = 1) -> None:
        """Waits for `count` further messages."""
        start = len(self.heard[name])
        self.wait(lambda: len(self.heard[name]) >= start + count, f"{count} more of {name}")

    def values(self) -> dict[str, str]:
        """Figures of the last status."""
        return {pair.key: pair.value for pair in self.heard["status"][-1].values} if self.heard["status"] else {}

    def has_value(self, key: str, value: str) -> None:
        self.wait(lambda: self.values().get(key) == value, f"status with {key} = '{value}'")

    def has_status(self, text: str, level: bytes | None = None) -> None:
        def said() -> bool:
            last = self.heard["status"][-1:]
            return bool(last) and text in last[0].message and level in (None, last[0].level)

        self.wait(said, f"status '{text}'")

    def quiet(self, *names: str, status_count: int = 2) -> None:
        """No message on these topics for as long as the policy takes to report `status_count` times, alive as it is."""
        before = {name: len(self.heard[name]) for name in names}
        self.more("status", status_count)
        assert {name: len(self.heard[name]) for name in names} == before

    def wait_stopped(self, prefix: str = "dry_run/") -> None:
        """Until a zero twist has come, and then nothing more."""
        twists = self.heard[prefix + "twist"]
        self.wait(lambda: twists and not any(velocity(twists[-1])), "a zero twist")
        self.more("status")  # the repeated ones
        self.quiet(*(prefix + name for name in COMMANDS))
        assert not any(velocity(twists[-1]))

    # Services

    def call(self, kind: type, service: str, request: Any, timeout_s: float = TIMEOUT_S) -> Any:
        """Asks again once where no answer comes: a server that has not found the client yet drops what it says to it
        (rmw_fastrtps waits for 100 ms)."""
        client = self.node.create_client(kind, f"{self.policy}/{service}")
        self.wait(client.service_is_ready, service)
        for _ in range(2):
            future = client.call_async(request)
            if spin_until(self.node, future.done, timeout_s / 2):
                break
        else:
            raise AssertionError(f"no answer from {service}")
        self.node.destroy_client(client)
        return future.result()

    def transition(self, number: int) -> bool:
        self._runs_with = None
        return self.call(ChangeState, "change_state", ChangeState.Request(transition=Transition(id=number))).success

    def state(self) -> int:
        return self.call(GetState, "get_state", GetState.Request()).current_state.id

    def go(self, *transitions: int) -> None:
        for number in transitions:
            assert self.transition(number), f"transition {number} was refused; {self.told()}"

    def set(self, values: Mapping[str, Any]) -> list[tuple[bool, str]]:
        self._runs_with = None
        parameters = [Parameter(name, value=value).to_parameter_msg() for name, value in values.items()]
        results = self.call(SetParameters, "set_parameters", SetParameters.Request(parameters=parameters)).results
        return [(result.successful, result.reason) for result in results]

    def unconfigure(self) -> None:
        """To unconfigured, wherever it is."""
        state = self.state()
        if state == State.PRIMARY_STATE_ACTIVE:
            self.go(DEACTIVATE, CLEANUP)
        elif state == State.PRIMARY_STATE_INACTIVE:
            self.go(CLEANUP)

    def start(self, **changes: Any) -> None:
        """Active with PARAMETERS and `changes` (__ for a dot), good inputs, nothing heard yet."""
        values = {**DEFAULTS, **PARAMETERS, **{name.replace("__", "."): value for name, value in changes.items()}}
        self.bend.clear()
        self.say(PARAMETERS["instruction"])  # the last one said is latched
        if self._runs_with != values:
            self.unconfigure()
            results = self.set(values)
            assert all(successful for successful, _ in results), results
            self.go(CONFIGURE, ACTIVATE)
        self._runs_with = values
        self.forget()


DEFAULTS = {
    "dry_run": True,
    "method": "sqap",
    "rate_hz": 20.0,
    "no_geometry": "ring_off",
    "base_frame": "base_link",
    "sensor_reliability": "best_effort",
    "max_ee_age_s": 0.5,
    "max_silence_s": 2.0,
    "camera_frame": "",
    "image_transport": "raw",
}


def transform(child: str, z: float, stamp: Any, parent: str = "base_link") -> TransformStamped:
    msg = TransformStamped(child_frame_id=child)
    msg.header.stamp, msg.header.frame_id = stamp, parent
    msg.transform.translation.x, msg.transform.translation.z, msg.transform.rotation.w = 0.3, z, 1.0
    return msg


def velocity(msg: TwistStamped) -> tuple[float, ...]:
    linear, angular = msg.twist.linear, msg.twist.angular
    return (linear.x, linear.y, linear.z, angular.x, angular.y, angular.z)


@contextmanager
def policy_process(
    log: Path, parameters: Mapping[str, Any], remap: Mapping[str, str] | None = None, module: str = "policy"
) -> Iterator[NodeProcess]:
    """The process; a test that fails shows the end of its log. It must end with status 0."""
    process = NodeProcess(module, module, parameters, log=log, remap=remap)
    try:
        yield process
    except BaseException:
        process.stop()
        print("\n".join(log.read_text(errors="replace").splitlines()[-40:]))  # noqa: T201
        raise
    assert process.stop() == 0, log.read_text(errors="replace")
    assert "Traceback" not in log.read_text(errors="replace"), log.read_text(errors="replace")


def seconds(msg: Any) -> float:
    return msg.header.stamp.sec + msg.header.stamp.nanosec / 1e9
