# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""kill -9 of each node once, started again at once, while DDS still lists the dead one."""

from __future__ import annotations

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

from kill_nodes import NODES, victims


def test_after_a_kill_the_others_live_no_command_is_left_over_and_the_node_comes_back():
    with victims() as made:
        for name in NODES:
            made.kill(name)
            made.check_commands()
