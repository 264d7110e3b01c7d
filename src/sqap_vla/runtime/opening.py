# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""From a directory to an engine: the same steps for the policy node, for evaluation and for scripts."""

from __future__ import annotations

import itertools
from pathlib import Path

import torch

from sqap_vla.cogact.model import CogAct
from sqap_vla.cogact.normalization import statistics_for
from sqap_vla.cogact.prompt import Tokenizer
from sqap_vla.quantization.artifact import open_model, tokenizer_path
from sqap_vla.quantization.writer import OnProgress
from sqap_vla.runtime.engine import Engine
from sqap_vla.runtime.methods.base import Method


def open_engine(
    checkpoint: str | Path,
    method: Method,
    *,
    unnorm_key: str | None,
    step_s: float,
    tokenizer: str | Path | None = None,
    device: str = "cpu",
    dtype: torch.dtype | None = None,
    seed: int = 0,
    ddim_steps: int = 10,
    cfg_scale: float = 1.5,
    progress: OnProgress = lambda progress: None,
    in_memory: bool = False,
) -> Engine:
    """The engine of a CogACT checkpoint directory or an artifact directory, warmed up.

    unnorm_key: None takes the only entry of dataset_statistics.json. tokenizer: None takes the one beside the weights.
    dtype: None is the device's own. progress: hears how far compressing or verifying the model is; an exception that it
    raises ends it. in_memory: no file is looked at any more afterwards; otherwise the weights of an artifact on the CPU
    are pages of its files, which processes share, a full memory drops, and a damaged disk does not give back. Raises
    ValueError (CheckpointError, TokenizerError, ArtifactError among them).
    """
    loaded = open_model(checkpoint, device, dtype, method.quantization, method.asked, progress)
    if in_memory:
        _take_into_memory(loaded.model)
    engine = Engine(
        loaded.model,
        Tokenizer.from_path(tokenizer or tokenizer_path(checkpoint)),
        statistics_for(loaded.statistics, unnorm_key),
        method,
        step_s=step_s,
        seed=seed,
        ddim_steps=ddim_steps,
        cfg_scale=cfg_scale,
    )
    engine.warm_up()
    return engine


@torch.no_grad()
def _take_into_memory(model: CogAct) -> None:
    """One tensor at a time, so that never more than one is there twice."""
    for tensor in itertools.chain(model.parameters(), model.buffers()):
        if tensor.device.type == "cpu":
            tensor.data = tensor.data.clone()
