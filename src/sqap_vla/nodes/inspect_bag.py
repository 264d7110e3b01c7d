# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""`sqap-vla inspect` on the frames of a bag, read as the policy would. Needs no robot and no DDS."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import torch
from tqdm import tqdm

from sqap_vla.cogact.model import CogAct
from sqap_vla.cogact.prompt import Tokenizer
from sqap_vla.evaluation.bag import BagReader
from sqap_vla.evaluation.inspect_report import write_study
from sqap_vla.evaluation.inspect_study import StudyFrame, all_variants, run_study, study_frames
from sqap_vla.nodes.bag_observations import BagObservations
from sqap_vla.nodes.model_loading import DTYPES, resolve_device
from sqap_vla.nodes.policy_parameters import PolicyParameters
from sqap_vla.nodes.replay import read_config
from sqap_vla.nodes.replay_feed import ReplayFeed
from sqap_vla.quantization.artifact import auto_dtype, is_artifact, open_model, tokenizer_path
from sqap_vla.quantization.outliers import add_outliers
from sqap_vla.runtime.method import make_method
from sqap_vla.runtime.types import Observation

Item = TypeVar("Item")


def attention(args: Namespace) -> Path:
    """`--attention`: the paper's two observations. Writes pictures and figures into args.out; returns the report there.

    Raises ValueError, OSError or RuntimeError with value, rule and remedy.
    """
    params, _ = read_config(args)
    if is_artifact(params.checkpoint):
        raise ValueError(
            f"{params.checkpoint} is an artifact; what quantization changes is measured from float weights: give the "
            "checkpoint it was made from"
        )
    observations = read_observations(args, args.attention)
    layer, k = _scores_of(params)
    shown = evenly(observations, args.frames)
    rest = [each for each in observations if all(each is not one for one in shown)]
    calibration = evenly(rest, args.frames) or shown
    device = resolve_device(params.device)
    dtype = torch.float32 if args.add_outliers else DTYPES[params.dtype] or auto_dtype(device)
    model = open_model(params.checkpoint, device, dtype).model
    tokenizer = Tokenizer.from_path(params.tokenizer or tokenizer_path(params.checkpoint))
    frames, calibration = (study_frames(model, tokenizer, each, params.seed) for each in (shown, calibration))
    if args.add_outliers:
        give_outliers(model, frames)
    with tqdm(total=len(all_variants()), desc="inspect", unit="network", disable=None) as bar:

        def progress(what: str) -> None:
            bar.set_postfix_str(what)
            bar.update(what in names)

        names = {str(variant) for variant in all_variants()}
        study = run_study(model, frames, calibration, layer, k, progress=progress)
    about = {
        "bag": args.attention.name,
        "checkpoint": Path(params.checkpoint).name,
        "outliers": "added, without changing the network's function" if args.add_outliers else "the checkpoint's own",
        "frames": f"{len(frames)} of {len(observations)}; calibration on {len(calibration)} others"
        if rest
        else f"{len(frames)}, which calibration had to be done on too",
        "decoder": f"{model.config.decoder.num_layers} layers of {model.config.decoder.hidden_size} and "
        f"{model.config.decoder.intermediate_size} channels, {str(dtype).removeprefix('torch.')} on {device}",
    }
    return write_study(args.out, study, about)


def read_observations(args: Namespace, path: Path) -> list[Observation]:
    """All frames of a bag that the policy could use. Raises RuntimeError where there is none."""
    params, replay = read_config(args)
    if args.frames < 1:
        raise ValueError(f"frames is {args.frames}; look at one at least")
    with BagReader(path) as bag:
        feed = ReplayFeed(bag, params.image_topic, params.camera_info_topic, params.instruction_topic, replay)
        frames = list(BagObservations(params).run(feed))
    usable = [frame.observation for frame in frames if frame.observation is not None]
    if not usable:
        detail = frames[0].problem if frames else "the bag holds no image"
        raise RuntimeError(f"none of {len(frames)} images of {path} could be used: {detail}")
    return usable


def evenly(items: Sequence[Item], count: int) -> list[Item]:
    """At most `count` of the items, first and last among them."""
    if len(items) <= count:
        return list(items)
    if count == 1:
        return [items[0]]
    return [items[round(i * (len(items) - 1) / (count - 1))] for i in range(count)]


def give_outliers(model: CogAct, frames: Sequence[StudyFrame]) -> None:
    """In memory; its function stays. Raises ValueError where it cannot be done."""
    features = torch.cat([frame.features for frame in frames])
    with torch.inference_mode():
        add_outliers(model, model.projector(features), [frame.input_ids for frame in frames])


def _scores_of(params: PolicyParameters) -> tuple[int, int]:
    """Layer and number of the tokens that the method takes by attention; sqap's where it takes none."""
    method = params.make_method()
    if method.selector is None or not hasattr(method.selector, "attention_count"):
        method = make_method("sqap")
    return method.score_layer, max(1, method.selector.attention_count(method.budget()))
