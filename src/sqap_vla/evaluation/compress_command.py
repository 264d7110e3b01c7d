# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""`sqap-vla compress`: a checkpoint into an artifact directory, as the model_loader node does it. Needs no ROS."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from enum import Enum
from pathlib import Path

import torch

from sqap_vla.evaluation.progress_bar import progress_bar
from sqap_vla.quantization.artifact import PreparedArtifact, is_artifact, prepare_artifact
from sqap_vla.quantization.frames import CalibrationFrames
from sqap_vla.quantization.manifest import ArtifactError
from sqap_vla.quantization.options import QuantizationOptions
from sqap_vla.quantization.policy import PRESETS
from sqap_vla.quantization.quantizer import Granularity, Precision
from sqap_vla.quantization.rotation import RotationKind

DESCRIPTION = (
    "Writes the compressed model that every command and the policy node take as --checkpoint. Interrupted, it goes on "
    "where it stopped when it is started again; what was in OUT stays usable until the new one is complete."
)
DTYPES = ("auto", "float32", "bfloat16")
DEFAULT_FRAMES = 8


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="CogACT checkpoint directory")
    parser.add_argument("out", type=Path, metavar="OUT", help="artifact directory; need not exist")
    parser.add_argument("--tokenizer", type=Path, help="tokenizer.json or directory to copy; default: the checkpoint's")
    add_quantization_arguments(parser)
    parser.add_argument(
        "--calibrate", type=Path, metavar="BAG", help="recording for preset calibrated and granularity channel"
    )
    parser.add_argument(
        "--frames", type=int, default=DEFAULT_FRAMES, help=f"of the recording to use; default {DEFAULT_FRAMES}"
    )
    parser.add_argument("--image-topic", help="of the recording; default: its only image topic")
    parser.add_argument("--instruction", help="the task in words, where the recording has none")
    parser.add_argument("--dtype", choices=DTYPES, default="auto", help="of what is not quantized")


def add_quantization_arguments(parser: ArgumentParser) -> None:
    """Those of QuantizationOptions."""

    def names(kinds: type[Enum]) -> list[str]:
        return [kind.value for kind in kinds]

    parser.add_argument("--precision", choices=names(Precision), help="of the decoder; default w4a4")
    parser.add_argument("--preset", choices=tuple(PRESETS), help="recipe to begin with; docs/method.md")
    parser.add_argument("--rotation", choices=names(RotationKind), help="default: the preset's")
    parser.add_argument("--granularity", choices=names(Granularity), help="of activation scales; default: the preset's")
    parser.add_argument("--group-size", type=int, help="inputs that share a weight scale; 0: a whole output channel")
    parser.add_argument(
        "--rule",
        action="append",
        default=[],
        metavar="PATTERN=PRECISION",
        help="precision of single layers, such as '*.down_proj=w4a8'; may be repeated, the first that matches decides",
    )


def run(args: Namespace, frames: CalibrationFrames | None) -> PreparedArtifact:
    """frames: of args.calibrate. Raises OSError, ValueError (ArtifactError, CheckpointError, TokenizerError)."""
    if is_artifact(args.checkpoint):
        raise ArtifactError(f"{args.checkpoint} is an artifact already; give the checkpoint that it was made from")
    asked = QuantizationOptions(
        args.preset, args.precision, args.rotation, args.granularity, args.group_size, tuple(args.rule)
    )
    with progress_bar() as progress:
        return prepare_artifact(
            args.checkpoint,
            args.out,
            dtype=None if args.dtype == "auto" else getattr(torch, args.dtype),
            quantization=PRESETS["default"],
            asked=asked,
            tokenizer=args.tokenizer,
            frames=frames,
            progress=progress,
        )


def summary(prepared: PreparedArtifact) -> str:
    """A line on what was made."""
    manifest = prepared.manifest
    precision = manifest.quantization_config or f"not quantized, {manifest.dtype}"
    return f"{prepared.directory}: {precision}, {manifest.size_bytes / 1e9:.2f} GB in {len(manifest.shards)} shards"
