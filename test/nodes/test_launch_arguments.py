# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""How launch files read their arguments."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("ament_index_python", reason="needs ROS 2")

from sqap_vla.nodes.launch_arguments import TABLETOP_CHECKPOINT, argument, boolean, need, number, parameter_file


def test_booleans_are_true_or_false_and_nothing_else():
    assert boolean("rviz", "True") and not boolean("rviz", "false")
    for text in ("", "1", "yes"):
        with pytest.raises(ValueError, match=f"rviz is '{text}'"):
            boolean("rviz", text)


def test_what_is_no_number_is_refused_by_its_argument():
    assert (number("seed", "-1"), number("real_time_factor", "0.5", float)) == (-1, 0.5)
    with pytest.raises(ValueError, match=r"seed is '1\.5'; it must be an integer"):
        number("seed", "1.5")
    with pytest.raises(ValueError, match="real_time_factor is 'fast'; it must be a number"):
        number("real_time_factor", "fast", float)


def test_a_parameter_file_is_a_path_or_a_preset(tmp_path: Path):
    own = tmp_path / "mine.yaml"
    own.touch()
    assert parameter_file(str(own)) == str(own)
    assert Path(parameter_file("widowx.yaml")).is_file()
    with pytest.raises(FileNotFoundError, match=r"'none.yaml' is neither none.yaml nor .*/config/none.yaml"):
        parameter_file("none.yaml")


def test_a_missing_package_is_told_with_the_command_that_installs_it():
    need("sqap_vla", "this test", "ros-jazzy-sqap-vla")
    with pytest.raises(RuntimeError, match="rviz:=true needs the ROS package no_such_viewer: sudo apt install a-b"):
        need("no_such_viewer", "rviz:=true", "a-b")


def test_an_argument_has_choices_only_where_there_are_some():
    assert argument("A number.", "1") == {"description": "A number.", "default_value": "1"}
    assert argument("One of two.", "a", ("a", "b"))["choices"] == ["a", "b"]
    assert Path(TABLETOP_CHECKPOINT["default_value"]).is_dir()
