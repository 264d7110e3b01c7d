# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The files of a checkpoint directory: finding them, reading them safely, telling contents apart.

    config.json               only vla.base_vlm is read
    dataset_statistics.json   {unnorm_key: {action: {q01, q99, mask}}}
    checkpoints/*.pt          {"model": {module: {key: tensor}}}; of several, the highest step number counts
    tiny_sizes.json           sizes, where they are not the official ones (see sizes.py)

The .pt is memory-mapped and only tensors are unpickled, so opening a file costs no memory and runs no code of
its own. Every defect raises CheckpointError.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sqap_vla.cogact.errors import CheckpointError
from sqap_vla.cogact.layout import MODULES, UNUSED_MODULES

JSON_FILES = ("config.json", "dataset_statistics.json", "tiny_sizes.json")
_LISTED = 5  # names shown in an error; a wrong file has hundreds

# torch's restricted unpickler passes on whatever a damaged pickle makes it stumble over.
_DAMAGED_FILE_ERRORS = (
    RuntimeError,
    OSError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    pickle.UnpicklingError,
)


def find_weights(directory: str | Path, step: int | None = None) -> Path:
    """The .pt file of `step`, or the one with the highest step number."""
    folder = Path(directory) / "checkpoints"
    files = sorted(folder.glob("*.pt")) if folder.is_dir() else []
    if not files:
        raise CheckpointError(f"{folder} holds no .pt file; an official checkpoint directory has checkpoints/<name>.pt")
    numbered = {number: file for file in files if (number := step_number(file)) is not None}
    if step is not None and step not in numbered:
        known = ", ".join(map(str, sorted(numbered))) or "none"
        raise CheckpointError(f"step {step} is not in {folder}; it has steps: {known}")
    if numbered:
        return numbered[max(numbered) if step is None else step]
    if len(files) > 1:
        raise CheckpointError(
            f"{folder} holds several .pt files without a step number ({listing([f.name for f in files])}); "
            "keep one, or name them step-<number>....pt"
        )
    return files[0]


def step_number(weights: Path) -> int | None:
    """The number in names such as step-010000-epoch-02-loss=0.12.pt."""
    match = re.search(r"step-(\d+)", weights.name)
    return int(match[1]) if match else None


def fingerprint(directory: str | Path, step: int | None = None) -> str:
    """SHA-256 over what decides the outputs: the JSON files, and each tensor's name, size and stored CRC-32.

    Reads no weights, so it takes milliseconds for any size.
    """
    directory = Path(directory)
    digest = hashlib.sha256()
    for name in JSON_FILES:
        file = directory / name
        content = hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else "absent"
        digest.update(f"{name}:{content}\n".encode())
    weights = find_weights(directory, step)
    try:
        with zipfile.ZipFile(weights) as archive:
            for entry in archive.infolist():
                record = entry.filename.partition("/")[2]  # the first part repeats the file's own name
                digest.update(f"{record}:{entry.file_size}:{entry.CRC}\n".encode())
    except (OSError, zipfile.BadZipFile) as error:
        raise _unreadable_weights(weights, error) from error
    return digest.hexdigest()


def open_weights(file: Path) -> dict[str, Tensor]:
    """Map the file and return its tensors by `module.key`; they are views of the mapping."""
    try:
        content = torch.load(file, map_location="cpu", mmap=True, weights_only=True)
    except _DAMAGED_FILE_ERRORS as error:
        raise _unreadable_weights(file, error) from error
    modules = content.get("model") if isinstance(content, Mapping) else None
    if not isinstance(modules, Mapping) or not all(isinstance(m, Mapping) for m in modules.values()):
        raise CheckpointError(
            f"{file} does not hold a dictionary 'model' of modules; an official CogACT checkpoint is "
            '{"model": {"vision_backbone": {...}, ...}}: give such a file'
        )
    missing = [name for name in MODULES if name not in modules]
    unknown = [name for name in modules if name not in (*MODULES, *UNUSED_MODULES)]
    if missing or unknown:
        raise CheckpointError(
            f"{file}: modules missing: {listing(missing)}; not expected: {listing(unknown)}; "
            f"'model' must hold {', '.join(MODULES)}"
        )
    tensors = {f"{module}.{key}": value for module in MODULES for key, value in modules[module].items()}
    others = [k for k, v in tensors.items() if not (isinstance(v, Tensor) and v.is_floating_point())]
    if others:
        raise CheckpointError(
            f"{file}: not floating-point tensors: {listing(others)}; give the original, unquantized weights"
        )
    return tensors


def read_json(file: Path) -> dict[str, Any]:
    """A JSON file that holds an object."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{file} is missing; a checkpoint directory must hold {file.name}: copy it from the original"
        ) from error
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{file} cannot be read as JSON ({error}); it must be the original file: copy it again"
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{file} holds a {type(content).__name__}; it must be a JSON object: copy the original file"
        )
    return content


def listing(names: list[str]) -> str:
    """The first few names, for an error message."""
    if not names:
        return "none"
    more = f", ... ({len(names)} in all)" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more


def _unreadable_weights(file: Path, error: Exception) -> CheckpointError:
    reason = str(error).strip().partition("\n")[0] or type(error).__name__
    size = file.stat().st_size if file.exists() else 0
    return CheckpointError(
        f"{file} ({size} bytes) cannot be read as a PyTorch checkpoint of tensors: {reason}. "
        "It must be complete and in torch.save's zip format; copy or download it again"
    )
