# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Reading an official CogACT checkpoint directory.

    config.json               only vla.base_vlm is read
    dataset_statistics.json   {unnorm_key: {action: {q01, q99, mask}}}
    checkpoints/*.pt          {"model": {module: {key: tensor}}}; of several, the highest step number counts
    tiny_sizes.json           sizes, where they are not the official ones (see config.py)

The .pt is memory-mapped and copied tensor by tensor into the target dtype and device, so memory in use stays near the size of
the loaded model however large the file is (30 GB for CogACT-Base). Only tensors are unpickled (weights_only).
Every defect of the directory raises CheckpointError.
"""
from __future__ import annotations

import hashlib
import json
import logging
import pickle
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sqap_vla.cogact.config import CogActConfig, resolve_config
from sqap_vla.cogact.errors import CheckpointError
from sqap_vla.cogact.layout import MODULES, UNUSED_MODULES, build_on_meta, unused_shapes
from sqap_vla.cogact.model import CogAct
from sqap_vla.cogact.normalization import ActionStatistics, statistics_from_dict

__all__ = ["CheckpointError", "LoadedCheckpoint", "find_weights", "fingerprint", "load_checkpoint", "load_statistics"]

logger = logging.getLogger(__name__)

# Base VLMs with DINOv2 + SigLIP at 224 px, naive resizing and Llama-2-7b (prismatic/conf/models.py).
SUPPORTED_BASE_VLMS = ("prism-dinosiglip-224px+7b", "prism-dinosiglip-224px-controlled+7b")
_LISTED = 5  # names shown in an error; a wrong file has hundreds

# torch's restricted unpickler passes on whatever a damaged pickle makes it stumble over.
_DAMAGED_FILE_ERRORS = (RuntimeError, OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, AssertionError,
                        pickle.UnpicklingError)


@dataclass(frozen=True)
class LoadedCheckpoint:
    """A network ready for inference and what belongs to it. `step` is None if the file name has no step number."""

    model: CogAct
    config: CogActConfig
    statistics: dict[str, ActionStatistics]
    directory: Path
    weights: Path
    step: int | None


def load_checkpoint(directory: str | Path, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32,
                    step: int | None = None) -> LoadedCheckpoint:
    """Load the newest step, or `step`, of a checkpoint directory.

    dtype: of vision, projector and decoder; the action head is always float32. The model is in eval mode without gradients.
    Raises CheckpointError if anything is missing, unreadable, or does not fit the network.
    """
    directory = Path(directory)
    _check_base_vlm(directory)
    statistics = load_statistics(directory)
    weights = find_weights(directory, step)
    tensors = _open_weights(weights)
    config = _resolve_config(directory, tensors)
    model = build_on_meta(config)
    _check_tensors(weights, tensors, model.state_dict(), config)

    loaded = {}
    for name in model.state_dict():
        target_dtype = torch.float32 if name.startswith("action_model.") else dtype
        source = tensors.pop(name)
        # Always a copy: a view into the mapping would change, or fault, with the file.
        loaded[name] = torch.empty(source.shape, dtype=target_dtype, device=device).copy_(source)
    model.load_state_dict(loaded, assign=True)
    model.requires_grad_(False)
    logger.info("loaded %s: %.1f M parameters, %s on %s", weights, sum(p.numel() for p in model.parameters()) / 1e6, dtype, device)
    return LoadedCheckpoint(model, config, statistics, directory, weights, _step_number(weights))


def load_statistics(directory: str | Path) -> dict[str, ActionStatistics]:
    """Action statistics by unnorm_key. Raises CheckpointError."""
    return statistics_from_dict(_read_json(Path(directory) / "dataset_statistics.json"))


def find_weights(directory: str | Path, step: int | None = None) -> Path:
    """The .pt file of `step`, or the one with the highest step number. Raises CheckpointError if there is none."""
    folder = Path(directory) / "checkpoints"
    files = sorted(folder.glob("*.pt")) if folder.is_dir() else []
    if not files:
        raise CheckpointError(f"{folder} holds no .pt file; an official checkpoint directory has checkpoints/<name>.pt")
    numbered = {number: file for file in files if (number := _step_number(file)) is not None}
    if step is not None:
        if step not in numbered:
            raise CheckpointError(f"step {step} is not in {folder}; it has steps: {', '.join(map(str, sorted(numbered))) or 'none'}")
        return numbered[step]
    if numbered:
        return numbered[max(numbered)]
    if len(files) > 1:
        raise CheckpointError(f"{folder} holds {len(files)} .pt files without a step number ({_list([f.name for f in files])}); "
                              "keep one, or name them step-<number>....pt")
    return files[0]


def fingerprint(directory: str | Path, step: int | None = None) -> str:
    """SHA-256 over what decides the outputs: the JSON files and, for each tensor of the .pt, its name, size and stored CRC-32.

    Reads no weights, so it takes milliseconds for any size. Raises CheckpointError.
    """
    directory = Path(directory)
    digest = hashlib.sha256()
    for name in ("config.json", "dataset_statistics.json", "tiny_sizes.json"):
        file = directory / name
        digest.update(f"{name}:{hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else 'absent'}\n".encode())
    weights = find_weights(directory, step)
    try:
        with zipfile.ZipFile(weights) as archive:
            for entry in archive.infolist():
                record = entry.filename.partition("/")[2]  # the first part repeats the file's own name
                digest.update(f"{record}:{entry.file_size}:{entry.CRC}\n".encode())
    except (OSError, zipfile.BadZipFile) as error:
        raise _unreadable_weights(weights, error) from error
    return digest.hexdigest()


def _step_number(file: Path) -> int | None:
    match = re.search(r"step-(\d+)", file.name)
    return int(match[1]) if match else None


def _check_base_vlm(directory: Path) -> None:
    if not directory.is_dir():
        raise CheckpointError(f"checkpoint {directory} is not a directory; give the one that holds config.json and checkpoints/")
    config = _read_json(directory / "config.json")
    vla = config.get("vla")
    base_vlm = vla.get("base_vlm") if isinstance(vla, Mapping) else None
    if base_vlm not in SUPPORTED_BASE_VLMS:
        raise CheckpointError(f"config.json: vla.base_vlm is {base_vlm!r}; supported are {', '.join(SUPPORTED_BASE_VLMS)}")


def _resolve_config(directory: Path, tensors: Mapping[str, Tensor]) -> CogActConfig:
    sizes_file = directory / "tiny_sizes.json"
    sizes = _read_json(sizes_file) if sizes_file.exists() else {}
    try:
        return resolve_config(sizes, {name: tuple(tensor.shape) for name, tensor in tensors.items()})
    except KeyError as error:
        raise CheckpointError(f"{directory}: {error} is missing, so the network's size is unknown; "
                              "the checkpoint's tensors and tiny_sizes.json must describe every part") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{directory}: sizes are not usable: {error}") from error


def _open_weights(file: Path) -> dict[str, Tensor]:
    """Map the file and return its tensors by `module.key`."""
    try:
        content = torch.load(file, map_location="cpu", mmap=True, weights_only=True)
    except _DAMAGED_FILE_ERRORS as error:
        raise _unreadable_weights(file, error) from error
    modules = content.get("model") if isinstance(content, Mapping) else None
    if not isinstance(modules, Mapping) or not all(isinstance(module, Mapping) for module in modules.values()):
        raise CheckpointError(f"{file} does not hold a dictionary 'model' of modules; it must be an official CogACT checkpoint: "
                              '{"model": {"vision_backbone": {...}, ...}}')
    missing = [name for name in MODULES if name not in modules]
    unknown = [name for name in modules if name not in (*MODULES, *UNUSED_MODULES)]
    if missing or unknown:
        raise CheckpointError(f"{file}: modules missing: {_list(missing)}; not expected: {_list(unknown)}; "
                              f"'model' must hold {', '.join(MODULES)}")
    tensors = {f"{module}.{key}": value for module in MODULES for key, value in modules[module].items()}
    not_float = [name for name, value in tensors.items() if not (isinstance(value, Tensor) and value.is_floating_point())]
    if not_float:
        raise CheckpointError(f"{file}: not floating-point tensors: {_list(not_float)}; only unquantized weights can be loaded")
    return tensors


def _check_tensors(file: Path, tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], config: CogActConfig) -> None:
    unused = unused_shapes(config)
    missing = [name for name in expected if name not in tensors]
    unexpected = [name for name in tensors if name not in expected and name not in unused]
    wrong = [f"{name} {list(tensors[name].shape)} instead of {list(tensor.shape)}"
             for name, tensor in expected.items() if name in tensors and tensors[name].shape != tensor.shape]
    if missing or unexpected or wrong:
        raise CheckpointError(f"{file} does not fit the network: missing {_list(missing)}; not expected {_list(unexpected)}; "
                              f"wrong shapes {_list(wrong)}. Sizes come from tiny_sizes.json or, without it, from the "
                              "official networks: use the files that belong together")


def _unreadable_weights(file: Path, error: Exception) -> CheckpointError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return CheckpointError(f"{file} ({file.stat().st_size if file.exists() else 0} bytes) cannot be read as a PyTorch checkpoint "
                           f"of tensors: {reason}. It must be complete and in torch.save's zip format; copy or download it again")


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{file} is missing; a checkpoint directory must hold {file.name}: copy it from the original") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file} cannot be read as JSON ({error}); it must be the original file: copy it again") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{file} holds a {type(content).__name__}; it must be a JSON object: copy the original file")
    return content


def _list(names: list[str]) -> str:
    if not names:
        return "none"
    more = f", ... ({len(names)} in all)" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more
