# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""What the simulated robot and its camera publish.

All messages of one tick carry the same stamp. They go out in the order in which a consumer needs them: clock,
then transforms and joints, then camera_info, then the image, so that whoever acts on an image finds the rest
there.
"""

from __future__ import annotations

import numpy as np
from builtin_interfaces.msg import Time
from rclpy.node import Node
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image, JointState
from tf2_ros import TransformBroadcaster

from sqap_vla.nodes import qos
from sqap_vla.nodes.conversions import image_from_rgb
from sqap_vla.nodes.robot_messages import camera_info_msg, transform_msg
from sqap_vla.nodes.tabletop_parameters import TabletopParameters
from sqap_vla.sim import TabletopEnv, intrinsics
from sqap_vla.sim.camera import base_T_camera
from sqap_vla.sim.scene import JOINTS


class RobotOutput:
    """Publishers of clock, transforms, joint states, camera_info and image of one environment."""

    def __init__(self, node: Node, env: TabletopEnv, parameters: TabletopParameters) -> None:
        self._env, self._parameters = env, parameters
        sensor = qos.sensor(parameters.image_reliability, depth=2)
        self._clock = node.create_publisher(Clock, "/clock", 10) if parameters.publish_clock else None
        self._transforms = TransformBroadcaster(node)
        self._joints = node.create_publisher(JointState, "joint_states", 10)
        self._camera_info = node.create_publisher(CameraInfo, "camera/camera_info", sensor)
        self._image = node.create_publisher(Image, "camera/image_raw", sensor)

    def publish_state(self, stamp: Time) -> None:
        """Clock, poses of end-effector and camera, and joint states.

        The camera stands still within an episode, but not from one variant to the next. With its pose under
        every stamp, an image of a new episode can never be taken for one of the camera before.
        """
        if self._clock is not None:
            self._clock.publish(Clock(clock=stamp))
        base = self._parameters.base_frame
        poses = (
            (self._env.scene.base_T_ee(), self._parameters.ee_frame),
            (base_T_camera(self._env.camera), self._parameters.camera_frame),
        )
        self._transforms.sendTransform([transform_msg(pose, stamp, base, frame) for pose, frame in poses])
        joints = JointState(name=list(JOINTS), position=self._env.scene.joint_positions().tolist())
        joints.header.stamp, joints.header.frame_id = stamp, self._parameters.base_frame
        self._joints.publish(joints)

    def publish_frame(self, rgb: np.ndarray, stamp: Time) -> None:
        """camera_info and image."""
        camera = self._env.camera
        info = camera_info_msg(intrinsics(camera), camera.width_px, camera.height_px)
        info.header.stamp, info.header.frame_id = stamp, self._parameters.camera_frame
        self._camera_info.publish(info)
        self._image.publish(image_from_rgb(rgb, stamp, self._parameters.camera_frame))
