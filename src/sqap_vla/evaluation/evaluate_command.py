# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""`sqap-vla evaluate`: closed-loop success on the tabletop or in SIMPLER. Needs ROS for --ros alone."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

import yaml

from sqap_vla.evaluation.evaluate import Episodes, Evaluation, evaluate
from sqap_vla.evaluation.ray_workers import ray_episodes
from sqap_vla.evaluation.simpler_evaluation import SimplerEvaluation, run_simpler
from sqap_vla.runtime.method import METHODS
from sqap_vla.sim import FAMILIES, SCENARIOS
from sqap_vla.simpler.benchmark import TASKS
from sqap_vla.simpler.local_server import ServerSource
from sqap_vla.training.shipped import SHIPPED_POLICY

DESCRIPTION = (
    "Runs the policy in simulation, episode by episode, and says how often it does the task. The simulator waits for "
    "the policy, unless --ros is given. Stopped and started again with the same arguments, it goes on."
)


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--env", choices=("tabletop", "simpler"), default="tabletop", help="built in, or SIMPLER; default tabletop"
    )
    parser.add_argument(
        "--checkpoint",
        type=Path,
        help="CogACT checkpoint directory, or an artifact; default on the tabletop: the policy of the package",
    )
    parser.add_argument(
        "--task",
        nargs="+",
        choices=(*FAMILIES, *TASKS),
        metavar="TASK",
        help=f"tabletop: one of {', '.join(FAMILIES)}; default {FAMILIES[0]}. SIMPLER: any of {', '.join(TASKS)}; "
        "default all",
    )
    parser.add_argument(
        "--scenario", choices=SCENARIOS, help="how it looks; default on the tabletop visual_matching, in SIMPLER both"
    )
    parser.add_argument(
        "--method", choices=METHODS, default="sqap", help="how the network is made cheaper; default sqap"
    )
    parser.add_argument(
        "--episodes", type=int, help="how many, of each task; default on the tabletop 100, in SIMPLER all it has"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the first episode; the others follow; default 0")
    parser.add_argument("--max-steps", type=int, help="of an episode; default: the task's own limit")
    parser.add_argument(
        "--instruction", default="", help="say this, whatever the task is; default: the task's sentence"
    )
    parser.add_argument("--cfg-scale", type=float, default=1.5, help="classifier-free guidance; default 1.5")
    parser.add_argument("--workers", type=int, default=1, help="processes; default 1")
    parser.add_argument(
        "--engine",
        choices=("local", "ray"),
        default="local",
        help="tabletop: where the workers are; ray: on the cluster of RAY_ADDRESS, or on one of its own; default local",
    )
    parser.add_argument(
        "--ros",
        action="store_true",
        help="tabletop: through the real nodes over DDS, in real time, so that latency counts",
    )
    parser.add_argument("--against", type=Path, help="tabletop: --out of another run, compared episode by episode")
    parser.add_argument("--out", type=Path, required=True, help="directory for what comes out")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option of the method, such as ratio=0.5; may be repeated",
    )
    simpler = parser.add_argument_group("with --env simpler")
    simpler.add_argument(
        "--simpler-python", default="", metavar="PATH", help="Python interpreter that SimplerEnv is installed for"
    )
    simpler.add_argument("--socket", default="", metavar="PATH", help="of a server that runs with that interpreter")
    simpler.add_argument(
        "--make-options",
        type=json.loads,
        default={},
        metavar="JSON",
        help='further arguments of every scene, such as {"shader_dir": "ibl"}',
    )
    simpler.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="of the policy; default cpu")
    simpler.add_argument("--tokenizer", help="tokenizer.json or directory; default: the one beside the checkpoint")


def run(args: Namespace, through_ros: Episodes | None = None) -> str:
    """What to print. through_ros: how --ros is done. Raises ValueError, RuntimeError or OSError where it cannot be."""
    common = {
        "method": args.method,
        "options": parse_options(args.set),
        "seed": args.seed,
        "cfg_scale": args.cfg_scale,
        "instruction": args.instruction,
        "max_steps": args.max_steps,
    }
    if args.env == "simpler":
        return _simpler(args, common)
    if args.ros and args.engine == "ray":
        raise ValueError("--ros runs on this machine alone; leave out --engine ray")
    return _tabletop(args, common, through_ros if args.ros else ray_episodes if args.engine == "ray" else None)


def _tabletop(args: Namespace, common: dict[str, Any], episodes: Episodes | None) -> str:
    if args.simpler_python or args.socket or args.make_options:
        raise ValueError("--simpler-python, --socket and --make-options go with --env simpler")
    if args.task is not None and len(args.task) > 1:
        raise ValueError(f"{len(args.task)} tasks; on the tabletop a run, and its --out, is of one")
    question = Evaluation(
        checkpoint=str(args.checkpoint or SHIPPED_POLICY),
        task=args.task[0] if args.task else FAMILIES[0],
        scenario=args.scenario or SCENARIOS[0],
        episodes=100 if args.episodes is None else args.episodes,
        ros=args.ros,
        **common,
    )
    summary = evaluate(question, args.out, args.workers, args.against, episodes)
    return "\n".join([*said_of(summary), f"written to {args.out}"])


def _simpler(args: Namespace, common: dict[str, Any]) -> str:
    if args.ros or args.engine != "local":
        raise ValueError("--ros and --engine are for the tabletop; simpler.launch.py closes the loop through the nodes")
    if args.checkpoint is None:
        raise ValueError("--checkpoint is needed: no policy for SIMPLER's robots comes with the package")
    if args.against is not None:
        raise ValueError("--against is for the tabletop; methods run into one --out are compared with dense there")
    if args.socket and args.workers > 1:
        raise ValueError(f"{args.workers} workers on one --socket; a server has one client, so give --simpler-python")
    server = ServerSource(args.simpler_python, args.socket, args.make_options)
    questions = [
        SimplerEvaluation(
            checkpoint=str(args.checkpoint),
            task=task,
            scenario=scenario,
            episodes=args.episodes,
            server=server,
            device=args.device,
            tokenizer=args.tokenizer,
            **common,
        )
        for task in args.task or TASKS
        for scenario in ([args.scenario] if args.scenario else SCENARIOS)
        if args.scenario or SimplerEvaluation.has(task, scenario)
    ]
    report, summaries = run_simpler(questions, args.out, args.workers)
    lines = [line for summary in summaries for line in said_of(summary)]
    return "\n".join([report.read_text(encoding="utf-8"), *lines, f"written to {report}"])


def said_of(summary: dict[str, Any]) -> list[str]:
    low, high = summary["interval_95"]
    lines = [
        f"{summary['successes']} of {summary['finished']} episodes of {summary['task']} ({summary['scenario']}), "
        f"{summary['method']}: {100 * summary['success_rate']:.1f} %, "
        f"95 % interval {100 * low:.1f} to {100 * high:.1f} %"
    ]
    if "against" in summary:
        paired = summary["against"]
        lines.append(
            f"on {paired['episodes']} shared episodes: {paired['only_first']} done by this run alone, "
            f"{paired['only_second']} by the other alone, p = {paired['p_value']:.3g} (McNemar)"
        )
    return lines


def parse_options(texts: list[str]) -> dict[str, Any]:
    """NAME=VALUE with values as YAML reads them. Raises ValueError for another form."""
    options = {}
    for text in texts:
        name, found, value = text.partition("=")
        if not (found and name):
            raise ValueError(f"--set {text!r} is not NAME=VALUE, such as ratio=0.5")
        options[name] = tuple(parsed) if isinstance(parsed := yaml.safe_load(value), list) else parsed
    return options
