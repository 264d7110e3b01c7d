# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The `sqap-vla` command. A command's module is imported when it is asked for: a robot has no simulator.

Exit status: 0 done, 1 refused (one line says why), 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import logging
import sys
from pathlib import Path
from types import ModuleType

from sqap_vla.runtime.method import METHODS

# Name of the command -> its module, less "_command", and what the list of commands says.
MODULES = {
    "demo": ("nodes.demo", "tabletop simulator, loader, policy and diagnostics, with a live status"),
    "compress": ("evaluation.compress", "quantize a checkpoint into an artifact"),
    "evaluate": ("evaluation.evaluate", "closed-loop success on the tabletop, or in SIMPLER"),
    "tables": ("evaluation.tables", "the paper's tables on the tabletop, every method"),
    "train": ("training.train", "train a small policy on the tabletop"),
    "compare": ("evaluation.compare", "how far runs are from each other"),
    "inspect": ("evaluation.inspect", "what the network is and costs"),
    "bench": ("evaluation.bench", "how fast it is on this machine"),
}


def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    args = _parser(next((word for word in argv if not word.startswith("-")), None)).parse_args(argv)
    logging.basicConfig(level=logging.INFO if args.verbose else logging.WARNING, format="%(name)s: %(message)s")
    try:
        return args.run(args)
    except KeyboardInterrupt:
        return 130
    except (ValueError, OSError, RuntimeError) as error:
        if args.verbose:
            raise
        print(f"sqap-vla {args.command}: {error}", file=sys.stderr)
        return 1


def _parser(asked: str | None) -> argparse.ArgumentParser:
    """asked: the command that gets its options; the others are listed only."""
    parser = argparse.ArgumentParser(prog="sqap-vla", description="CogACT compressed with SQAP, on robots.")
    parser.add_argument("-v", "--verbose", action="store_true", help="log what is done; on an error show the traceback")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_replay(commands)
    for name, (module, summary) in MODULES.items():
        if name == asked:
            _add_module(commands, name, importlib.import_module(f"sqap_vla.{module}_command"), summary)
        else:
            commands.add_parser(name, help=summary)
    _add_doctor(commands)
    return parser


def _add_replay(commands: argparse._SubParsersAction) -> None:
    replay = commands.add_parser(
        "replay",
        help="run a rosbag2 through the policy and report",
        description="Reads a rosbag2 (sqlite3 or mcap, raw or compressed images) and runs it through the policy.",
    )
    replay.add_argument("bag", type=Path, metavar="BAG", help="rosbag2 directory, .mcap or .db3")
    replay.add_argument("--checkpoint", type=Path, required=True, help="CogACT checkpoint directory, or an artifact")
    replay.add_argument(
        "--tokenizer", type=Path, help="tokenizer.json or directory; default: the one beside the checkpoint"
    )
    replay.add_argument("--config", type=Path, help="parameter file, such as config/widowx.yaml")
    replay.add_argument(
        "--out", type=Path, default=Path("out/replay"), help="directory for the report; default out/replay"
    )
    replay.add_argument("--seed", type=int, help="seed of the action head's noise; default 0")
    replay.add_argument("--method", choices=METHODS, help="token selection; default sqap")
    replay.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a parameter of the policy, such as pruning_ratio=0.5 or use_ring=false; may be repeated",
    )
    replay.add_argument("--unnorm-key", help="entry of dataset_statistics.json; default: the config's")
    replay.add_argument("--instruction", help="the task in words, where the bag has none")
    replay.add_argument("--live", action="store_true", help="through the policy node over DDS, in lockstep")
    replay.add_argument(
        "--running", action="store_true", help="with --live: wait for a policy node that others start, start none"
    )
    replay.add_argument(
        "--rerun", action="store_true", help="write replay.rrd for the Rerun viewer, too; needs rerun-sdk"
    )
    replay.set_defaults(run=_replay)


def _add_module(commands: argparse._SubParsersAction, name: str, module: ModuleType, summary: str) -> None:
    """A command whose module has DESCRIPTION and add_arguments; the text of its run is printed, unless there is more
    to do."""
    parser = commands.add_parser(name, help=summary, description=module.DESCRIPTION)
    module.add_arguments(parser)
    special = {"demo": _demo, "evaluate": _evaluate, "compress": _compress, "inspect": _inspect, "bench": _bench}
    parser.set_defaults(run=special.get(name, functools.partial(_print, module)))


def _add_doctor(commands: argparse._SubParsersAction) -> None:
    doctor = commands.add_parser(
        "doctor",
        help="what this machine can do, and what would be used",
        description="Says which kernels run here and which would be chosen, and measures whether compression pays.",
    )
    doctor.add_argument("--tokens", type=int, default=282, help="tokens of the measured products; default 282")
    doctor.set_defaults(run=_doctor)


def _demo(args: argparse.Namespace) -> int:
    from sqap_vla.evaluation.recorder import check_directory
    from sqap_vla.nodes.demo import run

    check_directory(args.out)
    return run(args)


def _evaluate(args: argparse.Namespace) -> int:
    from sqap_vla.evaluation.evaluate_command import run

    through_ros = None
    if args.ros:
        from sqap_vla.nodes.ros_episodes import ros_episodes as through_ros
    print(run(args, through_ros))
    return 0


def _replay(args: argparse.Namespace) -> int:
    from sqap_vla.evaluation.recorder import check_directory
    from sqap_vla.nodes.replay import run

    check_directory(args.out)
    summary = run(args)
    if not summary["frames"]:
        skipped = summary["skipped"]
        detail = skipped["examples"][0]["detail"] if skipped["examples"] else "the bag holds no image"
        raise RuntimeError(f"none of {skipped['frames']} images could be used: {detail}")
    print(f"{summary['frames']} frames replayed; report: {args.out / 'report.md'}")
    return 0


def _compress(args: argparse.Namespace) -> int:
    from sqap_vla.evaluation.compress_command import run, summary

    frames = None
    if args.calibrate is not None:
        from sqap_vla.cogact.prompt import Tokenizer
        from sqap_vla.nodes.calibration_frames import frames_of_bag

        tokenizer = Tokenizer.from_path(args.tokenizer or args.checkpoint)
        frames = frames_of_bag(args.calibrate, tokenizer, args.frames, args.image_topic, args.instruction)
    print(summary(run(args, frames)))
    return 0


def _print(module: ModuleType, args: argparse.Namespace) -> int:
    print(module.run(args))
    return 0


def _inspect(args: argparse.Namespace) -> int:
    from sqap_vla.evaluation.inspect_command import require_checkpoint, run, tokenizer_of

    if args.attention:
        from sqap_vla.evaluation.recorder import check_directory
        from sqap_vla.nodes.inspect_bag import attention

        require_checkpoint(args)
        check_directory(args.out)
        print(f"report: {attention(args)}")
        return 0
    frames = None
    if args.layers and args.bag:
        from sqap_vla.nodes.calibration_frames import frames_of_bag

        frames = frames_of_bag(args.bag, tokenizer_of(args), args.frames, args.image_topic, args.instruction)
    print(run(args, frames))
    return 0


def _bench(args: argparse.Namespace) -> int:
    from sqap_vla.evaluation.bench_command import run

    text, passed = run(args)
    print(text)
    return 0 if passed else 1


def _doctor(args: argparse.Namespace) -> int:
    from sqap_vla.evaluation.doctor import examine, format_findings

    print(format_findings(examine(args.tokens)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
