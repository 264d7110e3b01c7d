# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Between two real processes: the TFMessage type, and images through the shared-memory profile."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tf2_msgs.msg import TFMessage

PROFILE = Path(__file__).resolve().parents[2] / "config" / "fastdds_shm.xml"
TYPE_HASH = "RIHS01_e369d0f05a23ae52508854b66f6aa0437f3449d652e8cbf22d5abe85d020f087"
TALKER = """
import sys, time, rclpy
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image

rclpy.init()
node = rclpy.create_node("talker")
publisher = node.create_publisher(Image, "image", qos_profile_sensor_data)
image = Image(width=640, height=480, step=1920, encoding="rgb8")
image.data.frombytes(bytes(480 * 1920))
while not publisher.get_subscription_count():
    time.sleep(0.01)
start = time.monotonic()
for index in range(60):
    image.header.stamp.sec = index
    publisher.publish(image)
    time.sleep(max(0.0, start + (index + 1) / 30 - time.monotonic()))
sys.stdin.read()  # until the listener has seen what there is to see
"""
LISTENER = """
import rclpy
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image

rclpy.init()
node = rclpy.create_node("listener")
seen = []
take = lambda image: seen.append(image.header.stamp.sec)
node.create_subscription(Image, "image", take, qos_profile_sensor_data)
while not seen:
    rclpy.spin_once(node, timeout_sec=1.0)
before = -1
while len(seen) > before and seen[-1] != 59:  # a second of silence is the end, too
    before = len(seen)
    rclpy.spin_once(node, timeout_sec=1.0)
print(len(seen))
"""
TF_TALKER = """
import sys, rclpy
from geometry_msgs.msg import TransformStamped
from tf2_msgs.msg import TFMessage

rclpy.init()
node = rclpy.create_node("talker")
publisher = node.create_publisher(TFMessage, "/tf", 10)
message = TFMessage(transforms=[TransformStamped(child_frame_id="tool")])
node.create_timer(0.05, lambda: publisher.publish(message))
rclpy.spin(node)
"""
TF_LISTENER = """
import rclpy
from tf2_msgs.msg import TFMessage

rclpy.init()
node = rclpy.create_node("listener")
seen = []
node.create_subscription(TFMessage, "/tf", seen.append, 10)
while not seen:
    rclpy.spin_once(node, timeout_sec=1.0)
hashes = {str(info.topic_type_hash) for info in node.get_publishers_info_by_topic("/tf")}
print(seen[0].transforms[0].child_frame_id, *hashes)
"""


def _exchange(talker: str, listener: str, **variables: str) -> str:
    """Output of the listener, with the talker running beside it in another process."""
    environment = {**os.environ, **variables}
    with subprocess.Popen([sys.executable, "-c", talker], env=environment, stdin=subprocess.PIPE) as process:
        try:
            return subprocess.run(
                [sys.executable, "-c", listener],
                env=environment,
                capture_output=True,
                text=True,
                timeout=300,
                check=True,
            ).stdout
        finally:
            process.kill()


def test_images_go_through_shared_memory_and_are_not_lost() -> None:
    # With Fast DDS's defaults about 10 of 60 arrive; with the profile all, on an idle machine.
    received = int(_exchange(TALKER, LISTENER, FASTRTPS_DEFAULT_PROFILES_FILE=str(PROFILE)))
    assert received >= 48


def test_tf_messages_cross_processes_with_the_type_hash_of_every_jazzy() -> None:
    child, *hashes = _exchange(TF_TALKER, TF_LISTENER).split()
    assert child == "tool"
    assert hashes == [TYPE_HASH]
    assert TFMessage.get_fields_and_field_types() == {"transforms": "sequence<geometry_msgs/TransformStamped>"}
