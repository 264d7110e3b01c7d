# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""`evaluate --ros`: episodes through tabletop, loader and policy as processes of their own, in real time."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

from sqap_vla.evaluation.evaluate import Evaluation, evaluate, read_episodes
from sqap_vla.nodes.ros_episodes import ros_episodes
from sqap_vla.training.shipped import SHIPPED_POLICY

STEPS = 12


def test_episodes_run_through_the_nodes_and_a_second_start_goes_on(tmp_path: Path):
    def asked(episodes: int) -> Evaluation:
        return Evaluation(str(SHIPPED_POLICY), task="drawer", episodes=episodes, seed=7, max_steps=STEPS, ros=True)

    summary = evaluate(asked(2), tmp_path, run=ros_episodes)
    results = read_episodes(tmp_path)
    assert [result.seed for result in results] == [7, 8] and summary["ros"]
    for result in results:
        assert result.family == "drawer" and "drawer" in result.instruction
        assert 1 <= result.steps <= STEPS and result.seconds == pytest.approx(0.2 * result.steps)
        assert result.path_m > 0.01, "the arm moved"
        assert 0 < result.latency_ms < 1e4

    def none_are_left(question: Evaluation, seeds: list[int], workers: int):
        assert not seeds
        return iter(())

    evaluate(asked(2), tmp_path, run=none_are_left)
    with pytest.raises(ValueError, match="differs in ros"):
        evaluate(Evaluation(str(SHIPPED_POLICY), task="drawer", seed=7, max_steps=STEPS), tmp_path)


def test_several_at_once_are_refused_since_they_would_slow_each_other():
    with pytest.raises(ValueError, match="2 workers with --ros"):
        next(ros_episodes(Evaluation(str(SHIPPED_POLICY), ros=True), [0], workers=2))
