# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""What the policy tells about itself: status, step reports, the overlay, timings, parameters and their descriptions."""

from __future__ import annotations

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from policy_client import HEIGHT, RGB, WIDTH, Robot
from rcl_interfaces.srv import DescribeParameters, GetParameters, ListParameters
from rclpy.parameter import parameter_value_to_python
from sensor_msgs.msg import Image
from std_msgs.msg import Float32, String

from sqap_vla.evaluation.step_json import step_from_json
from sqap_vla.nodes import qos
from sqap_vla.nodes.conversions import rgb_from_image, stamp_ns
from sqap_vla.nodes.parameter_files import RCLPY_PARAMETERS
from sqap_vla.pruning.overlay import auto_scale, draw_overlay
from sqap_vla.pruning.selection import Reason


@pytest.fixture(autouse=True)
def running(robot: Robot) -> None:
    robot.start()


def test_the_overlay_comes_when_asked_for_and_shows_the_step(robot: Robot):
    overlays = robot.listen(Image, "debug/overlay", qos.debug())
    steps = robot.listen(String, "debug/step")

    def pair() -> tuple[Image, str] | None:
        by_stamp = {step_from_json(msg.data).stamp_ns: msg.data for msg in steps}
        pairs = [(msg, by_stamp[at]) for msg in overlays if (at := stamp_ns(msg.header.stamp)) in by_stamp]
        return pairs[-1] if pairs else None

    robot.wait(pair, "a step and its overlay")
    msg, text = pair()
    step = step_from_json(text)
    scale = auto_scale(WIDTH)
    assert (msg.encoding, msg.header.frame_id, msg.width) == ("rgb8", "camera", scale * WIDTH)
    picture = rgb_from_image(msg)
    expected = draw_overlay(RGB, step.selection, step.ring, ["", ""])
    assert picture.shape == expected.shape and msg.height > scale * HEIGHT, "a panel is below the frame"
    np.testing.assert_array_equal(picture[: scale * HEIGHT], expected[: scale * HEIGHT])


def test_a_step_report_is_the_chunk_with_its_tokens_and_geometry(robot: Robot):
    steps = robot.listen(String, "debug/step")
    robot.more("debug/step", 3)
    step = step_from_json(steps[-1].data)
    counts = step.selection.counts()
    assert sum(counts.values()) == 154 and counts[Reason.RING] == 25
    assert step.ring.pixel == pytest.approx((32.0, 24.0)) and step.fallback == ""
    assert (step.image_size, step.instruction) == ((WIDTH, HEIGHT), "pick up the red cube")
    robot.wait(
        lambda: any(list(msg.data) == step.actions.ravel().tolist() for msg in robot.heard["chunk"]), "its chunk"
    )


@pytest.mark.parametrize(
    "name, low, high",
    [
        ("processing_time_ms", 0, 1e5),
        ("pipeline_latency_ms", 0, 1e5),
        ("node_time_ms", 0, 1e4),
        ("token_keep_ratio", 0.6015, 0.6016),
    ],
)
def test_the_scalars(robot: Robot, name: str, low: float, high: float):
    values = robot.listen(Float32, f"debug/{name}", qos.debug())
    robot.more(f"debug/{name}")
    assert low < values[-1].data < high


def test_the_status_beats_and_holds_every_figure(robot: Robot):
    robot.wait(lambda: int(robot.values().get("inference/chunks", "0")) > 3, "chunks are counted")
    robot.more("status", 2)
    status, values = robot.heard["status"][-1], robot.values()
    assert (status.name, status.level, status.message) == ("sqap_vla: policy", DiagnosticStatus.OK, "active")
    expected = {
        "model/method": "sqap",
        "model/device": "cpu",
        "command/dry_run": "true",
        "command/stop_reason": "",
        "input/instruction": "pick up the red cube",
        "input/last_rejection": "",
        "inference/last_error": "",
        "tokens/kept": "154",
        "tokens/kept_ring": "25",
        "tokens/kept_other": "0",
        "tokens/fallback": "",
        "input/image_topic": "/shared/image",
        "input/image_publishers": "1",
    }
    assert {name: values[name] for name in expected} == expected
    for name in ("image", "camera_info"):
        assert float(values[f"input/{name}_rate_hz"]) > 1.0
        assert float(values[f"input/{name}_arrival_age_s"]) < 5.0
    for stage in ("preprocess", "vision", "llm", "head", "total", "pipeline"):
        p50, p95, p99 = (float(values[f"inference/{stage}_ms_{p}"]) for p in ("p50", "p95", "p99"))
        assert 0.0 <= p50 <= p95 <= p99
    assert float(values["memory/rss_mb"]) > 50
    assert values["model/precision"] == "w4a4 56 layers" and values["model/backend"]
    assert float(values["model/decoder_mb"]) < 0.3 * float(values["model/decoder_bf16_mb"])
    assert values["command/row"].isdigit()


def test_all_values_are_told_at_once_also_where_some_are_unset(robot: Robot):
    """As `ros2 param dump` and parameter panels ask; rclpy answers nothing where one is typed and unset."""
    names = robot.call(ListParameters, "list_parameters", ListParameters.Request()).result.names
    values = robot.call(GetParameters, "get_parameters", GetParameters.Request(names=names)).values
    told = dict(zip(names, map(parameter_value_to_python, values), strict=True))
    assert told["layers_kept"] is None and told["limits.max_linear_m_s"] == 0.2 and told["method"] == "sqap"


def test_every_parameter_is_described_and_numbers_have_ranges(robot: Robot):
    names = robot.call(ListParameters, "list_parameters", ListParameters.Request()).result.names
    names = [name for name in names if name not in RCLPY_PARAMETERS and not name.startswith("qos_overrides")]
    assert {"checkpoint", "dry_run", "limits.max_linear_m_s", "unnorm_key"} <= set(names)
    described = robot.call(
        DescribeParameters, "describe_parameters", DescribeParameters.Request(names=names)
    ).descriptors
    for descriptor in described:
        assert descriptor.description, descriptor.name
        if descriptor.type == 2:
            assert descriptor.integer_range, descriptor.name
        if descriptor.type == 3:
            assert descriptor.floating_point_range, descriptor.name


@pytest.mark.parametrize(
    "name, value",
    [
        ("dry_run", False),
        ("unnorm_key", "bridge_orig"),
        ("rate_hz", 5.0),
        ("base_frame", "world"),
        ("checkpoint", "/elsewhere"),
    ],
)
def test_what_is_fixed_while_configured_is_refused_with_the_way_out(robot: Robot, name: str, value: object):
    ((successful, reason),) = robot.set({name: value})
    assert not successful
    assert reason == f"{name} cannot change while the node is configured; clean it up, set, configure"


@pytest.mark.parametrize(
    "name, value, said",
    [
        ("method", "magic", "one of: dense, random"),
        ("dry_run", "no", "type"),
        ("rate_hz", 1000.0, "range"),
        ("score_layer", 3, "score_layer is 3"),
        ("nonsense", 1, ""),
    ],
)
def test_wrong_values_are_refused_with_their_reason(robot: Robot, name: str, value: object, said: str):
    ((successful, reason),) = robot.set({name: value})
    assert not successful and said in reason and reason
