# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Options of `sqap-vla demo`; nodes/demo.py runs it."""

from __future__ import annotations

import math
from argparse import ArgumentParser, ArgumentTypeError
from pathlib import Path

from sqap_vla.runtime.method import METHODS
from sqap_vla.sim.instructions import ANY_FAMILY, FAMILIES

DESCRIPTION = "Starts the simulated tabletop and the three nodes, shows what they do, and writes a report."


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--seconds", type=_seconds, default=60.0, help="how long to run [s]; default 60")
    parser.add_argument("--out", type=Path, default=Path("out"), help="directory for pictures and report; default out")
    parser.add_argument("--seed", type=int, default=0, help="seed of the scene; default 0")
    parser.add_argument("--method", choices=METHODS, default="sqap", help="token selection; default sqap")
    parser.add_argument("--instruction", default="", help="the task in words; default: another one in each episode")
    parser.add_argument(
        "--family",
        choices=(*FAMILIES, ANY_FAMILY),
        default=ANY_FAMILY,
        help="tasks to choose from; default: all of them in turn",
    )


def _seconds(text: str) -> float:
    """A time for argparse: above 0, and finite."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise ArgumentTypeError(f"it is '{text}'; it must be a number above 0, such as 60")
    return value
