# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""compare.html: tables and pictures of a comparison in one file, which can be sent as it is."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from sqap_vla.evaluation.report import number

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 68rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { padding: .25rem .8rem; border-bottom: 1px solid #ddd; text-align: right; }
th:first-child, td:first-child { text-align: left; }
img { max-width: 100%; }
.note { color: #555; max-width: 46rem; }
"""
HOW_TO_READ = (
    "Both runs saw the same frames; what differs is the network's own output, before ensemble and limits. Small "
    "differences on recorded frames do not prove equal success on a robot: errors add up in closed loop. What the "
    "reference's own actions vary by stands beside each difference. Cosines, of the angle between two motions, leave "
    "out rows that move less than 1 mm or 2 mrad: those have no direction worth comparing."
)


def render(reference: str, result: Mapping[str, Any], pictures: Mapping[str, bytes]) -> str:
    """The page. result: what compare.json holds. pictures: PNG by title."""
    parts = [
        f"<h1>Compared with {escape(reference)}</h1>",
        f'<p class="note">{escape(HOW_TO_READ)}</p>',
        "<h2>At a glance</h2>",
        _overview(result["compared"]),
        "<h2>Latency</h2>",
        _latency(result["latency"]),
        *(_picture(title, png) for title, png in pictures.items()),
        *(_dimensions(run) for run in result["compared"]),
        "<h2>Runs</h2>",
        _runs(result["runs"]),
    ]
    title = f"sqap_vla: compared with {escape(reference)}"
    head = f'<meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>'
    return (
        f'<!doctype html>\n<html lang="en">\n<head>{head}</head>\n<body>\n' + "\n".join(parts) + "\n</body>\n</html>\n"
    )


def _table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    def line(cells: Sequence[object], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(str(cell))}</{tag}>" for cell in cells) + "</tr>"

    return "\n".join(["<table>", line(header, "th"), *(line(row, "td") for row in rows), "</table>"])


def _overview(compared: Sequence[Mapping[str, Any]]) -> str:
    header = (
        "run",
        "frames",
        "translation [mm]",
        "rotation [mrad]",
        "cosine, translation",
        "rotation",
        "gripper disagrees [%]",
    )
    return _table(
        header,
        (
            (
                run["name"],
                run["frames"],
                number(1e3 * run["by_row"][0]["translation_m"]),
                number(1e3 * run["by_row"][0]["rotation_rad"]),
                number(run["cosine"]["translation"], 4),
                number(run["cosine"]["rotation"], 4),
                number(run["gripper_disagreement_percent"], 1),
            )
            for run in compared
        ),
    )


def _latency(runs: Sequence[Mapping[str, Any]]) -> str:
    header = ("run", "frames", "p50 [ms]", "p95 [ms]", "max [ms]", "one row [ms]", "longer than a row [%]")
    keys = ("p50_ms", "p95_ms", "max_ms", "deadline_ms", "missed_percent")
    return _table(header, ((run["name"], run["frames"], *(number(run[key], 1) for key in keys)) for run in runs))


def _dimensions(run: Mapping[str, Any]) -> str:
    header = ("dimension", "unit", "mean", "95 % below", "max", "mean (signed)", "reference varies by")
    keys = ("mean_abs", "p95_abs", "max_abs", "bias", "reference_std")
    rows = ((d["name"], d["unit"], *(number(d[key], 5) for key in keys)) for d in run["dimensions"])
    return f"<h2>First action of {escape(run['name'])}</h2>\n" + _table(header, rows)


def _runs(runs: Sequence[Mapping[str, Any]]) -> str:
    """One column a run: what differs between them stands side by side."""
    keys = [key for key in runs[0] if key not in ("name", "method_parameters")]
    options = dict.fromkeys(name for run in runs for name in run["method_parameters"])
    rows = [(key, *("–" if run[key] == "" else run[key] for run in runs)) for key in keys]
    rows += [(name, *(run["method_parameters"].get(name, "–") for run in runs)) for name in options]
    return _table(("", *(run["name"] for run in runs)), rows)


def _picture(title: str, png: bytes) -> str:
    data = base64.b64encode(png).decode()
    return f'<h2>{escape(title)}</h2>\n<img alt="{escape(title)}" src="data:image/png;base64,{data}">'
