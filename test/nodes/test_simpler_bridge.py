# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The SIMPLER bridge as a process, with SIMPLER's server and the environment that stands in for SIMPLER as another.

Pinned: frames carry their geometry under one stamp; in lockstep a command counts only if it was made after the chunk;
actions are the twist's deltas and the robots' gripper numbers; a stop holds still; realtime does not wait; the last
episode ends the node, and a server that dies ends it with one line.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

from rclpy.publisher import Publisher
from rclpy.time import Time
from std_msgs.msg import Float64MultiArray
from tabletop_client import TIMEOUT_S, Client, node_environment

from sqap_vla.nodes.conversions import camera_from_info, matrix_from_transform, rgb_from_image, stamp_ns
from sqap_vla.pruning.projection import project
from sqap_vla.runtime.actions import rotation_from_rotvec, rotation_from_rpy, twist_from_delta
from sqap_vla.simpler.actions import (
    HOLD_STEPS,
    GoogleRobotGripperAction,
    WidowXGripperAction,
    action_from_twist,
    make_gripper_action,
)

ROOT = Path(__file__).resolve().parents[2]
STAND_IN = ROOT / "test" / "simpler" / "stand_in"
WIDOWX, GOOGLE = "widowx_spoon_on_towel", "google_robot_pick_coke_can"


class Commander(Client):
    """Answers frames as the policy does: first the chunk, then commands."""

    process: subprocess.Popen
    server: subprocess.Popen
    chunk: Publisher

    def image_ns(self) -> int:
        return self.stamps("camera/image_raw")[-1] if self.heard["camera/image_raw"] else 0

    def begin(self) -> int:
        """A new episode; the stamp of its first frame."""
        before = self.image_ns()
        assert self.trigger("reset").success
        self.wait(lambda: self.image_ns() > before, "the first frame", self.process)
        return self.image_ns()

    def think(self) -> int:
        """Sends a chunk; returns the time that the clock moves on to."""
        frame_ns = self.image_ns()
        self.chunk.publish(Float64MultiArray(data=[0.0] * 112))
        self.wait(lambda: self.now_ns() > frame_ns, "the clock to move on", self.process)
        return self.now_ns()

    def answer(self, linear: tuple[float, float, float], opening: float) -> int:
        """Carries out one step; returns the stamp of the frame that follows."""
        frame_ns, at_ns = self.image_ns(), self.think()
        self.send(linear, at_ns=at_ns)
        self.gripper.publish(Float64MultiArray(data=[opening]))
        self.wait(lambda: self.image_ns() > frame_ns, "the next frame", self.process)
        return self.image_ns()

    def tool_m(self, at_ns: int) -> np.ndarray:
        return self.base_T_ee(at_ns)[:3, 3]


@contextmanager
def served(directory: Path) -> Iterator[Path]:
    """The server's socket, with the server listening."""
    socket = directory / "socket"
    with subprocess.Popen(
        [sys.executable, str(ROOT / "src" / "sqap_vla" / "simpler"), "--socket", str(socket)],
        env=os.environ | {"PYTHONPATH": str(STAND_IN)},
    ) as server:
        yield socket
        server.terminate()


@contextmanager
def bridge(directory: Path, *parameters: str, namespace: str) -> Iterator[Commander]:
    """Server, bridge, and a commander that has heard the first frame and is heard."""
    socket = directory / "socket"
    server = subprocess.Popen(
        [sys.executable, str(ROOT / "src" / "sqap_vla" / "simpler"), "--socket", str(socket)],
        env=os.environ | {"PYTHONPATH": str(STAND_IN)},
    )
    words = [word for value in (f"socket:={socket}", *parameters) for word in ("-p", value)]
    remaps = (f"__ns:={namespace}", f"/clock:={namespace}/clock")  # two bridges may run at a time, each in its own time
    words += [word for remap in remaps for word in ("-r", remap)]
    command = [sys.executable, "-m", "sqap_vla.nodes.simpler_bridge", "--ros-args", *words]
    process = subprocess.Popen(command, env=node_environment(), stderr=(directory / "log").open("wb"))
    client = Commander(namespace, "simpler_bridge", remaps[1:])
    client.process, client.server = process, server
    client.chunk = client.node.create_publisher(Float64MultiArray, "command/chunk", 1)
    try:
        client.wait(lambda: client.last("camera/image_raw"), "the first frame", process)
        publishers = (client.twist, client.gripper, client.chunk)
        client.wait(lambda: all(p.get_subscription_count() for p in publishers), "the subscriptions", process)
        yield client
    finally:
        client.close()
        for ended in (process, server):
            ended.terminate()
            ended.wait(TIMEOUT_S)


