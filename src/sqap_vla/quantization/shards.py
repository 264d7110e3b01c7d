# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Safetensors shards, written tensor by tensor and read through a memory map.

`safetensors.torch.save_file` wants a whole shard in memory; here one tensor at a time passes through, hashed
on its way to the disk, so that converting a 30 GB checkpoint holds no more than its largest tensor. The file
is plain safetensors (8 bytes length of the header, JSON header padded with spaces to a multiple of 8, data
without gaps), read back by the library itself. Within a shard wider dtypes come first, which keeps every
tensor aligned to its element size.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import stat
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sqap_vla.quantization.manifest import ArtifactError, FileEntry, Manifest, rewrite_remedy

SAFETENSORS_DTYPES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.int8: "I8", torch.uint8: "U8"}
_READ_BYTES = 4 * 2**20
_HASH_THREADS = 4


@dataclass(frozen=True)
class Progress:
    """How far a long step is, in bytes; total_bytes is 0 where nothing can be measured."""

    stage: str
    done_bytes: int
    total_bytes: int

    def __str__(self) -> str:
        if not self.total_bytes:
            return self.stage
        return f"{self.stage}: {100 * self.done_bytes // self.total_bytes} % of {self.total_bytes / 1e9:.2f} GB"


@dataclass(frozen=True)
class TensorSpec:
    """Name, dtype and shape of a tensor that is to be stored."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def size_bytes(self) -> int:
        return self.dtype.itemsize * math.prod(self.shape)

    @property
    def stored_dtype(self) -> str:
        """Its name in a safetensors header."""
        return SAFETENSORS_DTYPES[self.dtype]


def plan_shards(specs: Sequence[TensorSpec], max_bytes: int) -> list[list[TensorSpec]]:
    """Splits the tensors, in order, into shards of at most max_bytes; a larger tensor has one of its own."""
    shards: list[list[TensorSpec]] = []
    room = 0
    for spec in specs:
        if not shards or spec.size_bytes > room:
            shards.append([])
            room = max_bytes
        shards[-1].append(spec)
        room -= spec.size_bytes
    return [sorted(shard, key=lambda spec: -spec.dtype.itemsize) for shard in shards]


def _header(specs: Sequence[TensorSpec]) -> bytes:
    entries, end = {}, 0
    for spec in specs:
        begin, end = end, end + spec.size_bytes
        entries[spec.name] = {
            "dtype": spec.stored_dtype,
            "shape": list(spec.shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def write_shard(
    path: Path, specs: Sequence[TensorSpec], get: Callable[[str], Tensor], written: Callable[[int], None]
) -> FileEntry:
    """Writes and syncs a new file; get(name) gives a tensor, written(bytes) hears of it. Raises OSError."""
    digest = hashlib.sha256()
    with path.open("xb") as file:
        for chunk in _content(specs, get):
            digest.update(chunk)
            file.write(chunk)
            written(len(chunk))
        file.flush()
        os.fsync(file.fileno())
        size_bytes = file.tell()
    return FileEntry(path.name, size_bytes, digest.hexdigest())


def _content(specs: Sequence[TensorSpec], get: Callable[[str], Tensor]) -> Iterator[bytes | memoryview]:
    yield _header(specs)
    for spec in specs:
        tensor = get(spec.name).detach().to("cpu", spec.dtype).contiguous()
        if tuple(tensor.shape) != spec.shape:
            raise ArtifactError(
                f"tensor {spec.name} is {tuple(tensor.shape)}, planned was {spec.shape}; "
                "leave the checkpoint alone while it is converted"
            )
        yield tensor.reshape(-1).view(torch.uint8).numpy().data


def sha256_of(path: Path) -> str:
    """SHA-256 of a file that is not a symbolic link, lower-case hex. Raises OSError."""
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(_READ_BYTES))
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(buffer[:count])
    return digest.hexdigest()


def check_artifact(
    directory: Path,
    manifest: Manifest,
    contents: bool,
    progress: Callable[[Progress], None] = lambda progress: None,
) -> None:
    """Every file is there, regular (no link), of its size and, with contents, of its checksum.

    Raises ArtifactError naming the first that is not.
    """
    tokenizer = directory / manifest.tokenizer_directory
    if manifest.tokenizer and tokenizer.is_symlink():
        raise ArtifactError(f"{tokenizer} is a link; an artifact holds none; {rewrite_remedy(directory)}")
    files = [(directory / entry.name, entry) for entry in manifest.shards]
    files += [(tokenizer / entry.name, entry) for entry in manifest.tokenizer]
    for path, entry in files:
        _check_size(directory, path, entry)
    if not contents:
        return
    total_bytes, done_bytes = sum(entry.size_bytes for _, entry in files), 0
    with ThreadPoolExecutor(min(_HASH_THREADS, os.cpu_count() or 1)) as pool:  # hashlib lets go of the interpreter lock
        digests = [pool.submit(sha256_of, path) for path, _ in files]
        try:
            for (path, entry), digest in zip(files, digests, strict=True):
                _check_digest(directory, path, entry, digest)
                done_bytes += entry.size_bytes
                progress(Progress("verifying the artifact", done_bytes, total_bytes))
        finally:
            pool.shutdown(cancel_futures=True)


def _check_size(directory: Path, path: Path, entry: FileEntry) -> None:
    try:
        info = path.lstat()
    except OSError as error:
        raise ArtifactError(f"cannot read {path}: {error.strerror}; {rewrite_remedy(directory)}") from error
    if not stat.S_ISREG(info.st_mode):
        raise ArtifactError(f"{path} is not a regular file; an artifact holds no links; {rewrite_remedy(directory)}")
    if info.st_size != entry.size_bytes:
        raise ArtifactError(
            f"{path} has {info.st_size} bytes, the manifest says {entry.size_bytes}; it is truncated or was "
            f"changed; {rewrite_remedy(directory)}"
        )


def _check_digest(directory: Path, path: Path, entry: FileEntry, digest: Future[str]) -> None:
    try:
        found = digest.result()
    except OSError as error:
        raise ArtifactError(f"cannot read {path}: {error.strerror}; {rewrite_remedy(directory)}") from error
    if found != entry.sha256:
        raise ArtifactError(
            f"{path} has sha256 {found[:12]}..., the manifest says {entry.sha256[:12]}...; it is damaged; "
            f"{rewrite_remedy(directory)}"
        )


def map_tensors(
    directory: Path, names: Sequence[str], expected: Mapping[str, TensorSpec]
) -> Iterator[tuple[str, Tensor]]:
    """Yields every expected tensor as a view of its shard's memory map, on the CPU; nothing is copied.

    Raises ArtifactError where a shard is no safetensors file, or a tensor is missing, unknown, twice there,
    or of another dtype or shape.
    """
    missing = dict(expected)
    for name in names:
        path = directory / name
        try:
            with safe_open(path, framework="pt", device="cpu") as shard:
                for key in shard.keys():  # noqa: SIM118
                    spec = missing.pop(key, None)
                    if spec is None:
                        raise ArtifactError(
                            f"{path} holds tensor '{key}', which the model does not have or another shard "
                            f"holds already; {rewrite_remedy(directory)}"
                        )
                    stored = shard.get_slice(key)
                    found, wanted = (
                        (stored.get_dtype(), tuple(stored.get_shape())),
                        (spec.stored_dtype, spec.shape),
                    )
                    if found != wanted:
                        raise ArtifactError(
                            f"{path}: tensor '{key}' is {found[0]} {found[1]}; the model has {wanted[0]} "
                            f"{wanted[1]}; {rewrite_remedy(directory)}"
                        )
                    yield key, shard.get_tensor(key)
        except (SafetensorError, OSError) as error:
            raise ArtifactError(
                f"{path} is not a readable safetensors file: {error}; {rewrite_remedy(directory)}"
            ) from error
    if missing:
        raise ArtifactError(
            f"{directory} lacks {len(missing)} tensors of the model, first {', '.join(list(missing)[:3])}; "
            f"{rewrite_remedy(directory)}"
        )
