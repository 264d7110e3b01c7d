# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""`sqap-vla replay --live`: a bag through the policy as a process gives the same tokens and actions as offline."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rclpy
from episode import FRAMES, START_NS, bag, episode, garbage_at
from policy_client import ACTIVATE, CLEANUP, CONFIGURE, DEACTIVATE, PARAMETERS
from rcl_interfaces.srv import SetParameters
from rclpy.context import Context
from rclpy.node import Node
from rclpy.parameter import Parameter

from sqap_vla.cli import main
from sqap_vla.evaluation import messages
from sqap_vla.evaluation.bag_writer import write_bag
from sqap_vla.evaluation.step import read_steps
from sqap_vla.nodes.node_process import NodeProcess
from sqap_vla.nodes.spinning import spin_until

CONFIG = Path(__file__).parents[2] / "config" / "widowx.yaml"


class Replay:
    """The command line, with a checkpoint."""

    def __init__(self, checkpoint: Path, directory: Path) -> None:
        self.checkpoint, self.directory = checkpoint, directory

    def run(self, path: Path, mode: str, *more: str) -> int:
        """mode: offline or live, and the name of the report's directory."""
        arguments = ["replay", str(path), "--checkpoint", str(self.checkpoint), "--config", str(CONFIG), *more]
        return main([*arguments, "--out", str(self.directory / mode), *(["--live"] if mode == "live" else [])])

    def both(self, path: Path, *more: str) -> tuple[Path, Path]:
        assert [self.run(path, mode, *more) for mode in ("offline", "live")] == [0, 0]
        return self.directory / "offline", self.directory / "live"


@pytest.fixture
def replay(small_checkpoint: Path, tmp_path: Path) -> Replay:
    return Replay(small_checkpoint, tmp_path)


def same_steps(offline: Path, live: Path) -> bool:
    return (offline / "steps.csv").read_bytes() == (live / "steps.csv").read_bytes()


def skipped(out: Path) -> dict:
    return json.loads((out / "summary.json").read_text())["skipped"]


def test_live_is_offline_bit_for_bit_though_a_frame_is_garbage_and_one_comes_twice(replay: Replay, tmp_path: Path):
    """Raw images, transforms between the images' stamps, and a joint that tells its pose 400 times before the first."""
    elbow = [
        messages.transforms("/tf", "base_link", {"elbow": np.eye(4)}, START_NS + 150_000_000 + 100_000 * number)
        for number in range(400)
    ]
    made = episode(edit=garbage_at(2)) + elbow
    second = [message for message in made if message.topic == "/camera/image_raw"][4]
    twice = sorted([*made, replace(second, stamp_ns=second.stamp_ns + 1_000_000)], key=lambda message: message.stamp_ns)
    offline, live = replay.both(write_bag(tmp_path / "bag", twice), "--seed", "5")
    assert same_steps(offline, live)
    rows = list(read_steps(live / "steps.csv"))
    assert len(rows) == FRAMES - 1 and all(row.fallback == "" and row.pixel is not None for row in rows)
    assert skipped(live)["frames"] == skipped(offline)["frames"] == 2
    for out in (offline, live):
        assert "image_encoding" in json.dumps(skipped(out)) and "image_out_of_order" in json.dumps(skipped(out))


def test_a_policy_that_runs_is_used_where_it_is_set_up_alike_and_moves_nothing(
    replay: Replay, small_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    """Compressed images in sqlite3; options of the method are left unset on both sides."""
    parameters = {
        **{name: value for name, value in PARAMETERS.items() if name not in ("ddim_steps", "pruning_ratio")},
        "checkpoint": str(small_checkpoint),
        "unnorm_key": "bridge_orig",
        "use_sim_time": True,
        "dry_run": False,
        "image_topic": "/camera/image_raw",
        "image_transport": "compressed",
        "camera_info_topic": "/camera/camera_info",
        "sensor_reliability": "reliable",
    }
    path = bag(tmp_path / "bag", storage="sqlite3", transport="compressed")
    context = Context()
    rclpy.init(context=context, domain_id=int(os.environ["ROS_DOMAIN_ID"]))
    helper = Node("helper", context=context)
    try:
        with NodeProcess("policy", "policy", parameters, log=tmp_path / "log") as policy:
            policy.transition(helper, CONFIGURE, ACTIVATE)
            assert replay.run(path, "live") == 1
            told = capsys.readouterr().err
            assert "the running policy is set up differently: dry_run is False there, True here." in told
            policy.transition(helper, DEACTIVATE, CLEANUP)
            client = helper.create_client(SetParameters, "policy/set_parameters")
            future = client.call_async(
                SetParameters.Request(parameters=[Parameter("dry_run", value=True).to_parameter_msg()])
            )
            assert spin_until(helper, future.done, 30.0) and future.result().results[0].successful
            policy.transition(helper, CONFIGURE, ACTIVATE)
            offline, live = replay.both(path)
            assert same_steps(offline, live)
            assert policy.alive
    finally:
        helper.destroy_node()
        rclpy.shutdown(context=context)
