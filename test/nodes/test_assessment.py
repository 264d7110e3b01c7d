# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""From the policy's figures to levels and sentences (REP-107): each state an operator must tell apart."""

from __future__ import annotations

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

from sqap_vla.nodes.assessment import ERROR, OK, PARTS, STALE, WARN, Thresholds, assess, unknown

THRESHOLDS = Thresholds(max_input_age_s=1.0, max_latency_ms=200.0, max_rss_mb=4000.0)
GOOD = {
    "input/image_rate_hz": "9.98",
    "input/image_arrival_age_s": "0.08",
    "input/image_publishers": "1",
    "input/camera_info_arrival_age_s": "0.08",
    "input/camera_info_publishers": "1",
    "input/last_rejection": "",
    "inference/chunks": "20",
    "inference/last_error": "",
    "inference/total_ms_p50": "80.2",
    "inference/total_ms_p95": "120.4",
    "tokens/kept": "154",
    "tokens/kept_ring": "25",
    "tokens/kept_attention": "38",
    "tokens/kept_fps": "91",
    "tokens/kept_other": "0",
    "tokens/fallback": "",
    "command/stop_reason": "",
    "command/row": "2",
    "command/dry_run": "false",
    "memory/rss_mb": "900",
    "model/checkpoint": "/models/tiny",
    "model/device": "cpu",
}


def judged(part: str, **changes: str | None) -> tuple[bytes, str]:
    """Level and text of a part; changes by figure, __ for /, None to leave a figure out."""
    edits = {name.replace("__", "/", 1): value for name, value in changes.items()}
    values = {name: value for name, value in {**GOOD, **edits}.items() if value is not None}
    (status,) = [status for status in assess(values, THRESHOLDS) if status.name == f"sqap_vla: {part}"]
    return status.level, status.message


def test_all_is_well():
    assert {status.name: status.level for status in assess(GOOD, THRESHOLDS)} == {f"sqap_vla: {p}": OK for p in PARTS}


def test_every_part_carries_its_own_figures_and_no_others():
    for status in assess(GOOD, THRESHOLDS):
        group = PARTS[status.name.removeprefix("sqap_vla: ")]
        expected = {key.split("/", 1)[1]: value for key, value in GOOD.items() if key.startswith(group + "/")}
        assert {pair.key: pair.value for pair in status.values} == expected


