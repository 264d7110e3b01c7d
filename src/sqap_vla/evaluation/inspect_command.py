# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""`sqap-vla inspect`: what the network is, what it costs, what quantization does to it. Needs ROS for bags only."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path

import torch
from tqdm import tqdm

from sqap_vla.cogact.prompt import Tokenizer
from sqap_vla.evaluation.compress_command import add_quantization_arguments
from sqap_vla.evaluation.cost_table import REUSED_TOKENS, TEXT_TOKENS, CostQuestion, cost_rows, format_table
from sqap_vla.evaluation.inspect_layers import format_layers, layer_costs, stored_layers
from sqap_vla.quantization.artifact import is_artifact, open_model, tokenizer_path
from sqap_vla.quantization.costs import Precision
from sqap_vla.quantization.frames import CalibrationFrames
from sqap_vla.quantization.options import QuantizationOptions
from sqap_vla.quantization.outliers import add_outliers
from sqap_vla.quantization.policy import PRESETS
from sqap_vla.runtime.calibration import INSTRUCTION, PICTURES, calibration_pictures
from sqap_vla.runtime.method import METHODS

DESCRIPTION = (
    "Says what the network is and costs: --costs for every method on CogACT-Base, --layers for the linear layers of a "
    "checkpoint, --attention for what quantization and rotation do to attention and activations on a bag's frames."
)


def add_arguments(parser: ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--costs", action="store_true", help="operations and bytes of every method on CogACT-Base")
    what.add_argument("--layers", action="store_true", help="bytes and error of each linear layer of a checkpoint")
    what.add_argument(
        "--attention", type=Path, metavar="BAG", help="heat maps, channel plots and a report on the frames of a rosbag2"
    )
    _add_cost_arguments(parser.add_argument_group("with --costs"))
    _add_network_arguments(parser.add_argument_group("with --layers and --attention"))
    _add_layer_arguments(parser.add_argument_group("with --layers"))
    attention = parser.add_argument_group("with --attention")
    attention.add_argument(
        "--out", type=Path, default=Path("out/inspect"), help="directory for the report; default out/inspect"
    )
    attention.add_argument("--method", choices=METHODS, help="whose score layer and number of tokens; default sqap")
    attention.add_argument("--seed", type=int, help="seed of the action head's noise; default 0")


def run(args: Namespace, frames: CalibrationFrames | None = None) -> str:
    """What to print of --costs or --layers. frames: to measure layers on; made-up pictures by default.

    Raises ValueError where nothing is asked, a file is unusable or a number out of range, OSError for files.
    """
    if args.layers:
        return _layers(args, frames)
    if not args.costs:
        raise ValueError("nothing to inspect was named; give --costs, --layers or --attention BAG")
    question = CostQuestion(
        text_tokens=args.text_tokens,
        quantized=Precision(args.weight_bits, args.activation_bits),
        reused_tokens=args.reused_tokens,
        attention_products=args.attention_products,
        original=not args.as_run,
    )
    return format_table(cost_rows(question), question)


def require_checkpoint(args: Namespace) -> Path:
    """Raises ValueError where none is named."""
    if args.checkpoint is None:
        raise ValueError("no checkpoint was named; give --checkpoint DIR")
    return args.checkpoint


def tokenizer_of(args: Namespace) -> Tokenizer:
    """Raises TokenizerError."""
    return Tokenizer.from_path(args.tokenizer or tokenizer_path(require_checkpoint(args)))


def _layers(args: Namespace, frames: CalibrationFrames | None) -> str:
    asked = QuantizationOptions(
        args.preset, args.precision, args.rotation, args.granularity, args.group_size, tuple(args.rule)
    )
    model = open_model(require_checkpoint(args), asked=asked if is_artifact(args.checkpoint) else None).model
    if is_artifact(args.checkpoint):
        return format_layers(stored_layers(model))
    config = asked.on(PRESETS["default"])
    if config is None:
        return format_layers(stored_layers(model))
    if frames is None:
        prompt = tokenizer_of(args).encode(INSTRUCTION)
        frames = CalibrationFrames.of(calibration_pictures(), [prompt] * PICTURES)
    if args.add_outliers:
        with torch.inference_mode():
            visual = model.encode_images(frames.dino, frames.siglip)
            add_outliers(model, visual, list(map(list, frames.input_ids)))
    with tqdm(desc="inspect", unit="layer", disable=None) as bar:
        return format_layers(layer_costs(model, config, frames.run, _on(bar)), config)


def _on(bar: tqdm) -> Callable[[int, int], None]:
    def progress(done: int, total: int) -> None:
        bar.total = total
        bar.update(done - bar.n)

    return progress


def _add_cost_arguments(group: ArgumentParser) -> None:
    group.add_argument(
        "--text-tokens", type=int, default=TEXT_TOKENS, help=f"length of the prompt [tokens]; default {TEXT_TOKENS}"
    )
    group.add_argument("--weight-bits", type=int, default=4, help="of the quantized rows; default 4")
    group.add_argument("--activation-bits", type=int, default=4, help="of the quantized rows; default 4")
    group.add_argument(
        "--reused-tokens",
        type=int,
        default=REUSED_TOKENS,
        help=f"tokens that vla_cache takes from the frame before; default {REUSED_TOKENS}",
    )
    group.add_argument("--attention-products", action="store_true", help="count q k^T and the weighted sum of v, too")
    group.add_argument("--as-run", action="store_true", help="count what this package runs, not the original code")


def _add_network_arguments(group: ArgumentParser) -> None:
    group.add_argument("--checkpoint", type=Path, help="CogACT checkpoint directory")
    group.add_argument(
        "--tokenizer", type=Path, help="tokenizer.json or directory; default: the one beside the checkpoint"
    )
    group.add_argument("--config", type=Path, help="parameter file with the bag's topics, such as config/widowx.yaml")
    group.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a parameter of the policy; may be repeated"
    )
    group.add_argument("--instruction", help="the task in words, where the bag has none")
    group.add_argument("--frames", type=int, default=4, help="frames of the bag to look at, evenly spaced; default 4")
    group.add_argument(
        "--add-outliers",
        action="store_true",
        help="first give the network, in memory, the outliers of trained ones; what it computes stays",
    )
    group.set_defaults(unnorm_key=None)


def _add_layer_arguments(group: ArgumentParser) -> None:
    group.add_argument("--bag", type=Path, help="rosbag2 whose frames to measure on; default: made-up pictures")
    group.add_argument("--image-topic", help="of that bag; default: its only image topic")
    add_quantization_arguments(group)
