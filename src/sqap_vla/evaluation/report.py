# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""report.md of a replay: the summary for people.

Made from summary.json's content alone, so the two cannot disagree.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqap_vla.evaluation.plots import STAGE_LABELS

CAVEAT = (
    "Open-loop error says how far the policy's actions are from the recorded ones on the recorded images. "
    "It correlates badly with success on the robot: the policy never sees the consequences of its own "
    "actions, several actions can be right where one was recorded, and a commanded delta is not the motion "
    "that followed. Compare methods and builds with these numbers; do not rank policies by them."
)
STAGE_NAMES = STAGE_LABELS | {"total_ms": "**total**", "wall_ms": "image in to chunk out"}
TOKEN_NAMES = {"fps": "farthest points"}  # the others are called as they are


def table(header: Sequence[str], rows: Iterable[Sequence[object]], align: str = "---:") -> str:
    """A Markdown table; the first column is aligned left, the others by `align`."""
    lines = [header, ["---", *[align] * (len(header) - 1)], *rows]
    return "\n".join(
        "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in line) + " |" for line in lines
    )


def number(value: float | int | None, digits: int = 2) -> str:
    """`value` with `digits` decimals, a dash where there is none."""
    if value is None:
        return "–"
    return str(value) if isinstance(value, int) else f"{value:.{digits}f}"


def render(summary: Mapping[str, Any]) -> str:
    """The report. summary: what ReplayRecorder.finish writes to summary.json."""
    sections = [
        f"# {'Episodes on' if summary['episodes'] else 'Replay of'} {summary['run']['bag']}",
        f"> **{summary['run']['note']}**" if summary["run"].get("note") else "",
        _run(summary),
        _tokens(summary),
        _latency(summary),
        _actions(summary),
        _gripper(summary),
        _caveat(summary),
        _environment(summary),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _run(summary: Mapping[str, Any]) -> str:
    run = summary["run"]
    rows: list[tuple[str, object]] = [
        ("method", run["method"]),
        *((name.replace("_", " "), value) for name, value in run["method_parameters"].items()),
        ("seed", run["seed"]),
        ("checkpoint", run["checkpoint"]),
        ("mode", run["mode"]),
        ("device", f"{run['device']}, {run['dtype']}" + (f", decoder {run['precision']}" if run["precision"] else "")),
        ("instruction", "; ".join(summary["instructions"]) or "–"),
        (
            "frames",
            f"{summary['frames']}" + ("" if summary["complete"] else " (stopped before the end of the bag)"),
        ),
        *([("episodes", summary["episodes"])] if summary["episodes"] else []),
        ("frames left out", _counts(summary["skipped"]["by_reason"])),
        ("fallbacks", _counts(summary["fallbacks"])),
        ("inputs with warnings", _counts(summary["warnings"])),
    ]
    parts = ["## Run", table(("", "value"), rows, align="---")]
    examples = summary["skipped"]["examples"]
    if examples:
        parts.append(
            "First frames left out:\n\n"
            + "\n".join(f"- {e['stamp_ns']}: {e['reason']}: {e['detail']}" for e in examples)
        )
    return "\n\n".join(parts)


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in counts.items()) or "none"


def _tokens(summary: Mapping[str, Any]) -> str:
    parts = ["## Visual tokens kept"]
    rows = [
        (TOKEN_NAMES.get(name, name), number(n["mean"], 1), n["min"], n["max"])
        for name, n in summary["tokens_kept"].items()
    ]
    parts.append(table(("per frame, of 256", "mean", "min", "max"), rows) if rows else "No frames.")
    pictures = summary["pictures"]
    if pictures["overlay_strip"]:
        title = f"Kept tokens on {len(pictures['strip_frames'])} evenly spaced frames"
        parts.append(f"![{title}]({pictures['overlay_strip']})")
    if pictures["overlay_video"]:
        video = pictures["overlay_video"]
        parts.append(f"All frames: [{video}]({video}) ({pictures['video_codec']})")
    return "\n\n".join(parts)


