# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The manifest of an artifact directory: what is in it, what it was made of, and the checksum of everything.

    manifest.json                              this file; the only name that is fixed
    model-<token>-00001-of-00008.safetensors   weights; a token for each writing, so that two can lie here
    tokenizer-<token>/tokenizer.json ...       the tokenizer, where one was given
    .lock                                      held by the process that writes

The manifest carries a SHA-256 of its own content (canonical JSON: sorted keys, no spaces, ASCII), because it
holds numbers that move a robot (norm_stats): an edited or damaged one is refused. Names in it are plain file
names, so none leads out of the directory. `quantization` is null for float weights, or what
QuantizationConfig.to_dict writes; a reader that does not know what stands there refuses the artifact.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from sqap_vla.quantization.policy import QuantizationConfig

MANIFEST_NAME = "manifest.json"
FORMAT = "sqap_vla artifact"
SCHEMA_VERSION = 2
FLOAT_DTYPES = ("float32", "bfloat16")
MAX_MANIFEST_BYTES = 32 * 2**20  # dataset statistics of all Open-X datasets take 0.1 MB

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class ArtifactError(ValueError):
    """An artifact cannot be written or read; the message gives the value, the rule and the remedy."""


def rewrite_remedy(directory: Path) -> str:
    return f"delete {directory} and let model_loader write it again from the checkpoint"


@dataclass(frozen=True)
class FileEntry:
    """One file of the artifact. name: plain file name; size_bytes: exact; sha256: lower-case hex."""

    name: str
    size_bytes: int
    sha256: str

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _PLAIN_NAME.fullmatch(self.name):
            raise ValueError(f"file name {self.name!r} is not a plain name of letters, digits, '.', '_' and '-'")
        if type(self.size_bytes) is not int or self.size_bytes < 0:
            raise ValueError(f"size_bytes of {self.name} is {self.size_bytes!r}; it must be a whole number >= 0")
        if not isinstance(self.sha256, str) or not _SHA256.fullmatch(self.sha256):
            raise ValueError(f"sha256 of {self.name} is {self.sha256!r}; it must be 64 hexadecimal digits")


@dataclass(frozen=True)
class Source:
    """The checkpoint. name: of its directory; weights, step: of its .pt file; fingerprint: of its content."""

    name: str
    weights: str
    step: int | None
    fingerprint: str

    def __post_init__(self) -> None:
        if not all(isinstance(text, str) for text in (self.name, self.weights, self.fingerprint)):
            raise ValueError(f"name, weights and fingerprint of source must be strings: {self!r}")
        if self.step is not None and type(self.step) is not int:
            raise ValueError(f"source.step is {self.step!r}; it must be a whole number or null")


@dataclass(frozen=True)
class Manifest:
    """Content of manifest.json.

    dtype: of what is not quantized; the action head is always float32, the embedding table of a quantized model always
    bfloat16. model_config: as cogact.sizes.sizes_of writes it. norm_stats: {unnorm_key: {"action": {"q01", "q99",
    "mask"}}}, the part of dataset_statistics.json that actions depend on. shards: the weights. tokenizer: files under
    tokenizer_directory ('' and () where there is none). created: UTC, ISO 8601. quantization: see the module.
    calibration: digest of the frames that it was calibrated on, '' without. Raises ValueError for a value of a wrong
    type.
    """

    source: Source
    dtype: str
    model_config: Mapping[str, Any]
    norm_stats: Mapping[str, Any]
    shards: tuple[FileEntry, ...]
    tokenizer_directory: str
    tokenizer: tuple[FileEntry, ...]
    created: str
    tool_version: str
    quantization: Mapping[str, Any] | None = None
    calibration: str = ""
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        texts = (self.dtype, self.tokenizer_directory, self.created, self.tool_version, self.calibration)
        if not all(isinstance(text, str) for text in texts):
            raise ValueError(
                f"dtype, tokenizer_directory, created, tool_version and calibration must be strings: {texts!r}"
            )
        if self.dtype not in FLOAT_DTYPES:
            raise ValueError(f"dtype is {self.dtype!r}; this version knows {', '.join(FLOAT_DTYPES)}")
        if self.quantization is not None:
            QuantizationConfig.from_dict(self.quantization)  # raises ValueError
        if not isinstance(self.model_config, Mapping) or not isinstance(self.norm_stats, Mapping):
            raise ValueError("model_config and norm_stats must be JSON objects")
        if not self.shards:
            raise ValueError("there are no shards")
        for group in (self.shards, self.tokenizer):
            if len({entry.name for entry in group}) != len(group):
                raise ValueError("a file is listed twice")
        if bool(self.tokenizer) != bool(self.tokenizer_directory):
            raise ValueError("tokenizer files without tokenizer_directory, or the reverse")
        if self.tokenizer_directory and not _PLAIN_NAME.fullmatch(self.tokenizer_directory):
            raise ValueError(f"tokenizer_directory {self.tokenizer_directory!r} is not a plain name")

    @property
    def quantization_config(self) -> QuantizationConfig | None:
        """None for float weights."""
        return None if self.quantization is None else QuantizationConfig.from_dict(self.quantization)

    @property
    def size_bytes(self) -> int:
        """Bytes of all weights."""
        return sum(entry.size_bytes for entry in self.shards)

    def summary(self) -> dict[str, Any]:
        """What the loader announces: small, JSON-serialisable, without the numbers."""
        return {
            "schema_version": self.schema_version,
            "tool_version": self.tool_version,
            "created": self.created,
            "source": asdict(self.source),
            "dtype": self.dtype,
            "quantization": self.quantization,
            "calibration": self.calibration,
            "size_bytes": self.size_bytes,
            "shards": len(self.shards),
            "unnorm_keys": sorted(self.norm_stats),
            "tokenizer": [entry.name for entry in self.tokenizer],
        }


