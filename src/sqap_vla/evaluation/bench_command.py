# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""`sqap-vla bench`: arguments, what is measured on what, and the files. Needs no ROS."""

from __future__ import annotations

import shlex
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable
from pathlib import Path

import torch
from tqdm import tqdm

from sqap_vla.cogact.checkpoint import load_checkpoint, read_config
from sqap_vla.cogact.config import official_config
from sqap_vla.cogact.model import CogAct
from sqap_vla.cogact.normalization import ActionStatistics
from sqap_vla.cogact.prompt import Tokenizer
from sqap_vla.cogact.random_checkpoint import demo_config, word_level_tokenizer
from sqap_vla.evaluation import bench_report
from sqap_vla.evaluation.bench import Bench, Plan
from sqap_vla.evaluation.bench_models import quantized_copy, random_model, with_layers
from sqap_vla.evaluation.bench_rows import rows_for
from sqap_vla.evaluation.environment import clocks, hardware, versions
from sqap_vla.quantization.backends.registry import select_backend
from sqap_vla.quantization.policy import preset

DESCRIPTION = (
    "Measures the dense and the compressed policy against each other, checks their outputs, and writes bench.json, "
    "bench.md and bench.png."
)
# Actions stay normalised: [-1, 1] in every dimension.
NORMALISED = {"q01": [-1.0] * 7, "q99": [1.0] * 7, "mask": [True] * 6 + [False]}


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, default=Path("out/bench"), help="directory; default out/bench")
    parser.add_argument(
        "--device", choices=("auto", "cuda", "cpu"), default="auto", help="default: CUDA where there is"
    )
    parser.add_argument("--checkpoint", type=Path, help="CogACT checkpoint directory; default: random weights")
    parser.add_argument("--tokenizer", type=Path, help="tokenizer.json or directory; default: the one beside it")
    parser.add_argument(
        "--size", choices=("base", "demo"), default="base", help="of random weights: CogACT-Base, or a tiny network"
    )
    parser.add_argument("--layers", type=int, help="decoder layers of random weights; default: all")
    parser.add_argument("--rounds", type=int, default=20, help="timed inferences of each row; default 20")
    parser.add_argument("--warm-up", type=int, default=3, help="inferences before; default 3")
    parser.add_argument("--rows", help="names of rows, with commas between; default: all. --rows list shows them")
    parser.add_argument("--batches", default="", help="sizes for predict_batch, such as 1,2,4,8; default: none")
    parser.add_argument("--seed", type=int, default=0, help="of random weights; default 0")


def run(args: Namespace) -> tuple[str, bool]:
    """What to print, and whether every check passed. Raises ValueError for arguments that do not go together."""
    device = _device(args.device)
    rows = rows_for(device)
    if args.rows == "list":
        return "\n".join(row.name for row in rows), True
    if args.rows is not None:
        wanted = [name.strip() for name in args.rows.split(",")]
        unknown = sorted(set(wanted) - {row.name for row in rows})
        if unknown:
            raise ValueError(
                f"rows {', '.join(unknown)} are not known; there are {', '.join(row.name for row in rows)}"
            )
        rows = [row for row in rows if row.name in wanted]
    if args.layers is not None and args.layers < 1:
        raise ValueError(f"layers is {args.layers}; a decoder has at least one")
    if args.checkpoint is not None and (args.layers is not None or args.size != "base"):
        raise ValueError("--layers and --size are for random weights; leave them out with --checkpoint")
    plan = Plan(args.rounds, args.warm_up, tuple(int(size) for size in args.batches.split(",") if size))
    backend = select_backend(device)
    bench, network = _bench(args, device, plan)
    results = bench.run(rows)
    about = {
        "network": network,
        "device": device.type,
        "hardware": hardware(),
        "clocks": clocks(),
        "backend": " ".join(filter(None, (backend.name, getattr(backend, "instructions", "")))),
        "threads": torch.get_num_threads(),
        "versions": versions(),
        "command": shlex.join(["sqap-vla", *sys.argv[1:]]),
        "note": "" if args.checkpoint else "Random weights: times are those of the size, actions mean nothing.",
    }
    content = bench_report.document(bench, results, about)
    bench_report.write(args.out, content)
    return f"{bench_report.markdown(content)}\n{args.out / 'bench.md'}", all(check.passed for check in bench.checks)


def _bench(args: Namespace, device: torch.device, plan: Plan) -> tuple[Bench, str]:
    statistics = ActionStatistics.from_dict(NORMALISED)

    def progress(items: Iterable, what: str) -> Iterable:
        return tqdm(items, desc=what, leave=False, disable=None)

    if args.checkpoint is None:
        config = with_layers(official_config() if args.size == "base" else demo_config(), args.layers)
        name = "CogACT-Base" if args.size == "base" else "demo network"
        network = f"{name}, {config.decoder.num_layers} decoder layers"
        tokenizer = Tokenizer(word_level_tokenizer(), "<s>", "</s>", Path("built in"))

        def dense(dtype: torch.dtype) -> CogAct:
            return random_model(config, dtype, device, args.seed)

    else:
        tokenizer = Tokenizer.from_path(args.tokenizer or args.checkpoint)
        config = read_config(args.checkpoint)
        network = args.checkpoint.name

        def dense(dtype: torch.dtype) -> CogAct:
            return load_checkpoint(args.checkpoint, dtype=dtype, device=device).model

    def make(quantized: bool, dtype: torch.dtype, made: CogAct | None) -> CogAct:
        if not quantized:
            return dense(dtype)
        # Searching the range of each channel takes minutes at full size, and changes no time.
        return quantized_copy(made or dense(dtype), preset("default", clip_search=args.checkpoint is not None), dtype)

    return Bench(config, device, tokenizer, statistics, make, plan, progress), network


def _device(name: str) -> torch.device:
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise ValueError("torch sees no CUDA device; install a CUDA build of torch and a driver, or use --device cpu")
    return torch.device("cuda" if name != "cpu" and available else "cpu")
