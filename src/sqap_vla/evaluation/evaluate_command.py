# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""`sqap-vla evaluate`: closed-loop success on the tabletop. Needs no ROS."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

import yaml

from sqap_vla.evaluation.evaluate import Evaluation, evaluate
from sqap_vla.runtime.method import METHODS
from sqap_vla.sim import FAMILIES, SCENARIOS
from sqap_vla.training.shipped import SHIPPED_POLICY

DESCRIPTION = (
    "Runs the policy on the simulated tabletop, episode by episode, and says how often it does the task. The simulator "
    "waits for the policy. Stopped and started again with the same arguments, it goes on."
)


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--checkpoint",
        type=Path,
        default=SHIPPED_POLICY,
        help="CogACT checkpoint directory, or an artifact; default: the policy that comes with the package",
    )
    parser.add_argument("--task", choices=FAMILIES, default="pick", help="family of tasks; default pick")
    parser.add_argument(
        "--scenario", choices=SCENARIOS, default="visual_matching", help="how it looks; default visual_matching"
    )
    parser.add_argument(
        "--method", choices=METHODS, default="sqap", help="how the network is made cheaper; default sqap"
    )
    parser.add_argument("--episodes", type=int, default=100, help="how many; default 100")
    parser.add_argument("--seed", type=int, default=0, help="of the first episode; the others follow; default 0")
    parser.add_argument(
        "--instruction", default="", help="say this, whatever the task is; default: the task's sentence"
    )
    parser.add_argument("--cfg-scale", type=float, default=1.5, help="classifier-free guidance; default 1.5")
    parser.add_argument("--workers", type=int, default=1, help="processes; default 1")
    parser.add_argument("--against", type=Path, help="--out of another run, to be compared episode by episode")
    parser.add_argument("--out", type=Path, required=True, help="directory for episodes.csv and summary.json")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option of the method, such as ratio=0.5; may be repeated",
    )


def run(args: Namespace) -> str:
    """What to print. Raises ValueError, RuntimeError or OSError where it cannot be done."""
    question = Evaluation(
        checkpoint=str(args.checkpoint),
        task=args.task,
        scenario=args.scenario,
        method=args.method,
        options=parse_options(args.set),
        episodes=args.episodes,
        seed=args.seed,
        cfg_scale=args.cfg_scale,
        instruction=args.instruction,
    )
    summary = evaluate(question, args.out, args.workers, args.against)
    low, high = summary["interval_95"]
    lines = [
        f"{summary['successes']} of {summary['finished']} episodes of {args.task} ({args.scenario}), {args.method}: "
        f"{100 * summary['success_rate']:.1f} %, 95 % interval {100 * low:.1f} to {100 * high:.1f} %"
    ]
    if "against" in summary:
        paired = summary["against"]
        lines.append(
            f"on {paired['episodes']} shared episodes: {paired['only_first']} done by this run alone, "
            f"{paired['only_second']} by the other alone, p = {paired['p_value']:.3g} (McNemar)"
        )
    return "\n".join([*lines, f"written to {args.out}"])


def parse_options(texts: list[str]) -> dict[str, Any]:
    """NAME=VALUE with values as YAML reads them. Raises ValueError for another form."""
    options = {}
    for text in texts:
        name, found, value = text.partition("=")
        if not (found and name):
            raise ValueError(f"--set {text!r} is not NAME=VALUE, such as ratio=0.5")
        options[name] = tuple(parsed) if isinstance(parsed := yaml.safe_load(value), list) else parsed
    return options
