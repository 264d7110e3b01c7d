# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Results of the bench as bench.json, bench.md and bench.png. What was not measured is null, "-", or left out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sqap_vla.evaluation.bench import STAGES, Bench, Measured
from sqap_vla.evaluation.bench_rows import EAGER, GRAPH
from sqap_vla.evaluation.plots import STAGE_COLORS, STAGE_LABELS, horizontal_stages

GB = 1e9
PAPER = "RTX 3090, from the paper: language model 2.56x, total 1.93x against the original, 14.3 -> 7.6 GB"


def document(bench: Bench, results: list[Measured], about: dict[str, Any]) -> dict[str, Any]:
    """JSON. Times in ms, memory in 1e9 bytes, BOPs in percent of dense fp16 (coarse convention)."""
    bases = {result.row.baseline: result for result in results if result.row.baseline}
    return {
        **about,
        "interleaved": bench.interleaved,
        "rounds": bench.plan.rounds,
        "rows": [_row(result, bases, bench.device.type) for result in results],
        "checks": [{"name": c.name, "passed": c.passed, "detail": c.detail} for c in bench.checks],
    }


def _row(result: Measured, bases: dict[str, Measured], device: str) -> dict[str, Any]:
    row = result.row

    def faster(than: str, column: str) -> float | None:
        base, own = bases.get(than), result.percentile(column, 50)
        reference = base.percentile(column, 50) if base is not None else None
        return reference / own if reference and own else None

    return {
        "name": row.name,
        "device": device,
        "method": row.method,
        "baseline": row.baseline or None,
        "precision": "w4a4" if row.quantized else str(row.dtype).removeprefix("torch."),
        "dtype": str(row.dtype).removeprefix("torch."),
        "graph": row.captured,
        "skipped": result.skipped or None,
        **{f"{stage}_ms_p50": result.percentile(stage, 50) for stage in STAGES},
        "select_ms": result.select_ms,
        **{f"total_ms_p{percent}": result.percentile("total", percent) for percent in (50, 95, 99)},
        "speedup_vs_eager": faster(EAGER, "total"),
        "speedup_vs_graph": faster(GRAPH, "total"),
        "llm_speedup_vs_eager": faster(EAGER, "llm"),
        "llm_speedup_vs_graph": faster(GRAPH, "llm"),
        "weights_gb": result.weights_bytes / GB or None,
        "peak_memory_gb": None if result.peak_bytes is None else result.peak_bytes / GB,
        "bops_percent": result.bops_coarse or None,
        "tokens_kept": result.kept or None,
        "cold_start_ms": result.cold_start_ms or None,
        "batch_ms": {str(batch): value for batch, value in result.batches_ms.items()},
    }


def markdown(content: dict[str, Any]) -> str:
    """A table for each question: how fast and how large, batches, checks; and where it was measured."""
    rows = content["rows"]
    first, second = (next((row["name"] for row in rows if row["baseline"] == name), None) for name in (EAGER, GRAPH))
    columns = ["row", "vision", "select", "LLM", "head", "total p50", "p95", "p99"]
    columns += [f"against {name}" for name in (first, second) if name]
    columns += ["LLM against " + (second or first or "-"), "memory GB", "BOPs %", "cold start"]
    lines = [f"# Bench: {content['network']}", "", *_about(content), "", _line(columns), _line(["---"] * len(columns))]
    for row in rows:
        if row["skipped"]:
            lines.append(_line([row["name"], f"not run: {row['skipped']}", *[""] * (len(columns) - 2)]))
            continue
        cells = [row["name"], *(_ms(row[key]) for key in ("vision_ms_p50", "select_ms", "llm_ms_p50", "head_ms_p50"))]
        cells += [_ms(row[f"total_ms_p{percent}"]) for percent in (50, 95, 99)]
        cells += [_times(row["speedup_vs_eager"])] if first else []
        cells += [_times(row["speedup_vs_graph"])] if second else []
        cells.append(_times(row["llm_speedup_vs_graph" if second else "llm_speedup_vs_eager"]))
        memory, note = row["peak_memory_gb"], ""
        if memory is None:
            memory, note = row["weights_gb"], " (weights)"
        cells += [f"{memory:.2f}{note}", f"{row['bops_percent']:.1f}", _ms(row["cold_start_ms"])]
        lines.append(_line(cells))
    lines += ["", "Milliseconds; stages are medians. BOPs: percent of dense fp16, coarse convention. " + PAPER + "."]
    batched = [row for row in rows if row["batch_ms"]]
    if batched:
        sizes = list(batched[0]["batch_ms"])
        head = ["frames together", *sizes]
        lines += ["", "## Batches", "", _line(head), _line(["---"] * len(head))]
        for row in batched:
            cells = (f"{value:.1f} ({value / int(size):.1f} a frame)" for size, value in row["batch_ms"].items())
            lines.append(_line([row["name"], *cells]))
    lines += ["", "## Checks of the outputs", ""]
    lines += [f"- {'passed' if c['passed'] else '**FAILED**'}: {c['name']} ({c['detail']})" for c in content["checks"]]
    return "\n".join(lines) + "\n"


def write(directory: Path, content: dict[str, Any]) -> None:
    """The three files. Raises OSError if they cannot be written."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "bench.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    (directory / "bench.md").write_text(markdown(content), encoding="utf-8")
    rows = [row for row in content["rows"] if not row["skipped"]]
    if rows:
        labels = [
            f"{row['total_ms_p50']:.0f} ms" + (f", {faster:.2f}x" if (faster := _faster(row)) else "") for row in rows
        ]
        stages = {
            STAGE_LABELS[f"{stage}_ms"]: ([row[f"{stage}_ms_p50"] for row in rows], STAGE_COLORS[f"{stage}_ms"])
            for stage in STAGES
        }
        memory = [row["peak_memory_gb"] or row["weights_gb"] for row in rows]
        title = f"{content['network']}, {content['device']}"
        horizontal_stages(directory / "bench.png", title, [row["name"] for row in rows], stages, labels, memory)


def _faster(row: dict[str, Any]) -> float | None:
    """Against the original's way to run, or the other baseline where that was not measured."""
    return row["speedup_vs_eager"] or row["speedup_vs_graph"]


def _about(content: dict[str, Any]) -> list[str]:
    order = (
        "frame by frame, rows taking turns"
        if content["interleaved"]
        else "network after network, weights freed between"
    )
    return [
        f"- {content['hardware']}",
        *(f"- {line}" for line in content["clocks"]),
        f"- integer products: {content['backend']}; {content['threads']} CPU threads",
        f"- {', '.join(f'{name} {version}' for name, version in content['versions'].items())}",
        f"- {content['rounds']} rounds, {order}; command: `{content['command']}`",
        *([f"- {content['note']}"] if content["note"] else []),
    ]


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _ms(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _times(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}x"
