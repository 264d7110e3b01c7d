# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""`sqap-vla inspect`: questions about the network that need no robot and no bag. Needs no ROS."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from sqap_vla.evaluation.cost_table import REUSED_TOKENS, TEXT_TOKENS, CostQuestion, cost_rows, format_table
from sqap_vla.quantization.costs import Precision

DESCRIPTION = "Says what the network is and costs."


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--costs", action="store_true", help="operations and bytes of every method on CogACT-Base")
    parser.add_argument(
        "--text-tokens", type=int, default=TEXT_TOKENS, help=f"length of the prompt [tokens]; default {TEXT_TOKENS}"
    )
    parser.add_argument("--weight-bits", type=int, default=4, help="of the quantized rows; default 4")
    parser.add_argument("--activation-bits", type=int, default=4, help="of the quantized rows; default 4")
    parser.add_argument(
        "--reused-tokens",
        type=int,
        default=REUSED_TOKENS,
        help=f"tokens that vla_cache takes from the frame before; default {REUSED_TOKENS}",
    )
    parser.add_argument("--attention-products", action="store_true", help="count q k^T and the weighted sum of v, too")
    parser.add_argument("--as-run", action="store_true", help="count what this package runs, not the original code")


def run(args: Namespace) -> str:
    """What to print. Raises ValueError where nothing is asked or a number is out of range."""
    if not args.costs:
        raise ValueError("nothing to inspect was named; give --costs")
    question = CostQuestion(
        text_tokens=args.text_tokens,
        quantized=Precision(args.weight_bits, args.activation_bits),
        reused_tokens=args.reused_tokens,
        attention_products=args.attention_products,
        original=not args.as_run,
    )
    return format_table(cost_rows(question), question)
