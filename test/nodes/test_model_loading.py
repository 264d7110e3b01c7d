# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""What opening the model does to the process around it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

pytest.importorskip("rclpy", reason="needs ROS 2")

from sqap_vla.nodes.model_loading import load_engine
from sqap_vla.nodes.parameter_files import build, read_parameter_file
from sqap_vla.nodes.policy_parameters import PolicyParameters
from sqap_vla.training.shipped import SHIPPED_POLICY

TABLETOP = Path(__file__).parents[2] / "config" / "tabletop.yaml"


@pytest.mark.parametrize(("asked", "gets"), [(1, 1), (3, 3), (0, 2)])
def test_the_network_gets_the_cpu_threads_that_were_asked_for(asked: int, gets: int):
    values = read_parameter_file(TABLETOP, "policy") | {"checkpoint": str(SHIPPED_POLICY), "cpu_threads": asked}
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        load_engine(build(PolicyParameters, values | {"method": "dense"}, str(TABLETOP)))
        assert torch.get_num_threads() == gets
    finally:
        torch.set_num_threads(before)
