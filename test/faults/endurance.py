# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The nodes over a long time: does anything grow, does a command come too late?

    .venv/bin/python test/faults/endurance.py soak --minutes 20      # the demo's closed loop, all four nodes
    .venv/bin/python test/faults/endurance.py images --minutes 5     # 1080p frames at 30 Hz, now and then one of 4K
    .venv/bin/python test/faults/endurance.py images --minutes 5 --size 640x480 --rate 5     # what ROS costs a frame

A command is late where the robot was moving and the next one came after more than 0.1 s, when MoveIt Servo halts it.
Memory is compared between the second tenth of the run and its last one.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import psutil

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "nodes")]
os.environ.setdefault("ROS_DOMAIN_ID", "97")
os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")

import rclpy
from geometry_msgs.msg import TwistStamped
from policy_client import ACTIVATE, CONFIGURE, PARAMETERS, Robot, policy_process, velocity
from rclpy.node import Node
from std_msgs.msg import Float32, String
from tqdm import tqdm

from sqap_vla.cogact.random_checkpoint import write_random_checkpoint
from sqap_vla.nodes import qos
from sqap_vla.nodes.conversions import image_from_rgb
from sqap_vla.nodes.demo import start_nodes
from sqap_vla.nodes.node_process import NodeProcess
from sqap_vla.nodes.spinning import spin_until

LATE_S = 0.1
SAMPLE_S = 2.0


class Commands:
    """Intervals between a command that moves and the one after it."""

    def __init__(self) -> None:
        self.intervals_s: list[float] = []
        self._moving_since_s: float | None = None

    def heard(self, msg: TwistStamped) -> None:
        now_s = time.monotonic()
        if self._moving_since_s is not None:
            self.intervals_s.append(now_s - self._moving_since_s)
        self._moving_since_s = now_s if any(velocity(msg)) else None

    def figures(self) -> dict[str, float]:
        milliseconds = 1e3 * np.array(self.intervals_s)
        quantiles = {"p50": 50, "p99": 99, "p99.9": 99.9, "max": 100}
        late = int((milliseconds > 1e3 * LATE_S).sum())
        return {
            "moving_commands": len(milliseconds),
            **{f"interval_ms_{name}": round(float(np.percentile(milliseconds, q)), 1) for name, q in quantiles.items()},
            "late": late,
            "late_share": round(late / max(len(milliseconds), 1), 5),
        }


class Growth:
    """Resident memory, open files and threads of processes over time."""

    def __init__(self, nodes: dict[str, NodeProcess]) -> None:
        self._processes = {name: psutil.Process(node.pid) for name, node in nodes.items()}
        self._samples: dict[str, list[tuple[float, int, int]]] = {name: [] for name in nodes}

    def sample(self) -> None:
        for name, process in self._processes.items():
            values = process.memory_info().rss / 1e6, process.num_fds(), process.num_threads()
            self._samples[name].append(values)

    def figures(self) -> dict[str, dict[str, list[float]]]:
        """[early, late] of each."""
        return {name: _early_and_late(np.array(samples)) for name, samples in self._samples.items()}