@pytest.fixture(scope="module")
def widowx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commander]:
    directory = tmp_path_factory.mktemp("widowx")
    with bridge(directory, f"task:={WIDOWX}", "answer_timeout_s:=3.0", namespace="/widowx") as client:
        yield client


def test_a_frame_comes_with_its_geometry_under_one_stamp(widowx: Commander) -> None:
    stamp = widowx.begin()
    widowx.base_T_ee(stamp)
    for topic in ("camera/camera_info", "joint_states"):
        widowx.wait(lambda topic=topic: stamp in widowx.stamps(topic), topic)
    assert widowx.last("joint_states").name == ["waist", "left_finger"]
    assert widowx.last("instruction").data == "put the spoon on the towel"
    at = Time(nanoseconds=stamp)
    transform = widowx.buffer.lookup_transform("camera_optical_frame", "gripper_tcp", at).transform
    ((u, v),) = project(
        camera_from_info(widowx.last("camera/camera_info")), matrix_from_transform(transform)[None, :3, 3]
    )
    rows, columns = np.nonzero((rgb_from_image(widowx.last("camera/image_raw")) == (255, 0, 0)).all(2))
    assert abs(columns.mean() - u) < 1.0 and abs(rows.mean() - v) < 1.0


def test_lockstep_carries_out_exactly_what_was_commanded_after_the_chunk(widowx: Commander) -> None:
    first = widowx.begin()
    start = widowx.tool_m(first)
    widowx.send((0.0, 0.5, 0.0), at_ns=first)  # of the row before: stamped at the frame, but made before its chunk
    widowx.gripper.publish(Float64MultiArray(data=[0.0]))
    second = widowx.answer((0.1, 0.0, -0.1), opening=1.0)
    assert second - first == 200_000_000
    assert np.allclose(widowx.tool_m(second) - start, (0.02, 0.0, -0.02), atol=1e-6)
    widowx.wait(lambda: stamp_ns(widowx.last("joint_states").header.stamp) == second, "joint states")
    assert widowx.last("joint_states").position[1] == 1.0  # open, not closed as the early command said


def test_a_zero_twist_without_a_gripper_command_holds_still_for_a_step(widowx: Commander) -> None:
    first = widowx.begin()
    widowx.send((0.0, 0.0, 0.0), at_ns=widowx.think())
    widowx.wait(lambda: widowx.image_ns() > first, "the next frame")
    assert np.array_equal(widowx.tool_m(widowx.image_ns()), widowx.tool_m(first))


def test_a_frame_without_an_answer_comes_again_under_a_new_stamp(widowx: Commander) -> None:
    first = widowx.begin()
    widowx.wait(lambda: widowx.image_ns() > first, "the frame once more")
    assert widowx.image_ns() - first == 1_000_000
    assert widowx.episode()["steps"] == 0


def test_success_is_told_and_stays_with_its_episode(widowx: Commander) -> None:
    widowx.begin()
    number = widowx.episode()["episode"]
    for _ in range(5):  # 1 cm per step to the goal, then the gripper closes
        widowx.answer((0.05, 0.0, -0.05), opening=1.0)
    widowx.answer((0.0, 0.0, 0.0), opening=0.0)
    widowx.wait(lambda: widowx.episode()["steps"] == 6, "the report of the sixth step")
    assert widowx.last("simpler_bridge/success").data
    told = widowx.episode()
    assert (told["task"], told["robot"], told["steps"], told["episode"]) == (WIDOWX, "widowx", 6, number)
    assert told["stats"]["is_src_obj_grasped"] is True
    widowx.begin()
    widowx.wait(lambda: widowx.episode()["episode"] == number + 1, "the next episode")
    assert not widowx.last("simpler_bridge/success").data


def test_time_goes_on_over_a_reset(widowx: Commander) -> None:
    before, after = widowx.image_ns(), widowx.begin()
    assert after - before >= 10_000_000_000  # longer than any chunk


