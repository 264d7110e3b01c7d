# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""`sqap-vla train`: CogACT-Mini on the tabletop. Needs no ROS."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from dataclasses import replace
from pathlib import Path

import torch

from sqap_vla.sim import FAMILIES
from sqap_vla.training.run import Recipe, train
from sqap_vla.training.trainer import DEFAULT_PHASES, GPU_PHASES, TrainingConfig, further_phase

DESCRIPTION = (
    "Trains a small CogACT on demonstrations of the simulated tabletop, which it collects itself. Stopped and started "
    "again with the same --out, it goes on."
)


def add_arguments(parser: ArgumentParser) -> None:
    default = Recipe()
    parser.add_argument("--out", type=Path, required=True, help="directory of the run")
    parser.add_argument(
        "--start", type=Path, help="checkpoint directory to start from: the last phase alone, at half its rate"
    )
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=list(FAMILIES), help="tasks; default: all")
    parser.add_argument(
        "--demonstrations",
        type=int,
        default=default.demonstrations,
        help=f"frames of the expert; default {default.demonstrations}",
    )
    parser.add_argument(
        "--rollouts", type=int, default=default.rollouts, help=f"frames of the policy's own; default {default.rollouts}"
    )
    parser.add_argument("--collectors", type=int, default=default.collectors, help="processes that collect; default 1")
    parser.add_argument("--threads", type=int, default=default.threads, help="of torch; default: its own choice")
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: CUDA where there is"
    )
    parser.add_argument("--minutes", type=float, help="how long to train, instead of a number of steps")
    parser.add_argument(
        "--evaluate-steps", type=int, default=None, help="steps between tests on held-out seeds; 0: none"
    )
    parser.add_argument(
        "--capacity",
        type=int,
        default=default.capacity,
        help=f"frames that a GPU holds, 150 KB each; those that come later are left out; default {default.capacity}",
    )
    parser.add_argument("--seed", type=int, default=0, help="of weights, data and order; default 0")
    parser.add_argument(
        "--scale", type=float, default=1.0, help="times the default number of steps in every phase; default 1"
    )


def run(args: Namespace) -> str:
    """What to print. Raises ValueError, RuntimeError or OSError where it cannot be done."""
    if not args.scale > 0:
        raise ValueError(f"--scale is {args.scale}; it must be above 0")
    device = "cuda" if args.device != "cpu" and torch.cuda.is_available() else "cpu"
    if args.device == "cuda" and device == "cpu":
        raise ValueError("torch sees no CUDA device; install a CUDA build of torch and a driver, or use --device cpu")
    phases = GPU_PHASES if device == "cuda" else DEFAULT_PHASES
    phases = tuple(
        replace(phase, steps=max(1, round(args.scale * phase.steps)), cooldown=round(args.scale * phase.cooldown))
        for phase in ((further_phase(phases),) if args.start else phases)
    )
    evaluate = Recipe.evaluate_steps if args.minutes is None else 0  # a test would take from the time
    recipe = Recipe(
        families=tuple(args.families),
        demonstrations=args.demonstrations,
        rollouts=args.rollouts,
        collectors=args.collectors,
        threads=args.threads,
        device=device,
        minutes=args.minutes,
        capacity=args.capacity,
        start=str(args.start) if args.start else None,
        evaluate_steps=evaluate if args.evaluate_steps is None else args.evaluate_steps,
        training=TrainingConfig(phases=phases, seed=args.seed),
    )
    lines: list[str] = []
    checkpoint = train(recipe, args.out, lines.append)
    return "\n".join([*lines, f"checkpoint: {checkpoint}"])
