# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""What a writer is to make of which checkpoint, and how to tell whether that is done already or was begun."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import torch

from sqap_vla.cogact.checkpoint import LoadedCheckpoint, load_checkpoint
from sqap_vla.cogact.checkpoint_files import fingerprint
from sqap_vla.cogact.prompt import Tokenizer
from sqap_vla.quantization.frames import CalibrationFrames
from sqap_vla.quantization.manifest import FLOAT_DTYPES, ArtifactError, Manifest, Source
from sqap_vla.quantization.policy import QuantizationConfig


def dtype_name(dtype: torch.dtype) -> str:
    """float32 or bfloat16. Raises ArtifactError for any other."""
    name = str(dtype).removeprefix("torch.")
    if name not in FLOAT_DTYPES:
        raise ArtifactError(f"dtype is {name}; an artifact holds {' or '.join(FLOAT_DTYPES)}")
    return name


@dataclass(frozen=True)
class Recipe:
    """How an artifact is made. dtype: of what is not quantized. quantization: None for float weights. frames: for
    quantizations that need calibration, and no others.

    Raises ArtifactError for a dtype that artifacts do not hold, frames that are missing or not wanted.
    """

    dtype: torch.dtype
    quantization: QuantizationConfig | None = None
    frames: CalibrationFrames | None = None

    def __post_init__(self) -> None:
        dtype_name(self.dtype)
        needed = self.quantization is not None and self.quantization.needs_calibration
        if needed and self.frames is None:
            raise ArtifactError(
                f"quantization {self.quantization} needs calibration frames; "
                "make the artifact with sqap-vla compress --calibrate BAG, and give its directory"
            )
        if self.frames is not None and not needed:
            raise ArtifactError(
                f"calibration frames are given, and quantization {self.quantization} needs none; leave them out, or "
                "take granularity channel or preset calibrated"
            )

    @property
    def calibration(self) -> str:
        """Digest of the frames, '' without."""
        return self.frames.digest if self.frames is not None else ""

    def __str__(self) -> str:
        """As part of a directory's name."""
        name = dtype_name(self.dtype)
        if self.quantization is None:
            return name
        content = json.dumps([self.quantization.to_dict(), self.calibration], sort_keys=True).encode()
        return f"{name}-{self.quantization.policy.precision.value}-{hashlib.sha256(content).hexdigest()[:8]}"


@dataclass(frozen=True)
class Order:
    """One artifact to be written. tokenizer: content of its files by name."""

    checkpoint: LoadedCheckpoint
    source: Source
    recipe: Recipe
    tokenizer: dict[str, bytes]
    max_shard_bytes: int

    @classmethod
    def of(cls, checkpoint_dir: Path, recipe: Recipe, tokenizer: str | Path | None, max_shard_bytes: int) -> Order:
        """Checks the whole source and holds nothing of it. Raises CheckpointError, TokenizerError."""
        checkpoint = load_checkpoint(checkpoint_dir, device="meta")
        source = Source(
            checkpoint_dir.resolve().name, checkpoint.weights.name, checkpoint.step, fingerprint(checkpoint_dir)
        )
        return cls(checkpoint, source, recipe, _tokenizer_files(tokenizer), max_shard_bytes)

    def is_met_by(self, manifest: Manifest) -> bool:
        """Whether writing would give the same content again."""
        return self._identity() == {
            "fingerprint": manifest.source.fingerprint,
            "dtype": manifest.dtype,
            "quantization": manifest.quantization,
            "calibration": manifest.calibration,
            "tokenizer": {entry.name: entry.sha256 for entry in manifest.tokenizer},
        }

    @property
    def digest(self) -> str:
        """Equal where every file would be: then an unfinished writing can be gone on with."""
        content = {**self._identity(), "max_shard_bytes": self.max_shard_bytes, "tool_version": tool_version()}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def manifest_fields(self) -> dict[str, object]:
        """What the manifest says of it, files apart."""
        quantization = self.recipe.quantization
        return {
            "source": self.source,
            "dtype": dtype_name(self.recipe.dtype),
            "quantization": None if quantization is None else quantization.to_dict(),
            "calibration": self.recipe.calibration,
            "tool_version": tool_version(),
        }

    def _identity(self) -> dict[str, object]:
        fields = self.manifest_fields()
        return {
            "fingerprint": self.source.fingerprint,
            **{key: fields[key] for key in ("dtype", "quantization", "calibration")},
            "tokenizer": {name: hashlib.sha256(content).hexdigest() for name, content in self.tokenizer.items()},
        }


def tool_version() -> str:
    try:
        return f"sqap_vla {metadata.version('sqap_vla')}"
    except metadata.PackageNotFoundError:  # run from the source tree
        return "sqap_vla (source tree)"


def _tokenizer_files(tokenizer: str | Path | None) -> dict[str, bytes]:
    """The files that a tokenizer consists of, by the names that `Tokenizer.from_path` looks for."""
    if tokenizer is None:
        return {}
    path = Tokenizer.from_path(tokenizer).path
    files = {"tokenizer.json": path.read_bytes()}
    config = path.with_name("tokenizer_config.json")
    return files | ({config.name: config.read_bytes()} if config.is_file() else {})
