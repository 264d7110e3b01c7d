# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""What the bridge publishes of SIMPLER's robot and camera.

All messages of one frame carry one stamp. They go out in the order in which a consumer needs them: clock, then
transforms and joints, then camera_info, then the image.
"""

from __future__ import annotations

from rclpy.node import Node
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image, JointState
from tf2_ros import TransformBroadcaster

from sqap_vla.nodes import qos
from sqap_vla.nodes.conversions import image_from_rgb, stamp_msg
from sqap_vla.nodes.robot_messages import camera_info_msg, transform_msg
from sqap_vla.nodes.simpler_bridge_parameters import SimplerBridgeParameters
from sqap_vla.simpler.client import SimplerState, SimplerTask


class SimplerOutput:
    """Publishers of clock, transforms, joint states, camera_info and image."""

    def __init__(self, node: Node, parameters: SimplerBridgeParameters) -> None:
        self._parameters = parameters
        sensor = qos.sensor(parameters.image_reliability, depth=2)
        self._clock = node.create_publisher(Clock, "/clock", 10)
        self._transforms = TransformBroadcaster(node)
        self._joints = node.create_publisher(JointState, "joint_states", 10)
        self._camera_info = node.create_publisher(CameraInfo, "camera/camera_info", sensor)
        self._image = node.create_publisher(Image, "camera/image_raw", sensor)

    def publish_clock(self, now_ns: int) -> None:
        self._clock.publish(Clock(clock=stamp_msg(now_ns)))

    def publish_frame(self, task: SimplerTask, state: SimplerState, now_ns: int) -> None:
        """Everything that SIMPLER told, stamped `now_ns`."""
        stamp, base, camera = stamp_msg(now_ns), self._parameters.base_frame, self._parameters.camera_frame
        self.publish_clock(now_ns)
        self._transforms.sendTransform(
            [
                transform_msg(state.base_T_ee, stamp, base, self._parameters.ee_frame),
                transform_msg(state.base_T_camera, stamp, base, camera),
            ]
        )
        joints = JointState(
            name=list(task.joints), position=state.joint_position.tolist(), velocity=state.joint_velocity.tolist()
        )
        joints.header.stamp, joints.header.frame_id = stamp, base
        self._joints.publish(joints)
        height, width = state.rgb.shape[:2]
        info = camera_info_msg(state.intrinsic, width, height)
        info.header.stamp, info.header.frame_id = stamp, camera
        self._camera_info.publish(info)
        self._image.publish(image_from_rgb(state.rgb, stamp, camera))