def _checksum(body: Mapping[str, Any]) -> str:
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()


def encode(manifest: Manifest) -> bytes:
    """The bytes of manifest.json. Raises ValueError where a value is none that JSON can hold (NaN)."""
    body = {"format": FORMAT, **asdict(manifest)}
    body = json.loads(json.dumps(body, allow_nan=False))  # tuples become lists, as the reader will see them
    return (json.dumps({**body, "manifest_sha256": _checksum(body)}, indent=1, sort_keys=True) + "\n").encode("ascii")


def _reject_constant(text: str) -> None:
    raise ValueError(f"{text} is not a JSON number")


def _exact(document: Any, cls: type, what: str) -> dict[str, Any]:
    names = {field.name for field in fields(cls)}
    if not isinstance(document, dict) or set(document) != names:
        found = sorted(document) if isinstance(document, dict) else type(document).__name__
        raise ValueError(f"{what} must be an object with {', '.join(sorted(names))}; it is {found}")
    return document


def _entries(value: Any, what: str) -> tuple[FileEntry, ...]:
    if not isinstance(value, list):
        raise ValueError(f"{what} must be a list; it is {type(value).__name__}")
    return tuple(FileEntry(**_exact(item, FileEntry, f"an entry of {what}")) for item in value)


def decode(data: bytes) -> Manifest:
    """The inverse of `encode`. Raises ValueError for anything that `encode` would not have written."""
    try:
        document = json.loads(data.decode("utf-8"), parse_constant=_reject_constant)
        stated, computed = _split_checksum(document)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if stated != computed:
        raise ValueError("its content does not match its own manifest_sha256; it was edited or damaged")
    body = _exact({key: value for key, value in document.items() if key != "format"}, Manifest, "the manifest")
    return Manifest(
        **{
            **body,
            "source": Source(**_exact(body["source"], Source, "source")),
            "shards": _entries(body["shards"], "shards"),
            "tokenizer": _entries(body["tokenizer"], "tokenizer"),
        }
    )


def _split_checksum(document: Any) -> tuple[Any, str]:
    """Takes the checksum out of a document of the right format and version -> (stated, computed)."""
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ValueError(f"it does not say format '{FORMAT}'; this is not an artifact's manifest")
    version = document.get("schema_version")
    if type(version) is not int or version != SCHEMA_VERSION:
        raise ValueError(f"schema_version is {version!r}; this version of sqap_vla reads {SCHEMA_VERSION}")
    return document.pop("manifest_sha256", None), _checksum(document)


def read_manifest(directory: Path) -> Manifest:
    """The manifest of a directory. Raises ArtifactError: absent, unreadable, damaged, of another version."""
    path = Path(directory) / MANIFEST_NAME
    try:
        with path.open("rb") as file:
            data = file.read(MAX_MANIFEST_BYTES + 1)
    except OSError as error:
        raise ArtifactError(
            f"cannot read {path}: {error.strerror}; an artifact directory is what model_loader writes, "
            "an official checkpoint is opened as such"
        ) from error
    if len(data) > MAX_MANIFEST_BYTES:
        raise ArtifactError(
            f"{path} is larger than {MAX_MANIFEST_BYTES} bytes and cannot be a manifest; {rewrite_remedy(path.parent)}"
        )
    try:
        return decode(data)
    except ValueError as error:  # JSON and UTF-8 errors are ValueErrors too
        raise ArtifactError(f"{path}: {error}; {rewrite_remedy(path.parent)}") from error
