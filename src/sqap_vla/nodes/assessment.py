# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""From the policy's figures to diagnostics: one status per part, with a level and a sentence (REP-107).

ERROR: no commands come out, or none can be trusted. WARN: the robot goes on, in a degraded mode. STALE: nothing is
known. The parts are always the same ones, whatever state the policy is in, so that an aggregator and a person can
rely on them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

OK, WARN, ERROR, STALE = (DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR, DiagnosticStatus.STALE)
FAULTS = ("inference_hung", "inference_dead", "command_refused", "invalid_end_effector_pose")  # stops for a broken part
HUNG = 10  # an inference that takes this many times the latency it may have, and has had
PARTS = {
    "inputs": "input",
    "transforms": "tf",
    "inference": "inference",
    "tokens": "tokens",
    "commands": "command",
    "memory": "memory",
    "model": "model",
}


@dataclass(frozen=True)
class Thresholds:
    max_input_age_s: float
    max_latency_ms: float
    max_rss_mb: float

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise ValueError(f"{name} is {value}; it must be above 0")


def assess(values: Mapping[str, str], thresholds: Thresholds) -> list[DiagnosticStatus]:
    """One status for each part of the policy, from its `group/name` figures."""
    judges = {
        "inputs": _inputs,
        "transforms": _transforms,
        "inference": _inference,
        "tokens": _tokens,
        "commands": _commands,
        "memory": _memory,
        "model": _model,
    }
    statuses = []
    for part, group in PARTS.items():
        own = {key.split("/", 1)[1]: value for key, value in values.items() if key.startswith(group + "/")}
        level, text = judges[part](own, thresholds)
        statuses.append(status(part, level, text, own))
    return statuses


def unknown(text: str) -> list[DiagnosticStatus]:
    """The policy and every part of it stale, for the reason given: the policy is silent."""
    return [status(part, STALE, text) for part in ("policy", *PARTS)]


def status(part: str, level: bytes, text: str, values: Mapping[str, str] | None = None) -> DiagnosticStatus:
    return DiagnosticStatus(
        name=f"sqap_vla: {part}",
        level=level,
        message=text,
        hardware_id="sqap_vla",
        values=[KeyValue(key=key, value=value) for key, value in sorted((values or {}).items())],
    )


def _number(values: Mapping[str, str], key: str, default: float = 0.0) -> float:
    text = values.get(key, "")
    return float(text) if text else default


def _inputs(values: Mapping[str, str], thresholds: Thresholds) -> tuple[bytes, str]:
    problems = []
    level = OK
    for name, worst in (("image", ERROR), ("camera_info", WARN)):
        age_s = _number(values, f"{name}_arrival_age_s", float("inf"))
        if age_s <= thresholds.max_input_age_s:
            continue
        level = max(level, worst)
        if values.get(f"{name}_publishers", "0") == "0":
            problems.append(f"{name}: no publisher")
        elif values.get(f"{name}_incompatible_qos", "0") != "0":
            problems.append(f"{name}: publisher with incompatible QoS")
        else:
            problems.append(f"{name}: " + ("nothing received" if age_s == float("inf") else f"stale for {age_s:.1f} s"))
    for name in ("image", "camera_info"):
        if _number(values, f"{name}_publishers") > 1:  # frames of two cameras would alternate
            level = max(level, WARN)
            problems.append(f"{name}: {values[f'{name}_publishers']} publishers on {values.get(f'{name}_topic', name)}")
    if values.get("instruction_incompatible_qos", "0") != "0":
        level = max(level, WARN)
        problems.append("instruction: publisher with incompatible QoS; it must be reliable")
    if values.get("last_rejection"):
        level = max(level, ERROR)
        problems.append(f"frames refused: {values['last_rejection']}")
    return level, "; ".join(problems) or f"image at {_number(values, 'image_rate_hz'):.1f} Hz"


def _transforms(values: Mapping[str, str], thresholds: Thresholds) -> tuple[bytes, str]:
    warnings = [key.removeprefix("warning/") for key in values if key.startswith("warning/")]
    if not warnings:
        return OK, "end-effector and camera known at the image's stamp"
    no_command = any(w.startswith("ee_") for w in warnings)
    return (ERROR if no_command else WARN), "; ".join(sorted(warnings)) + (": no commands" if no_command else "")


def _inference(values: Mapping[str, str], thresholds: Thresholds) -> tuple[bytes, str]:
    if values.get("last_error"):
        return ERROR, f"inference failed: {values['last_error']}"
    p50_ms, p95_ms = _number(values, "total_ms_p50"), _number(values, "total_ms_p95")
    busy_s = _number(values, "busy_s")
    if 1e3 * busy_s > HUNG * max(thresholds.max_latency_ms, p95_ms):
        return ERROR, f"one inference has been running for {busy_s:.1f} s; does the device hang?"
    if values.get("chunks", "0") == "0":
        return WARN, "no chunk yet"
    text = f"p50 {p50_ms:.0f} ms, p95 {p95_ms:.0f} ms"
    if p95_ms > thresholds.max_latency_ms:
        return WARN, f"{text}: over {thresholds.max_latency_ms:.0f} ms"
    return OK, text


def _tokens(values: Mapping[str, str], thresholds: Thresholds) -> tuple[bytes, str]:
    if "kept" not in values:
        return WARN, "no chunk yet"
    if values.get("fallback"):
        return WARN, f"{values['kept']} tokens kept, without camera geometry: {values['fallback']}"
    return OK, (
        f"{values['kept']} tokens kept: ring {values['kept_ring']}, attention {values['kept_attention']}, "
        f"farthest points {values['kept_fps']}, other {values['kept_other']}"
    )


def _commands(values: Mapping[str, str], thresholds: Thresholds) -> tuple[bytes, str]:
    stop, refusal = values.get("stop_reason", ""), values.get("last_refused_chunk", "")
    limits = ", ".join(
        f"{key.removeprefix('limit/')} {n}x" for key, n in sorted(values.items()) if key.startswith("limit/")
    )
    refused = f"; chunks refused: {refusal}" if refusal else ""
    if stop:
        broken = stop in FAULTS or refusal not in ("", "chunk_without_anchor")  # the latter is the transforms' error
        detail = f" ({values['stop_detail']})" if values.get("stop_detail") else ""
        return (ERROR if broken else WARN), f"stopped: {stop}{detail}{refused}"
    text = f"following row {values.get('row', '-')} of the chunk" + (
        " (dry run)" if values.get("dry_run") == "true" else ""
    )
    return (WARN if refusal else OK), text + refused + (f"; limits engaged: {limits}" if limits else "")


def _memory(values: Mapping[str, str], thresholds: Thresholds) -> tuple[bytes, str]:
    rss_mb = _number(values, "rss_mb")
    text = f"{rss_mb:.0f} MB resident"
    if "gpu_allocated_mb" in values:
        text += f", {values['gpu_allocated_mb']} MB on the GPU"
    if "gpu_utilization_percent" in values:
        text += f", which is busy {values['gpu_utilization_percent']} % of the time"
    return (WARN if rss_mb > thresholds.max_rss_mb else OK), text


def _model(values: Mapping[str, str], thresholds: Thresholds) -> tuple[bytes, str]:
    if "checkpoint" not in values:
        return WARN, "no model loaded"
    text = f"{values['checkpoint']} on {values['device']}"
    if "precision" in values:
        text += f", {values['precision']}, {values['decoder_mb']} of {values['decoder_bf16_mb']} MB"
    return OK, text
