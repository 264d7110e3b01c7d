# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The artifact directory: a checkpoint prepared once, then memory-mapped by every process that runs it.

See manifest.py for its content, writer.py for how it is written. Loading maps the shards and hands out views
of the map: on the CPU no weight is copied, pages come in as they are used and are shared between processes. A
GPU tensor cannot usefully cross processes; a file can.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from sqap_vla.cogact.checkpoint import LoadedCheckpoint, fingerprint, load_checkpoint, load_statistics
from sqap_vla.cogact.config import CogActConfig
from sqap_vla.cogact.normalization import ActionStatistics, statistics_for, statistics_from_dict
from sqap_vla.cogact.sizes import resolve_config
from sqap_vla.quantization.conversion import build_shell, specs_of
from sqap_vla.quantization.frames import CalibrationFrames
from sqap_vla.quantization.manifest import (
    MANIFEST_NAME,
    ArtifactError,
    Manifest,
    read_manifest,
    rewrite_remedy,
)
from sqap_vla.quantization.options import QuantizationOptions
from sqap_vla.quantization.order import Recipe, dtype_name
from sqap_vla.quantization.policy import QuantizationConfig
from sqap_vla.quantization.shards import Progress, check_artifact, map_tensors
from sqap_vla.quantization.writer import OnProgress, write_artifact

__all__ = [
    "ArtifactError",
    "Manifest",
    "PreparedArtifact",
    "Progress",
    "Recipe",
    "auto_dtype",
    "default_artifact_dir",
    "is_artifact",
    "load_artifact",
    "open_model",
    "prepare_artifact",
    "tokenizer_path",
    "verify_artifact",
    "write_artifact",
]

_WRITER_TIMEOUT_S = 3600.0


@dataclass(frozen=True)
class PreparedArtifact:
    directory: Path
    manifest: Manifest


def is_artifact(directory: str | Path) -> bool:
    """Whether a directory claims to be an artifact; whether it is a sound one, loading tells."""
    return (Path(directory) / MANIFEST_NAME).is_file()


def auto_dtype(device: str | torch.device) -> torch.dtype:
    """bfloat16 on cuda, float32 on the CPU, where bfloat16 products are slow or emulated."""
    return torch.bfloat16 if torch.device(device).type == "cuda" else torch.float32


