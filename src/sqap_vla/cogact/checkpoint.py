# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""An official CogACT checkpoint directory -> a network ready for inference.

Weights are copied out of the mapped file tensor by tensor, straight into the target dtype and device, so
memory in use stays near the size of the loaded model however large the file is (30 GB for CogACT-Base). Every
defect of the directory raises CheckpointError.

Source: load_vla (vla/load.py), CogACT.from_pretrained (vla/cogactvla.py).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sqap_vla.cogact.checkpoint_files import (
    find_weights,
    fingerprint,
    listing,
    open_weights,
    read_json,
    step_number,
)
from sqap_vla.cogact.config import CogActConfig
from sqap_vla.cogact.errors import CheckpointError
from sqap_vla.cogact.layout import build_on_meta, unused_shapes
from sqap_vla.cogact.model import CogAct
from sqap_vla.cogact.normalization import ActionStatistics, statistics_from_dict
from sqap_vla.cogact.sizes import resolve_config

__all__ = [
    "CheckpointError",
    "LoadedCheckpoint",
    "find_weights",
    "fingerprint",
    "load_checkpoint",
    "load_statistics",
]

logger = logging.getLogger(__name__)

# Base VLMs with DINOv2 + SigLIP at 224 px, naive resizing and Llama-2-7b (prismatic/conf/models.py).
SUPPORTED_BASE_VLMS = ("prism-dinosiglip-224px+7b", "prism-dinosiglip-224px-controlled+7b")


@dataclass(frozen=True)
class LoadedCheckpoint:
    """A network ready for inference and what belongs to it. `step` is None if the file name has no number."""

    model: CogAct
    config: CogActConfig
    statistics: dict[str, ActionStatistics]
    directory: Path
    weights: Path
    step: int | None


def read_config(directory: str | Path, step: int | None = None) -> CogActConfig:
    """The sizes of a checkpoint's network; its tensors are not read. Raises CheckpointError as `load_checkpoint`."""
    directory = Path(directory)
    _check_base_vlm(directory)
    return _find_config(directory, open_weights(find_weights(directory, step)))


def load_checkpoint(
    directory: str | Path,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    step: int | None = None,
) -> LoadedCheckpoint:
    """Load the newest step, or `step`, of a checkpoint directory.

    dtype: of vision, projector and decoder; the action head is always float32. The model is in eval mode and
    without gradients. Raises CheckpointError if anything is missing, unreadable, or does not fit the network.
    """
    directory = Path(directory)
    _check_base_vlm(directory)
    statistics = load_statistics(directory)
    weights = find_weights(directory, step)
    tensors = open_weights(weights)
    config = _find_config(directory, tensors)
    model = build_on_meta(config)
    expected = model.state_dict()
    _check_tensors(weights, tensors, expected, config)

    loaded = {}
    for name in expected:
        source = tensors.pop(name)
        target_dtype = torch.float32 if name.startswith("action_model.") else dtype
        # Always a copy: a view into the mapping would change, or fault, with the file.
        loaded[name] = torch.empty(source.shape, dtype=target_dtype, device=device).copy_(source)
    model.load_state_dict(loaded, assign=True)
    model.requires_grad_(False)
    millions = sum(tensor.numel() for tensor in loaded.values()) / 1e6
    logger.info("loaded %s: %.1f M parameters, %s on %s", weights, millions, dtype, device)
    return LoadedCheckpoint(model, config, statistics, directory, weights, step_number(weights))


def load_statistics(directory: str | Path) -> dict[str, ActionStatistics]:
    """Action statistics by unnorm_key, without loading weights. Raises CheckpointError."""
    _check_directory(Path(directory))
    return statistics_from_dict(read_json(Path(directory) / "dataset_statistics.json"))


def _check_directory(directory: Path) -> None:
    if not directory.is_dir():
        raise CheckpointError(
            f"checkpoint {directory} is not a directory; give the one that holds config.json and checkpoints/"
        )


def _check_base_vlm(directory: Path) -> None:
    _check_directory(directory)
    vla = read_json(directory / "config.json").get("vla")
    base_vlm = vla.get("base_vlm") if isinstance(vla, Mapping) else None
    if base_vlm not in SUPPORTED_BASE_VLMS:
        raise CheckpointError(
            f"config.json: vla.base_vlm is {base_vlm!r}; supported are {', '.join(SUPPORTED_BASE_VLMS)}"
        )


def _find_config(directory: Path, tensors: Mapping[str, Tensor]) -> CogActConfig:
    sizes_file = directory / "tiny_sizes.json"
    sizes = read_json(sizes_file) if sizes_file.exists() else {}
    try:
        return resolve_config(sizes, {name: tuple(tensor.shape) for name, tensor in tensors.items()})
    except KeyError as error:
        raise CheckpointError(
            f"{directory}: {error} is missing, so the network's size is unknown; the checkpoint's tensors "
            "and tiny_sizes.json must describe every part"
        ) from error
    except (ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{directory}: sizes are not usable: {error}") from error


def _check_tensors(
    file: Path, tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], config: CogActConfig
) -> None:
    unused = unused_shapes(config)
    missing = [name for name in expected if name not in tensors]
    unexpected = [name for name in tensors if name not in expected and name not in unused]
    wrong = [
        f"{name} {list(tensors[name].shape)} instead of {list(tensor.shape)}"
        for name, tensor in expected.items()
        if name in tensors and tensors[name].shape != tensor.shape
    ]
    if missing or unexpected or wrong:
        raise CheckpointError(
            f"{file} does not fit the network: missing {listing(missing)}; "
            f"not expected {listing(unexpected)}; wrong shapes {listing(wrong)}. Sizes come from "
            "tiny_sizes.json or, without it, from the official networks: use the files that belong together"
        )
