# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""`sqap-vla replay`: a bag through the policy, offline or through a running node, and the report of it."""

from __future__ import annotations

import dataclasses
from argparse import Namespace
from collections.abc import Iterable
from contextlib import ExitStack, closing
from pathlib import Path

from tqdm import tqdm

from sqap_vla.evaluation import rerun_file
from sqap_vla.evaluation.bag import BagReader
from sqap_vla.evaluation.progress_bar import progress_bar
from sqap_vla.evaluation.recorder import ReplayRecorder
from sqap_vla.evaluation.rerun_file import RerunFile
from sqap_vla.evaluation.summary import RunInfo
from sqap_vla.nodes.model_loading import DTYPES, load_engine, resolve_device
from sqap_vla.nodes.parameter_files import build, read_assignments, read_parameter_file
from sqap_vla.nodes.policy_parameters import PolicyParameters
from sqap_vla.nodes.replay_feed import ReplayFeed, ReplayParameters
from sqap_vla.nodes.replay_offline import OfflinePolicy, ReplayedFrame
from sqap_vla.quantization.artifact import auto_dtype, is_artifact
from sqap_vla.quantization.manifest import read_manifest
from sqap_vla.quantization.order import dtype_name


def run(args: Namespace) -> dict:
    """Returns the summary. Raises ValueError, OSError or RuntimeError with value, rule and remedy."""
    params, replay = read_config(args)
    if args.rerun:
        rerun_file.import_rerun()  # before a model is loaded
    with ExitStack() as stack:
        bag = stack.enter_context(BagReader(args.bag))
        feed = ReplayFeed(bag, params.image_topic, params.camera_info_topic, params.instruction_topic, replay)
        params = dataclasses.replace(params, image_transport="compressed" if feed.compressed else "raw")
        if args.live:
            from sqap_vla.nodes.replay_policy import (
                live_frames,  # starts processes and DDS: offline needs neither
            )

            frames: Iterable[ReplayedFrame] = stack.enter_context(
                live_frames(feed, params, replay, start=not args.running)
            )
        else:
            with progress_bar() as progress:
                engine = load_engine(params, progress)
            frames = OfflinePolicy(engine, params).run(feed)
        info = run_info(args, params)
        recorder = stack.enter_context(ReplayRecorder(args.out, info))
        viewer = stack.enter_context(closing(RerunFile(args.out / rerun_file.FILE, info))) if args.rerun else None
        complete = False
        try:
            for frame in tqdm(frames, total=len(feed), unit="frame", desc="replay", disable=None):
                _record(recorder, frame, viewer)
            complete = True
        except KeyboardInterrupt:
            pass  # the report says that it is incomplete
        return recorder.finish(complete)


def read_config(args: Namespace) -> tuple[PolicyParameters, ReplayParameters]:
    """Parameters from --config and the command line, which wins. Raises ParameterError."""
    policy = read_parameter_file(args.config, "policy") if args.config else {}
    replay = read_parameter_file(args.config, "replay") if args.config else {}
    given = {
        "checkpoint": str(args.checkpoint),
        "tokenizer": str(args.tokenizer or ""),
        "seed": args.seed,
        "method": args.method,
        "unnorm_key": args.unnorm_key,
        "instruction": args.instruction,
    }
    policy |= {name: value for name, value in given.items() if value is not None}
    policy |= read_assignments(args.set)
    source = str(args.config or "command line")
    return build(PolicyParameters, policy, source), build(ReplayParameters, replay, source)


def run_info(args: Namespace, params: PolicyParameters) -> RunInfo:
    device = resolve_device(params.device)
    return RunInfo(
        bag=Path(args.bag).name,
        checkpoint=Path(params.checkpoint).name,
        method=params.method,
        seed=params.seed,
        step_s=params.step_s,
        gripper_kind=params.gripper,
        mode="live" if args.live else "offline",
        device=device,
        dtype=model_dtype(params, device),
        precision=model_precision(params),
        method_parameters=params.make_method().parameters(),
    )


def model_dtype(params: PolicyParameters, device: str) -> str:
    """Of what is not quantized: an artifact has its own."""
    if is_artifact(params.checkpoint):
        return read_manifest(Path(params.checkpoint)).dtype
    return dtype_name(DTYPES[params.dtype] or auto_dtype(device))


def model_precision(params: PolicyParameters) -> str:
    """How the decoder is quantized: an artifact has its own; '' where it is not."""
    own = (
        read_manifest(Path(params.checkpoint)).quantization_config
        if is_artifact(params.checkpoint)
        else params.make_method().recipe
    )
    return str(own or "")


def _record(recorder: ReplayRecorder, frame: ReplayedFrame, viewer: RerunFile | None) -> None:
    if frame.record is None:
        recorder.skip(frame.stamp_ns, frame.problem.reason, str(frame.problem))
        return
    recorder.add(frame.record, frame.rgb)
    if viewer is not None and frame.rgb is not None:
        viewer.add(frame.record, frame.rgb)
    for warning in frame.warnings:
        recorder.warn(warning.reason)
