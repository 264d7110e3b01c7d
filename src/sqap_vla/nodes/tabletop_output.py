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
from geometry_msgs.msg import Transform, TransformStamped
from rclpy.node import Node
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image, JointState
from tf2_ros import StaticTransformBroadcaster, TransformBroadcaster

from sqap_vla.nodes import qos
from sqap_vla.nodes.conversions import image_from_rgb, pose_from_matrix
from sqap_vla.nodes.tabletop_parameters import TabletopParameters
from sqap_vla.sim import TabletopEnv, intrinsics
from sqap_vla.sim.camera import base_T_camera
from sqap_vla.sim.scene import JOINTS


def transform_msg(parent_T_child: np.ndarray, stamp: Time, parent: str, child: str) -> TransformStamped:
    """TransformStamped of a pose [4, 4] of `child` in `parent`."""
    pose, msg = pose_from_matrix(parent_T_child), TransformStamped()
    msg.header.stamp, msg.header.frame_id, msg.child_frame_id = stamp, parent, child
    msg.transform = Transform(rotation=pose.orientation)
    msg.transform.translation.x, msg.transform.translation.y, msg.transform.translation.z = (
        pose.position.x,
        pose.position.y,
        pose.position.z,
    )
    return msg


def camera_info_msg(matrix: np.ndarray, width_px: int, height_px: int) -> CameraInfo:
    """CameraInfo of an ideal pinhole with camera matrix [3, 3]; header left to the caller."""
    projection = np.hstack([matrix, np.zeros((3, 1))])
    return CameraInfo(
        width=width_px,
        height=height_px,
        distortion_model="plumb_bob",
        d=[0.0] * 5,
        k=matrix.ravel().tolist(),
        r=np.eye(3).ravel().tolist(),
        p=projection.ravel().tolist(),
    )


class RobotOutput:
    """Publishers of clock, transforms, joint states, camera_info and image of one environment."""

    def __init__(self, node: Node, env: TabletopEnv, parameters: TabletopParameters) -> None:
        self._env, self._parameters = env, parameters
        camera = env.config.camera
        sensor = qos.sensor(parameters.image_reliability, depth=2)
        self._clock = node.create_publisher(Clock, "/clock", 10) if parameters.publish_clock else None
        self._transforms, self._static_transforms = TransformBroadcaster(node), StaticTransformBroadcaster(
            node
        )
        self._joints = node.create_publisher(JointState, "joint_states", 10)
        self._camera_info = node.create_publisher(CameraInfo, "camera/camera_info", sensor)
        self._image = node.create_publisher(Image, "camera/image_raw", sensor)
        self._camera_info_msg = camera_info_msg(intrinsics(camera), camera.width_px, camera.height_px)

    def publish_camera_pose(self, stamp: Time) -> None:
        """The camera's pose in the base frame, once, latched on /tf_static."""
        self._static_transforms.sendTransform(
            transform_msg(
                base_T_camera(self._env.config.camera),
                stamp,
                self._parameters.base_frame,
                self._parameters.camera_frame,
            )
        )

    def publish_state(self, stamp: Time) -> None:
        """Clock, end-effector pose and joint states."""
        if self._clock is not None:
            self._clock.publish(Clock(clock=stamp))
        self._transforms.sendTransform(
            transform_msg(
                self._env.scene.base_T_ee(), stamp, self._parameters.base_frame, self._parameters.ee_frame
            )
        )
        joints = JointState(name=list(JOINTS), position=self._env.scene.joint_positions().tolist())
        joints.header.stamp, joints.header.frame_id = stamp, self._parameters.base_frame
        self._joints.publish(joints)

    def publish_frame(self, rgb: np.ndarray, stamp: Time) -> None:
        """camera_info and image."""
        self._camera_info_msg.header.stamp, self._camera_info_msg.header.frame_id = (
            stamp,
            self._parameters.camera_frame,
        )
        self._camera_info.publish(self._camera_info_msg)
        self._image.publish(image_from_rgb(rgb, stamp, self._parameters.camera_frame))
