# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""A robot has no simulator: what runs there must not import one."""

from __future__ import annotations

import subprocess
import sys

import pytest

WITHOUT_SIMULATOR = """
import importlib, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("mujoco", "gymnasium"):
            raise ImportError(f"{name} is not installed")

sys.meta_path.insert(0, Blocked())
"""


def run_without_simulator(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", WITHOUT_SIMULATOR + code], capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("command", ["replay", "compress", "inspect", "compare", "bench", "doctor"])
def test_a_command_for_robots_needs_no_simulator(command: str):
    done = run_without_simulator(f"from sqap_vla.cli import main\nmain([{command!r}, '--help'])")
    assert done.returncode == 0, done.stderr
    assert f"sqap-vla {command}" in done.stdout


def test_the_nodes_of_a_robot_need_no_simulator():
    nodes = ["policy", "model_loader", "diagnostics", "simpler_bridge"]
    done = run_without_simulator(f"for name in {nodes}: importlib.import_module('sqap_vla.nodes.' + name)")
    assert done.returncode == 0, done.stderr


def test_the_block_blocks():
    assert "mujoco is not installed" in run_without_simulator("import sqap_vla.sim").stderr
