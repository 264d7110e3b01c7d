# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""replay.launch.py with upstream's launch: a bag goes through the policy, the report is written, launch ends.

Without launch_testing this is skipped; test/nodes covers live replay with a policy that it starts itself.
"""

import tempfile
import unittest
from pathlib import Path

import pytest

launch_testing = pytest.importorskip(
    "launch_testing", reason="launch_testing is not installed; see test/nodes for the same behaviour"
)
pytest.importorskip("launch_ros", reason="launch_ros is not installed; see test/nodes for the same behaviour")

import numpy as np  # noqa: E402
from ament_index_python.packages import get_package_share_directory  # noqa: E402
from launch.actions import IncludeLaunchDescription  # noqa: E402
from launch.launch_description_sources import PythonLaunchDescriptionSource  # noqa: E402

import launch  # noqa: E402
from sqap_vla.cogact.random_checkpoint import write_random_checkpoint  # noqa: E402
from sqap_vla.evaluation import messages  # noqa: E402
from sqap_vla.evaluation.bag_writer import write_bag  # noqa: E402
from sqap_vla.evaluation.step import read_steps  # noqa: E402
from sqap_vla.pruning.projection import CameraModel  # noqa: E402

FRAMES = 4


def write_episode(path: Path) -> Path:
    """A camera at rest that looks at a gripper, 5 Hz."""
    camera = CameraModel(
        matrix=np.array([[60.0, 0, 32], [0, 60, 24], [0, 0, 1]]),
        distortion_model="plumb_bob",
        distortion=(0.0,) * 5,
        width=64,
        height=48,
    )
    base_T_ee, base_T_camera = np.eye(4), np.eye(4)
    base_T_ee[:3, 3], base_T_camera[:3, 3] = (0.3, 0, 0.2), (0.3, 0, -0.8)
    episode = [messages.string("/instruction", "pick up the red cube", 1_700_000_000_000_000_000)]
    for frame in range(FRAMES):
        stamp_ns = 1_700_000_000_000_000_000 + frame * 200_000_000
        rgb = np.random.default_rng(frame).integers(0, 255, (48, 64, 3), dtype=np.uint8)
        episode += [
            messages.camera_info("/camera/camera_info", camera, stamp_ns, "camera_optical_frame"),
            messages.transforms(
                "/tf", "base_link", {"gripper_tcp": base_T_ee, "camera_optical_frame": base_T_camera}, stamp_ns
            ),
            messages.image("/camera/image_raw", rgb, stamp_ns, "camera_optical_frame"),
        ]
    return write_bag(path, episode)


@pytest.mark.launch_test
def generate_test_description():
    directory = Path(tempfile.mkdtemp(prefix="sqap_vla_replay_launch_test_"))
    share = get_package_share_directory("sqap_vla")
    arguments = {
        "bag": str(write_episode(directory / "bag")),
        "checkpoint": str(write_random_checkpoint(directory / "checkpoint")),
        "params_file": "widowx.yaml",
        "out": str(directory / "out"),
    }
    return launch.LaunchDescription(
        [
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(f"{share}/launch/replay.launch.py"), launch_arguments=arguments.items()
            ),
            launch_testing.actions.ReadyToTest(),
        ]
    ), {"out": directory / "out"}


class TestReplayLaunch(unittest.TestCase):
    def test_every_frame_is_replayed_and_reported(self, proc_info, out) -> None:
        proc_info.assertWaitForShutdown(process="sqap-vla", timeout=180)
        rows = list(read_steps(out / "steps.csv"))
        self.assertEqual([len(row.kept) for row in rows], [154] * FRAMES)
        self.assertTrue((out / "report.md").is_file())


@launch_testing.post_shutdown_test()
class TestShutdown(unittest.TestCase):
    def test_every_process_ended_cleanly(self, proc_info) -> None:
        launch_testing.asserts.assertExitCodes(proc_info)