def _early_and_late(samples: np.ndarray) -> dict[str, list[float]]:
    tenth = max(len(samples) // 10, 1)
    early, late = (np.median(part, axis=0) for part in (samples[tenth : 2 * tenth], samples[-tenth:]))
    return {
        name: [round(float(early[column]), 1), round(float(late[column]), 1)]
        for column, name in enumerate(("rss_mb", "files", "threads"))
    }


def watch(node: Node, minutes: float, growth: Growth, alive: Callable[[], bool]) -> None:
    """Spins for so long. Raises AssertionError where a process ends."""
    end_s = time.monotonic() + 60 * minutes
    with tqdm(total=round(60 * minutes), unit="s", disable=None) as bar:
        while (left_s := end_s - time.monotonic()) > 0:
            spin_until(node, lambda: False, min(SAMPLE_S, left_s), step_s=0.01)
            assert alive(), "a node has ended"
            growth.sample()
            bar.update(round(60 * minutes - left_s) - bar.n)


def soak(minutes: float) -> dict[str, object]:
    """The built-in tabletop in closed loop, free-running, with the shipped policy in W4A4."""
    rclpy.init(signal_handler_options=rclpy.SignalHandlerOptions.NO)
    node, commands, episode = Node("endurance"), Commands(), {}
    node.create_subscription(TwistStamped, "policy/twist", commands.heard, qos.command())
    node.create_subscription(
        String, "tabletop/episode", lambda msg: episode.update(json.loads(msg.data)), qos.latched()
    )
    with tempfile.TemporaryDirectory() as out, ExitStack() as stack:
        asked = Namespace(out=Path(out), instruction="", family="any", seed=0, method="sqap")
        nodes = start_nodes(stack, asked, node)
        growth = Growth({process.name: process for process in nodes})
        watch(node, minutes, growth, lambda: all(process.alive for process in nodes))
        statuses = {process.name: process.stop() for process in reversed(nodes)}
    node.destroy_node()
    rclpy.try_shutdown()
    done = {"episodes": episode.get("episode"), "successes": episode.get("successes")}
    return {**commands.figures(), **done, "exit_status": statuses, "early_and_late": growth.figures()}


class RosPath:
    """What a chunk takes beside inference, until it is in the command timer's hands: from the image's stamp, and from
    the image's callback."""

    def __init__(self, node: Node, policy: str) -> None:
        self._values: dict[str, list[float]] = {"processing_time_ms": [], "pipeline_latency_ms": [], "node_time_ms": []}
        for name, values in self._values.items():
            topic = f"{policy}/debug/{name}"
            node.create_subscription(Float32, topic, lambda msg, values=values: values.append(msg.data), qos.debug())

    def figures(self) -> dict[str, float]:
        """Raises AssertionError where a message was lost: one would be set against another frame's."""
        inference, whole, node = self._values.values()
        counts = {len(values) for values in self._values.values()}
        assert len(counts) == 1 and 0 not in counts, f"{counts} messages"
        paths = {"from_stamp": np.array(whole) - np.array(inference), "from_callback": np.array(node)}
        return {
            f"{name}_ms_p{q}": round(float(np.percentile(values, q)), 2)
            for name, values in paths.items()
            for q in (50, 99)
        }


def images(minutes: float, rate_hz: float, width: int, height: int) -> dict[str, object]:
    """A policy with random weights, fed with what a camera sends; every 300th frame is one of 4K."""
    random = np.random.default_rng(0)
    usual = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
    big = random.integers(0, 256, (2160, 3840, 3), dtype=np.uint8)
    sent = {"frames": 0, "4k": 0}

    def bend(msg: object) -> object:
        sent["frames"] += 1
        now_and_then = sent["frames"] % 300 == 0
        sent["4k"] += now_and_then
        return image_from_rgb(big if now_and_then else usual, msg.header.stamp, msg.header.frame_id)

    robot, commands = Robot("/endurance"), Commands()
    with tempfile.TemporaryDirectory() as directory:
        checkpoint = write_random_checkpoint(Path(directory) / "checkpoint", seed=1)
        parameters = {**PARAMETERS, "checkpoint": str(checkpoint)}
        with policy_process(Path(directory) / "log", parameters, remap={"__ns": "/endurance"}) as robot.process:
            robot.node.create_subscription(TwistStamped, "policy/dry_run/twist", commands.heard, qos.command())
            path = RosPath(robot.node, "policy")
            robot.go(CONFIGURE, ACTIVATE)
            robot.bend["image"] = bend
            robot.node.destroy_timer(robot.camera)
            robot.camera = robot.node.create_timer(1.0 / rate_hz, robot.send_frame)
            growth = Growth({"policy": robot.process})

            def alive() -> bool:
                robot.heard["dry_run/twist"].clear()
                robot.heard["dry_run/target_pose"].clear()
                robot.heard["chunk"].clear()
                return robot.process.alive

            watch(robot.node, minutes, growth, alive)
            robot.more("status", 2)
            told = robot.values()
    robot.close()
    shown = ("inference/chunks", "input/frames_replaced", "input/image_rate_hz", "inference/preprocess_ms_p50")
    figures = {name: float(told[name]) for name in shown}
    return {**commands.figures(), **sent, **figures, **path.figures(), "early_and_late": growth.figures()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("soak", "images"))
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--size", default="1920x1080", help="of images, width x height")
    parser.add_argument("--rate", type=float, default=30.0, help="of images [Hz]")
    args = parser.parse_args()
    size = map(int, args.size.split("x"))
    result = soak(args.minutes) if args.what == "soak" else images(args.minutes, args.rate, *size)
    sys.stdout.write(json.dumps({"what": args.what, "minutes": args.minutes, **result}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
