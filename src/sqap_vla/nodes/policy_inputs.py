# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The policy's subscriptions: who listens to what, how often it comes, and in which order it is looked at."""

from __future__ import annotations

from collections.abc import Callable

from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import String

from sqap_vla.nodes import qos
from sqap_vla.nodes.conversions import stamp_ns
from sqap_vla.nodes.input_monitor import InputMonitor
from sqap_vla.nodes.policy_parameters import PolicyParameters
from sqap_vla.nodes.policy_status import input_figures

Frame = Image | CompressedImage


class PolicyInputs:
    """Subscribes, counts, and hands every message on. image_frame: frame_id of the newest image, '' before that."""

    def __init__(
        self,
        node: LifecycleNode,
        params: PolicyParameters,
        on_image: Callable[[Frame], None],
        on_camera_info: Callable[[CameraInfo], None],
        on_instruction: Callable[[str], None],
    ) -> None:
        self._node = node
        self._on_image, self._on_camera_info, self._on_instruction = on_image, on_camera_info, on_instruction
        self._monitors = {name: InputMonitor() for name in ("instruction", "camera_info", "image")}
        self.image_frame = ""
        sensor = qos.sensor(params.sensor_reliability)
        compressed = params.image_transport == "compressed"
        image_topic = params.image_topic + ("/compressed" if compressed else "")
        # Twice: the one gets what was said before, the other hears publishers that are not latched (`ros2 topic pub`).
        said, heard = (
            node.create_subscription(String, params.instruction_topic, self._instruction, profile)
            for profile in (qos.latched(), qos.command())
        )
        # The image last: of what is ready at once, rclpy runs the oldest subscription first, and what was sent before
        # an image must be known when it is looked at.
        self._subscriptions = {
            "instruction_latched": said,
            "instruction": heard,
            "camera_info": node.create_subscription(CameraInfo, params.camera_info_topic, self._camera_info, sensor),
            "image": node.create_subscription(
                CompressedImage if compressed else Image, image_topic, self._image, sensor
            ),
        }

    def destroy(self) -> None:
        for subscription in self._subscriptions.values():
            self._node.destroy_subscription(subscription)

    def figures(self) -> dict[str, str]:
        """Rate, age and publishers of each input, for ~/status."""
        return input_figures(self._node, self._monitors, self._subscriptions)

    def _image(self, msg: Frame) -> None:
        self._monitors["image"].arrived(stamp_ns(msg.header.stamp))
        self.image_frame = msg.header.frame_id
        self._on_image(msg)

    def _camera_info(self, msg: CameraInfo) -> None:
        self._monitors["camera_info"].arrived(stamp_ns(msg.header.stamp))
        self._on_camera_info(msg)

    def _instruction(self, msg: String) -> None:
        self._monitors["instruction"].arrived()
        self._on_instruction(msg.data)