def test_the_episode_that_is_asked_for_is_the_one_that_runs(widowx: Commander) -> None:
    stamps = []
    for seed in (11, 11, 12):
        assert widowx.set_parameter("seed", seed).successful
        stamps.append(widowx.begin())
        widowx.wait(lambda seed=seed: widowx.episode()["seed"] == seed, "the seed")
    first, second, third = (widowx.tool_m(stamp) for stamp in stamps)
    assert np.array_equal(first, second) and not np.array_equal(first, third)


def test_a_step_without_a_commander_and_a_task_without_further_parts(widowx: Commander) -> None:
    widowx.begin()
    assert widowx.trigger("step").message.startswith("step 1 of")
    refused = widowx.trigger("advance")
    assert not refused.success and "no further part" in refused.message


def test_realtime_waits_for_nobody_and_a_server_that_dies_ends_the_node_with_one_line(tmp_path: Path) -> None:
    with bridge(tmp_path, f"task:={GOOGLE}", "step_mode:=realtime", namespace="/realtime") as client:
        first = client.image_ns()
        client.wait(lambda: client.image_ns() >= first + 2 * 333_333_333, "two further frames", client.process)
        stamps = [stamp_ns(message.clock) for message in client.heard["/clock"]]
        assert stamps == sorted(stamps)
        assert [b - a for a, b in itertools.pairwise(stamps) if 0 < b - a < 333_333_333], "clock between frames"
        client.server.kill()
        assert client.process.wait(TIMEOUT_S) == 1
        log = (tmp_path / "log").read_text()
        assert "SIMPLER's server does not answer 'step'" in log
        assert "Traceback" not in log


def test_the_last_episode_ends_the_node(tmp_path: Path) -> None:
    with served(tmp_path) as socket:
        values = (f"socket:={socket}", f"task:={GOOGLE}", "step_mode:=realtime", "real_time_factor:=20.0")
        words = [word for value in (*values, "max_steps:=4", "episodes:=2") for word in ("-p", value)]
        command = [sys.executable, "-m", "sqap_vla.nodes.simpler_bridge", "--ros-args", *words]
        result = subprocess.run(command, env=node_environment(), capture_output=True, text=True, timeout=TIMEOUT_S)
    assert result.returncode == 0, result.stderr
    assert "episode 2 (pick coke can): failure after 4 steps; 0 of 2 succeeded" in result.stderr


def test_without_a_server_the_node_does_not_start(tmp_path: Path) -> None:
    words = ["-p", f"socket:={tmp_path / 'nothing'}", "-p", "server_timeout_s:=1.0"]
    command = [sys.executable, "-m", "sqap_vla.nodes.simpler_bridge", "--ros-args", *words]
    result = subprocess.run(command, env=node_environment(), capture_output=True, text=True, timeout=TIMEOUT_S)
    assert result.returncode == 1
    assert "no SIMPLER server on" in result.stderr and "Traceback" not in result.stderr


# Actions


def test_a_twist_becomes_its_delta_with_the_rotation_as_a_vector() -> None:
    delta = np.array([0.01, -0.02, 0.03, 0.1, -0.2, 0.3])
    action = action_from_twist(twist_from_delta(delta, 0.2), 0.2, gripper=-1.0)
    assert np.allclose(action[:3], delta[:3])
    assert np.allclose(rotation_from_rotvec(action[3:6]), rotation_from_rpy(delta[3:]))
    assert action[6] == -1.0


def test_the_google_robots_gripper_is_relative_and_held() -> None:
    gripper = GoogleRobotGripperAction()
    assert [gripper.number(opening) for opening in (1.0, 1.0)] == [0.0, 0.0]  # the first is taken for the state
    closing = [gripper.number(0.0)] + [gripper.number(1.0) for _ in range(HOLD_STEPS - 1)]
    assert closing == [1.0] * HOLD_STEPS  # +1 closes; what is asked meanwhile waits
    assert gripper.number(1.0) == -1.0
    gripper.reset()
    assert gripper.number(0.0) == 0.0


def test_the_widowx_gripper_is_absolute() -> None:
    gripper = WidowXGripperAction()
    assert [gripper.number(opening) for opening in (1.0, 0.6, 0.5, 0.0)] == [1.0, 1.0, -1.0, -1.0]


def test_an_unknown_robot_is_refused() -> None:
    with pytest.raises(ValueError, match="google_robot, widowx"):
        make_gripper_action("panda")