def _latency(summary: Mapping[str, Any]) -> str:
    latency, deadline = summary["latency"], summary["deadline"]
    rows = [
        (STAGE_NAMES[stage], p["count"], *(number(p[key], 1) for key in ("mean", "p50", "p95", "p99", "max")))
        for stage, p in latency["stages"].items()
        if p["count"]
    ]
    parts = [f"## Latency\n\nMilliseconds; frames left out at the start as warm-up: {latency['warm_up_frames']}."]
    if not rows:
        return "\n\n".join([*parts, "No frame was timed after the warm-up."])
    parts.append(table(("stage", "frames", "mean", "p50", "p95", "p99", "max"), rows))
    if deadline["count"]:
        parts.append(
            f"One step of the chunk lasts {deadline['step_ms']:.0f} ms: "
            f"{deadline['missed']} of {deadline['count']} inferences "
            f"({number(deadline['percent'], 1)} %) took longer."
        )
    if summary["pictures"]["latency"]:
        parts.append(f"![Latency per frame]({summary['pictures']['latency']})")
    return "\n\n".join(parts)


def _actions(summary: Mapping[str, Any]) -> str:
    picture = summary["pictures"]["actions"]
    if not _compared(summary):
        parts = ["## Actions", "No frame has a recorded action to compare with."]
        return "\n\n".join([*parts, f"![First action of each chunk, per dimension]({picture})"] if picture else parts)
    parts = ["## Difference to the recorded action", "First action of each chunk minus the recorded action."]
    rows = [
        (
            e["name"],
            e["unit"],
            e["frames"],
            *(number(e[key], 5) for key in ("mae", "rmse", "max_abs", "mean")),
        )
        for e in summary["action_error"]
    ]
    parts.append(table(("dimension", "unit", "frames", "MAE", "RMSE", "max", "mean (signed)"), rows))
    if picture:
        parts.append(f"![Predicted and recorded action, per dimension]({picture})")
    by_row = summary["error_by_chunk_row"]
    if len(by_row) > 1:
        parts.append("Later rows of the chunk, against the actions recorded at their time:")
        parts.append(
            table(
                ("row", "frames", "translation MAE [m]", "rotation MAE [rad]"),
                [
                    (
                        e["row"],
                        e["frames"],
                        number(e["translation_mae_m"], 5),
                        number(e["rotation_mae_rad"], 5),
                    )
                    for e in by_row
                ],
            )
        )
    return "\n\n".join(parts)


def _gripper(summary: Mapping[str, Any]) -> str:
    gripper = summary["gripper"]
    if not gripper["compared"]:
        return "## Gripper\n\nNo frame says whether the recorded gripper was open." if _compared(summary) else ""
    rows = [
        ("agree", gripper["agreed"]),
        ("predicted open, recorded closed", gripper["predicted_open_recorded_closed"]),
        ("predicted closed, recorded open", gripper["predicted_closed_recorded_open"]),
        ("not compared (nothing recorded, or no command yet)", gripper["not_compared"]),
    ]
    return (
        f"## Gripper\n\nAgreement {number(gripper['percent'], 1)} % of {gripper['compared']} frames, "
        f'recording read as `{summary["run"]["gripper_kind"]}`; a recorded "hold" keeps '
        "the state last commanded.\n\n" + table(("", "frames"), rows)
    )


def _caveat(summary: Mapping[str, Any]) -> str:
    return f"> **Read with care.** {CAVEAT}" if _compared(summary) else ""


def _compared(summary: Mapping[str, Any]) -> bool:
    """Whether any frame had a recorded action."""
    return any(error["frames"] for error in summary["action_error"]) or bool(summary["gripper"]["compared"])


def _environment(summary: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {value}" for name, value in summary["versions"].items())
    return f"## Environment\n\n{summary['hardware']}\n\n{versions}"
