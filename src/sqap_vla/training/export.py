# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""A trained network as an official checkpoint directory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sqap_vla.cogact.checkpoint import SUPPORTED_BASE_VLMS
from sqap_vla.cogact.config import CogActConfig
from sqap_vla.cogact.layout import MODULES, unused_shapes
from sqap_vla.cogact.sizes import sizes_of
from sqap_vla.training.mini import mini_tokenizer
from sqap_vla.training.objectives import ACTION_LIMITS

UNNORM_KEY = "tabletop"


def write_checkpoint(
    directory: Path,
    config: CogActConfig,
    tensors: dict[str, Tensor],
    step: int,
    facts: dict[str, Any],
    dtype: torch.dtype,
) -> Path:
    """Writes config.json, dataset_statistics.json, tiny_sizes.json, tokenizer.json and checkpoints/step-NNNNNN.pt.

    tensors: by `module.key`, as the network names them. facts: what made them; it goes into config.json. Tensors of
    the official layout that inference never reads are not written: the loader does not ask for them. Older steps in the
    directory are removed. Returns the weights' file.
    """
    folder = directory / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "vla": {"type": "prism-dinosiglip-224px+oxe+diffusion", "base_vlm": SUPPORTED_BASE_VLMS[0]},
        "run_id": "cogact-mini-tabletop",
        "action_dim": config.head.action_dim,
        "future_action_window_size": config.head.chunk_steps - 1,
        "past_action_window_size": 0,
        "training": facts,
    }
    _write_json(directory / "config.json", content)
    limits = list(ACTION_LIMITS)
    action = {"q01": [*(-limit for limit in limits), 0.0], "q99": [*limits, 1.0], "mask": [True] * 6 + [False]}
    _write_json(directory / "dataset_statistics.json", {UNNORM_KEY: {"action": action}})
    _write_json(directory / "tiny_sizes.json", sizes_of(config))
    mini_tokenizer().save(str(directory / "tokenizer.json"))
    unused = unused_shapes(config)
    modules: dict[str, dict[str, Tensor]] = {module: {} for module in MODULES}
    for name, tensor in tensors.items():
        if name not in unused:
            module, _, key = name.partition(".")
            modules[module][key] = tensor.detach().to(dtype).contiguous().clone()
    weights = folder / f"step-{step:06d}.pt"
    partial = weights.with_suffix(".partial")
    torch.save({"model": modules}, partial)
    partial.replace(weights)
    for other in folder.glob("step-*.pt"):
        if other != weights:
            other.unlink()
    return weights


def _write_json(file: Path, content: dict[str, Any]) -> None:
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    partial.replace(file)
