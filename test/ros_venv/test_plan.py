# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The builder's decisions for every kind of machine, without making a venv."""

from __future__ import annotations

from pathlib import Path

import pytest
from ros_venv.plan import OPENCV_FOR_NUMPY_1, Machine, Plan, PlanError, make_plan, sourced_numpy
from ros_venv.probe import look

REQUIREMENTS = Path(__file__).resolve().parents[2] / "docker" / "ros_venv" / "requirements"
SOURCED = {
    "ros_distro": "jazzy",
    "ament_prefix_path": "/opt/ros/jazzy",
    "rclpy": "/opt/ros/jazzy/lib/python3.12/site-packages/rclpy/__init__.py",
    "numpy": "1.26.4",
}


def _plan(*python: int, **facts: str) -> Plan:
    return make_plan(Machine(python, **facts), REQUIREMENTS)


def _words(plan: Plan) -> str:
    return " ".join(word for arguments in plan.installs for word in arguments)


@pytest.mark.parametrize("python", [(3, 11), (3, 12), (3, 13)])
def test_without_ros_it_comes_from_wheels_and_is_completed(python: tuple[int, int]) -> None:
    plan = _plan(*python)
    assert (plan.mode, plan.system_site_packages, plan.shims) == ("wheels", False, True)
    assert "ros.txt" in plan.requirements and "ros.txt" in _words(plan)
    assert "numpy.txt" in _words(plan)


def test_torch_is_installed_before_whatever_asks_for_it() -> None:
    for plan in (_plan(3, 12), _plan(3, 12, **SOURCED)):
        assert "torch.txt" in " ".join(plan.installs[0])
        assert "python.txt" not in " ".join(plan.installs[0])


def test_a_sourced_ros_is_used_as_it_is() -> None:
    plan = _plan(3, 12, **SOURCED)
    assert (plan.mode, plan.system_site_packages, plan.shims) == ("sourced", True, False)
    assert "ros.txt" not in _words(plan) and "ros.txt" not in plan.requirements
    assert "numpy.txt" not in _words(plan)


@pytest.mark.parametrize(
    ("sourced", "numpy", "opencv"),
    [
        ("1.26.4", "numpy==1.26.4", OPENCV_FOR_NUMPY_1),
        ("1.26.5", "numpy==1.26.5", OPENCV_FOR_NUMPY_1),
        ("1.21.5", "numpy==1.26.4", OPENCV_FOR_NUMPY_1),  # older than the pinned SciPy can use, still NumPy 1
        ("2.1.0", "numpy==2.1.0", "opencv-python-headless==4.14.0.94"),
    ],
)
def test_numpy_stays_on_the_line_the_sourced_ros_was_compiled_for(sourced: str, numpy: str, opencv: str) -> None:
    assert sourced_numpy(sourced) == (numpy, opencv)
    words = _words(_plan(3, 12, **{**SOURCED, "numpy": sourced})).split()
    assert words.count(numpy) == 2, "torch must not bring another NumPy either"
    assert opencv in words


def test_pinocchio_comes_from_wheels_only_where_their_numpy_is() -> None:
    assert "pinocchio.txt" in _words(_plan(3, 12))
    assert "pinocchio.txt" in _words(_plan(3, 12, **{**SOURCED, "numpy": "2.1.0"}))
    assert "pinocchio.txt" not in _words(_plan(3, 12, **SOURCED))


def test_opencv_for_numpy_1_is_older_than_the_first_that_needs_numpy_2() -> None:
    version = OPENCV_FOR_NUMPY_1.split("==")[1]
    assert tuple(map(int, version.split(".")[:2])) < (4, 12)


def test_a_sourced_ros_of_another_python_is_named_with_the_remedy() -> None:
    with pytest.raises(PlanError, match="PYTHON=/usr/bin/python3"):
        _plan(3, 11, **{**SOURCED, "rclpy": ""})


def test_an_rclpy_that_is_found_but_built_for_another_python_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rclpy").mkdir()
    (tmp_path / "rclpy" / "__init__.py").write_text("raise ImportError('no _rclpy_pybind11 for this Python')\n")
    monkeypatch.setenv("ROS_DISTRO", "jazzy")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert look().rclpy == ""


def test_a_python_without_wheels_is_refused_with_the_known_ones() -> None:
    with pytest.raises(PlanError, match=r"3\.9 is not supported.*3\.11, 3\.12, 3\.13"):
        _plan(3, 9)


def test_a_further_index_is_asked_for_torch_alone() -> None:
    plan = _plan(3, 12, torch_index="https://example.org/whl")
    assert "https://example.org/whl" in plan.installs[0]
    assert "https://example.org/whl" not in plan.installs[1]


@pytest.mark.parametrize("facts", [{}, SOURCED, {**SOURCED, "numpy": "2.1.0"}])
def test_every_requirement_file_of_a_plan_is_there(facts: dict[str, str]) -> None:
    plan = _plan(3, 12, **facts)
    assert all((REQUIREMENTS / name).is_file() for name in plan.requirements)
    assert all(name in _words(plan) for name in plan.requirements)


def test_every_requirement_is_pinned() -> None:
    for file in REQUIREMENTS.glob("*.txt"):
        for line in file.read_text(encoding="utf-8").splitlines():
            assert line.startswith("#") or line.count("==") == 1, f"{file.name}: {line}"
