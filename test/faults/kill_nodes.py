# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""kill -9 of the three nodes at random moments, again and again, while a robot of messages watches what comes out.

    .venv/bin/python test/faults/kill_nodes.py --kills 100

After each kill: the others live; where the policy was killed, no command comes any more, and it is started, configured
and activated again until it moves; where another one was, commands go on meanwhile. The longest silence of the twist is
measured, and every command is held against the limits.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "nodes")]
os.environ.setdefault("ROS_DOMAIN_ID", "98")
os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")

from lifecycle_msgs.msg import Transition
from policy_client import PARAMETERS, Robot, velocity

from sqap_vla.cogact.random_checkpoint import write_random_checkpoint
from sqap_vla.nodes.node_process import NodeFailed, NodeProcess
from sqap_vla.nodes.spinning import spin_until

NODES = ("model_loader", "policy", "diagnostics")
NAMESPACE = "/killed"


class Victims:
    """The three nodes as processes, and a robot that feeds the policy."""

    def __init__(self, checkpoint: Path, directory: Path) -> None:
        self.robot = Robot(NAMESPACE)
        self._directory = directory
        self._parameters = {
            "model_loader": {"checkpoint": str(checkpoint), "artifact_dir": str(directory / "artifact")},
            "policy": {**PARAMETERS, "checkpoint": "", "manifest_timeout_s": 60.0},
            "diagnostics": {},
        }
        self.processes: dict[str, NodeProcess] = {}
        self._starts = 0
        for name in NODES:
            self.start(name)

    def start(self, name: str) -> None:
        """Until it is active; the policy until it moves."""
        self._starts += 1
        log = self._directory / f"{self._starts:03d}_{name}.log"
        process = NodeProcess(name, name, self._parameters[name], log=log, remap={"__ns": NAMESPACE})
        self.processes[name] = process
        try:
            process.transition(self.robot.node, Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE)
        except NodeFailed:
            sys.stderr.write(log.read_text(errors="replace"))
            raise
        if name == "policy":
            self.robot.forget()
            self.robot.wait(self.robot.moves, "motion")

    def kill(self, name: str) -> dict[str, float]:
        """What was seen of it."""
        robot, process = self.robot, self.processes[name]
        os.kill(process.pid, signal.SIGKILL)
        process.stop()
        others = [other for other in NODES if other != name and not self.processes[other].alive]
        assert not others, f"{name} was killed, and {others} ended"
        twists = robot.heard["dry_run/twist"]
        spin_until(robot.node, lambda: False, 0.3)  # what was on its way
        before = len(twists)
        spin_until(robot.node, lambda: False, 1.0)
        came = len(twists) - before
        if name == "policy":
            assert came == 0, f"{came} commands after the policy was killed"
        started_s = time.monotonic()
        self.start(name)
        return {"commands_meanwhile": came, "restart_s": time.monotonic() - started_s}

    def check_commands(self) -> None:
        """Every command since the last time was finite and within the limits."""
        for msg in self.robot.heard["dry_run/twist"]:
            speed = np.array(velocity(msg))
            assert np.isfinite(speed).all() and np.linalg.norm(speed[:3]) <= 0.2 + 1e-9, speed
        self.robot.forget()

    def close(self) -> None:
        for process in self.processes.values():
            process.stop()
        self.robot.close()


@contextmanager
def victims() -> Iterator[Victims]:
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        checkpoint = write_random_checkpoint(Path(directory) / "checkpoint", seed=1)
        made = Victims(checkpoint, Path(directory))
        stack.callback(made.close)
        yield made


def kill_at_random(made: Victims, kills: int, seed: int, report: bool = False) -> dict[str, object]:
    """Raises AssertionError where something does not go on."""
    rng = np.random.default_rng(seed)
    counts: Counter[str] = Counter()
    restarts_s: dict[str, list[float]] = {name: [] for name in NODES}
    silent = 0
    for number in range(kills):
        spin_until(made.robot.node, lambda: False, float(rng.uniform(0.0, 2.0)))
        name = NODES[int(rng.integers(3))]
        seen = made.kill(name)
        made.check_commands()
        counts[name] += 1
        restarts_s[name].append(seen["restart_s"])
        silent += name != "policy" and seen["commands_meanwhile"] == 0
        if report:
            sys.stderr.write(f"{number + 1}/{kills} {name}: {seen}\n")
    return {
        "kills": dict(counts),
        "times_without_commands_while_another_node_was_down": silent,
        "restart_s_median": {name: round(float(np.median(times)), 1) for name, times in restarts_s.items() if times},
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    started_s = time.monotonic()
    with victims() as made:
        result = kill_at_random(made, args.kills, args.seed, report=True)
    result["seconds"] = round(time.monotonic() - started_s, 1)
    sys.stdout.write(json.dumps(result, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
