# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""`sqap-vla tables`: the paper's tables on the tabletop. Needs no ROS."""

from __future__ import annotations

import shlex
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from sqap_vla.evaluation.environment import hardware
from sqap_vla.evaluation.tables import Plan, Results, run_tables, twin_directory
from sqap_vla.evaluation.tables_report import report
from sqap_vla.evaluation.tables_rows import write_rows
from sqap_vla.training.shipped import SHIPPED_POLICY

DESCRIPTION = (
    "Runs every method on the same episodes of all tasks and scenarios and writes the paper's four tables with its own "
    "rows beside them, and a fifth on a policy with outliers. Takes hours; stopped and started again with the same "
    "--out, it goes on."
)


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, help="directory of the runs")
    parser.add_argument(
        "--report",
        type=Path,
        help="Markdown file to write, and beside it a CSV file of the episodes; default: results.md in --out",
    )
    parser.add_argument("--checkpoint", type=Path, default=SHIPPED_POLICY, help="default: the policy of the package")
    parser.add_argument("--episodes", type=int, default=100, help="of each cell of tables 1 and 2; default 100")
    parser.add_argument("--ablation-episodes", type=int, default=50, help="of each cell of the others; default 50")
    parser.add_argument("--tables", default="1,2,3,4,5", help="which, with commas between; default all")
    parser.add_argument("--seed", type=int, default=0, help="of the first episode; default 0")
    parser.add_argument("--workers", type=int, default=1, help="processes; default 1")
    parser.add_argument("--no-run", action="store_true", help="write the report of what is there")


def run(args: Namespace) -> str:
    """What to print. Raises ValueError, RuntimeError or OSError where it cannot be done."""
    tables = tuple(int(number) for number in args.tables.split(","))
    plan = Plan(args.checkpoint, args.episodes, args.ablation_episodes, args.seed, tables)
    if not args.no_run:
        run_tables(plan, args.out, args.workers)
    file = args.report or args.out / "results.md"
    shown = [argument for argument in sys.argv[1:] if argument != "--no-run"]
    results, twin = Results(args.out), Results(twin_directory(args.out))
    rows = file.with_suffix(".csv")
    text = report(results, shlex.join(["sqap-vla", *shown]), hardware(), twin=twin, rows=rows.name)
    file.write_text(text, encoding="utf-8")
    return f"written to {file}; {write_rows(rows, results, twin)} episodes to {rows}"