def default_artifact_dir(content: str, recipe: Recipe) -> Path:
    """Where the artifact of a checkpoint with fingerprint `content` is cached."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", ""))  # a relative one is to be ignored, says the XDG specification
    return (cache if cache.is_absolute() else Path.home() / ".cache") / "sqap_vla" / "artifacts" / f"{content}-{recipe}"


def verify_artifact(
    directory: str | Path, contents: bool = True, progress: OnProgress = lambda progress: None
) -> Manifest:
    """The manifest, after every file has its size and, with contents, its checksum. Raises ArtifactError."""
    manifest = read_manifest(Path(directory))
    check_artifact(Path(directory), manifest, contents, progress)
    return manifest


def load_artifact(
    directory: str | Path,
    device: str | torch.device = "cpu",
    verify: bool = True,
    progress: OnProgress = lambda progress: None,
) -> LoadedCheckpoint:
    """The model of an artifact directory, in the dtype it was written in.

    verify: compare the checksums of all files (about 1.5 GB/s per core); sizes, names, dtypes and shapes are
    always compared. Raises ArtifactError.
    """
    directory = Path(directory)
    manifest = read_manifest(directory)
    while True:
        try:
            check_artifact(directory, manifest, verify, progress)
            return _load(directory, manifest, device)
        except ArtifactError:
            newer = read_manifest(directory)
            if newer == manifest:
                raise
            manifest = newer  # a writer replaced the artifact meanwhile and removed the files of the old one


def _load(directory: Path, manifest: Manifest, device: str | torch.device) -> LoadedCheckpoint:
    config, statistics = _described(directory, manifest)
    quantization = manifest.quantization_config
    try:
        model = build_shell(config, quantization)
    except ValueError as error:
        raise ArtifactError(
            f"{directory / MANIFEST_NAME}: quantization {quantization} does not fit model_config: {error}; "
            f"{rewrite_remedy(directory)}"
        ) from error
    specs = specs_of(model, getattr(torch, manifest.dtype), quantized=quantization is not None)
    expected = {spec.name: spec for spec in specs}
    names = [entry.name for entry in manifest.shards]
    model.load_state_dict(
        {name: tensor.to(device) for name, tensor in map_tensors(directory, names, expected)}, assign=True
    )
    model.requires_grad_(False)
    return LoadedCheckpoint(model, config, statistics, directory, directory / MANIFEST_NAME, manifest.source.step)


def _described(directory: Path, manifest: Manifest) -> tuple[CogActConfig, dict[str, ActionStatistics]]:
    try:
        return resolve_config(manifest.model_config, {}), statistics_from_dict(manifest.norm_stats)
    except (KeyError, TypeError, AttributeError, ValueError) as error:  # CheckpointError is a ValueError
        raise ArtifactError(
            f"{directory / MANIFEST_NAME}: model_config or norm_stats is not usable "
            f"({type(error).__name__}: {error}); {rewrite_remedy(directory)}"
        ) from error


def open_model(
    path: str | Path,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    quantization: QuantizationConfig | None = None,
    asked: QuantizationOptions | None = None,
    progress: OnProgress = lambda progress: None,
) -> LoadedCheckpoint:
    """An artifact or an official checkpoint directory -> the model, ready for inference.

    dtype: of what is not quantized; None is an artifact's own, and `auto_dtype` for a checkpoint. quantization: what a
    checkpoint is to run in where nothing else is asked for; unless that comes to None, it is compressed into the cache
    first (progress hears of it). asked: goes before `quantization`; an artifact runs at its own precision, and is
    refused where that is not what is asked for. Raises ArtifactError where an artifact is unsound or of another dtype
    or precision, CheckpointError where a checkpoint is unusable, ValueError where what is asked contradicts itself.
    """
    asked = QuantizationOptions() if asked is None else asked
    if is_artifact(path):
        _require(Path(path), read_manifest(Path(path)), dtype, asked)
        return load_artifact(path, device, progress=progress)
    dtype = auto_dtype(device) if dtype is None else dtype
    wanted = asked.on(quantization)
    if wanted is None:
        return load_checkpoint(path, device, dtype)
    return load_artifact(prepare_artifact(path, None, dtype, wanted, progress=progress).directory, device, verify=False)


def _require(directory: Path, manifest: Manifest, dtype: torch.dtype | None, asked: QuantizationOptions) -> None:
    own = manifest.quantization_config
    wanted = asked.on(own)
    if wanted != own:
        raise ArtifactError(
            f"artifact {directory} is {own or 'not quantized'}, asked for is {wanted or 'not quantized'} ({asked}); "
            "an artifact runs at its own precision: ask for that, or give the checkpoint it was made from"
        )
    if dtype is not None and dtype_name(dtype) != manifest.dtype:
        raise ArtifactError(
            f"artifact {directory} is {manifest.dtype}, asked for is {dtype_name(dtype)}; "
            "an artifact runs at its own precision: ask for that, or give the checkpoint it was made from"
        )


def tokenizer_path(path: str | Path) -> Path:
    """Where `Tokenizer.from_path` finds the tokenizer of a checkpoint or artifact directory, if it has one.

    Raises ArtifactError for an unsound manifest.
    """
    path = Path(path)
    return path / read_manifest(path).tokenizer_directory if is_artifact(path) else path


def prepare_artifact(
    path: str | Path,
    artifact_dir: str | Path | None = None,
    dtype: torch.dtype | None = None,
    quantization: QuantizationConfig | None = None,
    asked: QuantizationOptions | None = None,
    tokenizer: str | Path | None = None,
    unnorm_key: str = "",
    frames: CalibrationFrames | None = None,
    progress: OnProgress = lambda progress: None,
) -> PreparedArtifact:
    """A sound artifact for a checkpoint directory, written where there is none.

    Where path is an artifact directory it is verified as it is, and artifact_dir, tokenizer and frames have no effect.
    artifact_dir: None is the cache (`default_artifact_dir`). dtype, quantization, asked: as in `open_model`. tokenizer:
    None is the one beside the checkpoint, where there is one. unnorm_key: must be known, unless ''. frames: to
    calibrate on, for quantizations that need it. Waits while another process writes the same artifact. Raises
    CheckpointError, TokenizerError, ArtifactError, ValueError as `open_model`.
    """
    path = Path(path)
    asked = QuantizationOptions() if asked is None else asked
    if is_artifact(path):
        manifest = read_manifest(path)
        _require(path, manifest, dtype, asked)
        _require_unnorm_key(_described(path, manifest)[1], unnorm_key)
        return PreparedArtifact(path.resolve(), verify_artifact(path, progress=progress))
    dtype = auto_dtype("cuda" if torch.cuda.is_available() else "cpu") if dtype is None else dtype
    recipe = Recipe(dtype, asked.on(quantization), frames)
    _require_unnorm_key(load_statistics(path), unnorm_key)  # before gigabytes are written
    directory = default_artifact_dir(fingerprint(path), recipe) if artifact_dir is None else Path(artifact_dir)
    if tokenizer is None and any(path.glob("*tokenizer.json")):
        tokenizer = path
    manifest = write_artifact(path, directory, recipe, tokenizer, progress, lock_timeout_s=_WRITER_TIMEOUT_S)
    return PreparedArtifact(directory.resolve(), manifest)


def _require_unnorm_key(statistics: dict[str, ActionStatistics], unnorm_key: str) -> None:
    if unnorm_key:
        statistics_for(statistics, unnorm_key)