@pytest.mark.parametrize(
    "part, changes, level, text",
    [
        ("inputs", {}, OK, "image at 10.0 Hz"),
        ("inputs", {"input__image_arrival_age_s": "1.4"}, ERROR, "image: stale for 1.4 s"),
        ("inputs", {"input__image_arrival_age_s": None}, ERROR, "image: nothing received"),
        (
            "inputs",
            {"input__image_arrival_age_s": "9.0", "input__image_publishers": "0"},
            ERROR,
            "image: no publisher",
        ),
        (
            "inputs",
            {"input__image_publishers": "2", "input__image_topic": "/front/image"},
            WARN,
            "image: 2 publishers on /front/image",
        ),
        ("inputs", {"input__camera_info_arrival_age_s": "5"}, WARN, "camera_info: stale for 5.0 s"),
        ("inputs", {"input__camera_info_arrival_age_s": None}, WARN, "camera_info: nothing received"),
        (
            "inputs",
            {"input__camera_info_arrival_age_s": None, "input__camera_info_publishers": "0"},
            WARN,
            "camera_info: no publisher",
        ),
        (
            "inputs",
            {"input__image_arrival_age_s": "2", "input__camera_info_arrival_age_s": "2"},
            ERROR,
            "image: stale for 2.0 s; camera_info: stale for 2.0 s",
        ),
        ("inputs", {"input__last_rejection": "image_layout"}, ERROR, "frames refused: image_layout"),
        ("transforms", {}, OK, "end-effector and camera known at the image's stamp"),
        ("transforms", {"tf__warning/camera_transform_stale": "x"}, WARN, "camera_transform_stale"),
        ("transforms", {"tf__warning/camera_info_missing": "x"}, WARN, "camera_info_missing"),
        (
            "transforms",
            {"tf__warning/ee_transform_missing": "x", "tf__warning/camera_transform_missing": "x"},
            ERROR,
            "camera_transform_missing; ee_transform_missing: no commands",
        ),
        ("inference", {}, OK, "p50 80 ms, p95 120 ms"),
        ("inference", {"inference__total_ms_p95": "201"}, WARN, "p50 80 ms, p95 201 ms: over 200 ms"),
        ("inference", {"inference__chunks": "0"}, WARN, "no chunk yet"),
        ("inference", {"inference__last_error": "RuntimeError: x"}, ERROR, "inference failed: RuntimeError: x"),
        (
            "inference",
            {"inference__chunks": "0", "inference__last_error": "E: x"},
            ERROR,
            "inference failed: E: x",
        ),
        ("tokens", {}, OK, "154 tokens kept: ring 25, attention 38, farthest points 91, other 0"),
        (
            "tokens",
            {"tokens__fallback": "no_camera_info"},
            WARN,
            "154 tokens kept, without camera geometry: no_camera_info",
        ),
        ("tokens", {"tokens__kept": None}, WARN, "no chunk yet"),
        ("commands", {}, OK, "following row 2 of the chunk"),
        ("commands", {"command__dry_run": "true"}, OK, "following row 2 of the chunk (dry run)"),
        ("commands", {"command__stop_reason": "chunk_too_old"}, WARN, "stopped: chunk_too_old"),
        ("memory", {}, OK, "900 MB resident"),
        ("memory", {"memory__rss_mb": "4001"}, WARN, "4001 MB resident"),
        ("memory", {"memory__gpu_allocated_mb": "77"}, OK, "900 MB resident, 77 MB on the GPU"),
        (
            "memory",
            {"memory__gpu_allocated_mb": "77", "memory__gpu_utilization_percent": "41"},
            OK,
            "900 MB resident, 77 MB on the GPU, which is busy 41 % of the time",
        ),
        (
            "model",
            {"model__precision": "w4a4 224 layers", "model__decoder_mb": "3.4", "model__decoder_bf16_mb": "13.0"},
            OK,
            "/models/tiny on cpu, w4a4 224 layers, 3.4 of 13.0 MB",
        ),
        ("model", {}, OK, "/models/tiny on cpu"),
        ("model", {"model__checkpoint": None}, WARN, "no model loaded"),
    ],
)
def test_each_state_has_its_level_and_sentence(part: str, changes: dict[str, str | None], level: bytes, text: str):
    assert judged(part, **changes) == (level, text)


def test_no_figures_at_all_are_no_crash():
    levels = {status.name.removeprefix("sqap_vla: "): status.level for status in assess({}, THRESHOLDS)}
    assert levels["inputs"] == ERROR and levels["inference"] == levels["tokens"] == levels["model"] == WARN


def test_a_silent_policy_makes_every_part_stale():
    statuses = unknown("the policy has been silent for 3.2 s")
    assert {status.name.removeprefix("sqap_vla: ") for status in statuses} == {"policy", *PARTS}
    assert all(status.level == STALE and "3.2 s" in status.message for status in statuses)


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan")])
def test_thresholds_must_be_positive(value: float):
    with pytest.raises(ValueError, match=r"max_latency_ms is .*must be above 0"):
        Thresholds(max_input_age_s=1.0, max_latency_ms=value, max_rss_mb=1.0)


@pytest.mark.parametrize(
    "busy_s, p95_ms, level",
    [("1.9", None, WARN), ("2.1", None, ERROR), ("2.1", "900.0", WARN), ("9.1", "900.0", ERROR)],
)
def test_an_inference_that_does_not_end_is_an_error(busy_s: str, p95_ms: str | None, level: bytes):
    chunks = "0" if p95_ms is None else "20"
    changes = {"inference__busy_s": busy_s, "inference__total_ms_p95": p95_ms, "inference__chunks": chunks}
    found, text = judged("inference", **changes)
    assert found == level
    assert ("does the device hang" in text) == (level == ERROR)
