# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""policy.launch.py with upstream's launch: nodes become active by themselves, frames give chunks, a dry run is one.

Without launch_testing this is skipped; test/nodes starts the same nodes as processes and covers the same behaviour.
"""

import tempfile
import time
import unittest

import pytest

launch_testing = pytest.importorskip(
    "launch_testing", reason="launch_testing is not installed; see test/nodes for the same behaviour"
)
pytest.importorskip("launch_ros", reason="launch_ros is not installed; see test/nodes for the same behaviour")

import numpy as np  # noqa: E402
import rclpy  # noqa: E402
from ament_index_python.packages import get_package_share_directory  # noqa: E402
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus  # noqa: E402
from geometry_msgs.msg import TransformStamped, TwistStamped  # noqa: E402
from launch.actions import IncludeLaunchDescription  # noqa: E402
from launch.launch_description_sources import PythonLaunchDescriptionSource  # noqa: E402
from sensor_msgs.msg import CameraInfo, Image  # noqa: E402
from std_msgs.msg import Float64MultiArray  # noqa: E402
from tf2_ros import TransformBroadcaster  # noqa: E402

import launch  # noqa: E402
from sqap_vla.cogact.random_checkpoint import write_random_checkpoint  # noqa: E402
from sqap_vla.nodes import qos  # noqa: E402
from sqap_vla.nodes.conversions import image_from_rgb  # noqa: E402
from sqap_vla.nodes.spinning import spin_until  # noqa: E402

NAMESPACE = "robot1"
TIMEOUT_S = 120.0


@pytest.mark.launch_test
def generate_test_description():
    directory = tempfile.mkdtemp(prefix="sqap_vla_launch_test_")
    share = get_package_share_directory("sqap_vla")
    arguments = {
        "checkpoint": str(write_random_checkpoint(f"{directory}/checkpoint")),
        "artifact_dir": f"{directory}/artifact",
        "params_file": "widowx.yaml",
        "namespace": NAMESPACE,
        "instruction": "pick up the red cube",
    }
    return launch.LaunchDescription(
        [
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(f"{share}/launch/policy.launch.py"), launch_arguments=arguments.items()
            ),
            launch_testing.actions.ReadyToTest(),
        ]
    )


class Robot(rclpy.node.Node):
    """A camera, a hand and an eye for commands, in the launched namespace."""

    def __init__(self) -> None:
        super().__init__("robot", namespace=NAMESPACE)
        self.status, self.chunks, self.dry_twists, self.live_twists, self.diagnostics = "", [], [], [], []
        self._image = self.create_publisher(Image, "camera/image_raw", 5)
        self._info = self.create_publisher(CameraInfo, "camera/camera_info", 5)
        self._tf = TransformBroadcaster(self)
        self.create_subscription(DiagnosticStatus, "policy/status", self._on_status, qos.latched())
        self.create_subscription(Float64MultiArray, "policy/chunk", self.chunks.append, qos.command())
        self.create_subscription(TwistStamped, "policy/dry_run/twist", self.dry_twists.append, qos.command())
        self.create_subscription(TwistStamped, "policy/twist", self.live_twists.append, qos.command())
        self.create_subscription(DiagnosticArray, "/diagnostics", self.diagnostics.append, 10)
        self.camera = self.create_timer(0.2, self._send_frame)

    def _on_status(self, msg: DiagnosticStatus) -> None:
        self.status = msg.message

    def _send_frame(self) -> None:
        stamp = self.get_clock().now().to_msg()
        transforms = []
        for child, z in (
            ("gripper_tcp", 0.2),
            ("camera_optical_frame", -0.8),
        ):  # the camera looks along z, at the gripper
            transform = TransformStamped(child_frame_id=child)
            transform.header.stamp, transform.header.frame_id = stamp, "base_link"
            transform.transform.translation.x, transform.transform.translation.z = 0.3, z
            transform.transform.rotation.w = 1.0
            transforms.append(transform)
        self._tf.sendTransform(transforms)
        info = CameraInfo(
            width=64, height=48, k=[60.0, 0.0, 32.0, 0.0, 60.0, 24.0, 0.0, 0.0, 1.0], distortion_model="plumb_bob"
        )
        info.header.stamp, info.header.frame_id = stamp, "camera_optical_frame"
        self._info.publish(info)
        self._image.publish(image_from_rgb(np.full((48, 64, 3), 90, np.uint8), stamp, "camera_optical_frame"))


class TestPolicyLaunch(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        rclpy.init()
        cls.robot = Robot()

    @classmethod
    def tearDownClass(cls) -> None:
        cls.robot.destroy_node()
        rclpy.shutdown()

    def test_frames_give_chunks_and_a_dry_run_moves_nothing_and_silence_stops(self) -> None:
        robot = self.robot
        self.assertTrue(spin_until(robot, lambda: robot.status == "active", TIMEOUT_S), f"policy is '{robot.status}'")
        self.assertTrue(spin_until(robot, lambda: len(robot.chunks) >= 3 and len(robot.dry_twists) >= 10, TIMEOUT_S))
        self.assertEqual(len(robot.chunks[-1].data), 16 * 7)
        self.assertEqual(robot.dry_twists[-1].header.frame_id, "base_link")
        self.assertEqual(robot.live_twists, [])

        def inputs_judged_ok() -> bool:
            return any(
                s.name == "sqap_vla: inputs" and s.level == DiagnosticStatus.OK
                for a in robot.diagnostics
                for s in a.status
            )

        self.assertTrue(spin_until(robot, inputs_judged_ok, TIMEOUT_S), "diagnostics never called the inputs good")

        robot.camera.cancel()
        since_s = time.monotonic()

        def stopped() -> bool:
            twist = robot.dry_twists[-1].twist
            return not any(
                (twist.linear.x, twist.linear.y, twist.linear.z, twist.angular.x, twist.angular.y, twist.angular.z)
            )

        self.assertTrue(spin_until(robot, stopped, TIMEOUT_S), "the last command is not a stop")
        self.assertLess(time.monotonic() - since_s, 20.0)


@launch_testing.post_shutdown_test()
class TestShutdown(unittest.TestCase):
    def test_every_process_ended_cleanly(self, proc_info) -> None:
        launch_testing.asserts.assertExitCodes(proc_info)
