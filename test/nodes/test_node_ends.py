# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""What ends a node's process, and what must not: a clock before 1970, a parent that is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

import rclpy
from builtin_interfaces.msg import Time
from rclpy.context import Context
from rclpy.node import Node
from rclpy.parameter import Parameter
from rosgraph_msgs.msg import Clock

from sqap_vla.nodes.clock_guard import ignore_impossible_clock
from sqap_vla.nodes.spinning import spin_until

PARENT = """
import sys, time
from pathlib import Path
from sqap_vla.nodes.node_process import NodeProcess
process = NodeProcess("diagnostics", "orphan", {}, log=Path(sys.argv[1]))
print(process._process.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def node() -> Iterator[Node]:
    context = Context()
    rclpy.init(context=context, domain_id=int(os.environ["ROS_DOMAIN_ID"]))
    node = Node("timed", context=context, namespace="/node_ends")
    yield node
    node.destroy_node()
    rclpy.shutdown(context=context)


@pytest.mark.parametrize("at_start", [True, False])
def test_a_clock_before_1970_is_dropped_and_the_node_lives_on(node: Node, at_start: bool):
    """Pinned: rclpy raised out of the executor, and every node that uses simulated time ended."""
    use_sim_time = [Parameter("use_sim_time", value=True)]
    if at_start:
        node.set_parameters(use_sim_time)
    ignore_impossible_clock(node)
    if not at_start:
        node.set_parameters(use_sim_time)
    publisher = node.create_publisher(Clock, "/clock", 10)
    spin_until(node, lambda: publisher.get_subscription_count() > 0, 10.0)
    for seconds in (-1, -(2**31), 7):
        publisher.publish(Clock(clock=Time(sec=seconds)))
        spin_until(node, lambda: False, 0.1)
    assert spin_until(node, lambda: node.get_clock().now().nanoseconds == 7_000_000_000, 10.0)


def test_a_node_whose_parent_is_killed_ends_by_itself(tmp_path: Path):
    """Pinned: a demo that was killed with -9 left its four nodes running."""
    log = tmp_path / "log"
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(log)], stdout=subprocess.PIPE, text=True)
    child = psutil.Process(int(parent.stdout.readline()))
    deadline_s = time.monotonic() + 60.0
    while len(child.threads()) < 4:  # DDS runs: it is past its imports
        assert time.monotonic() < deadline_s and child.is_running(), log.read_text()
        time.sleep(0.1)
    time.sleep(1.0)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    psutil.wait_procs([child], timeout=20.0)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
    assert "Traceback" not in log.read_text()
