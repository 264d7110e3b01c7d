# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Batches of frames from the shards of one or more directories, which may grow meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sqap_vla.training.frames import Frames, read_shard, shard_files
from sqap_vla.training.objectives import Truth, normalize_chunks

Pick = tuple[Path, int]  # shard file and row


class FrameStore:
    """All frames found so far. `sources`: directory -> how often its frames are drawn, relative to their number."""

    def __init__(self, sources: dict[Path, float]) -> None:
        self._sources = sources
        self._seen: set[Path] = set()  # also those that were left out
        self._shards: dict[Path, Frames] = {}
        self.refresh()

    def refresh(self) -> None:
        """Takes in shards that have come since. Raises ValueError while there is no frame at all."""
        for directory in self._sources:
            for file in shard_files(directory):
                if file not in self._seen:
                    self._seen.add(file)
                    self._take(file, read_shard(file))
        if not self._shards:
            raise ValueError(f"no frames in {', '.join(map(str, self._sources))}; collect some first")
        weights = [self._sources[file.parent] * len(shard) for file, shard in self._shards.items()]
        self._files = list(self._shards)
        self._probability = np.array(weights) / sum(weights)

    def _take(self, file: Path, frames: Frames) -> None:
        self._shards[file] = frames

    def __len__(self) -> int:
        return sum(map(len, self._shards.values()))

    def draw(self, count: int, rng: np.random.Generator) -> list[Pick]:
        """`count` frames at random."""
        files = rng.choice(len(self._files), count, p=self._probability)
        rows = rng.random(count)
        return [
            (self._files[i], int(row * len(self._shards[self._files[i]]))) for i, row in zip(files, rows, strict=True)
        ]

    def batch(self, picks: Sequence[Pick], device: torch.device, images: bool = True) -> tuple[Tensor, Truth]:
        """Pictures uint8 [n, 224, 224, 3] and what they show, on `device`."""
        frames = self.gather(picks, images)
        return torch.from_numpy(frames.images).to(device), truth_of(frames).to(device)

    def gather(self, picks: Sequence[Pick], images: bool = True) -> Frames:
        """The frames, copied; with as many tasks as the one with the fewest has. images: False leaves them empty."""
        rows = [(self._shards[file], row) for file, row in picks]
        tasks = min(frames.tasks.shape[1] for frames, _ in rows)
        values = {name: np.stack([getattr(frames, name)[row] for frames, row in rows]) for name in _STATE}
        for name in ("tasks", "chunks"):
            values[name] = np.stack([getattr(frames, name)[row][:tasks] for frames, row in rows])
        empty = np.zeros((len(rows), 0, 0, 3), np.uint8)
        pictures = np.stack([frames.images[row] for frames, row in rows]) if images else empty
        return Frames(images=pictures, **values)


_STATE = ("keypoints", "points", "yaws", "hand", "drawer", "held")


class ResidentStore(FrameStore):
    """Holds its frames on a device, so that a batch is gathered there; a GPU is done with one sooner than a host could
    copy the next. capacity: frames; those that come after it is full are left out."""

    def __init__(self, sources: dict[Path, float], device: torch.device, capacity: int) -> None:
        self._device, self._capacity = device, capacity
        self._images: Tensor | None = None
        self._truth: Truth | None = None
        self._first: dict[Path, int] = {}  # row of a shard's first frame
        self._filled = 0
        super().__init__(sources)

    def _take(self, file: Path, frames: Frames) -> None:
        if self._filled + len(frames) > self._capacity:
            return
        super()._take(file, frames)
        images, truth = torch.from_numpy(np.array(frames.images)), truth_of(frames)
        if self._images is None or self._truth is None:
            self._images = images.new_empty(self._capacity, *images.shape[1:], device=self._device)
            self._truth = truth.room(self._capacity, self._device)
        self._first[file], end = self._filled, self._filled + len(frames)
        self._images[self._filled : end] = images.to(self._device)
        self._truth.put(self._filled, truth)
        self._filled = end

    def batch(self, picks: Sequence[Pick], device: torch.device, images: bool = True) -> tuple[Tensor, Truth]:
        rows = torch.tensor([self._first[file] + row for file, row in picks]).to(device, non_blocking=True)
        pictures = self._images[rows] if images else self._images[:0]
        return pictures, self._truth.rows(rows)


class TokenCache:
    """Visual tokens of frames, half precision, computed when they are first asked for: while the towers stand still,
    no picture goes through them twice."""

    def __init__(self, store: FrameStore, encode: Callable[[np.ndarray], Tensor]) -> None:
        """encode: pictures uint8 [n, 224, 224, 3] -> visual tokens [n, N, D]."""
        self._store, self._encode = store, encode
        self._tokens: dict[Pick, Tensor] = {}

    def tokens(self, picks: Sequence[Pick]) -> Tensor:
        """float32 [n, N, D]."""
        missing = [pick for pick in dict.fromkeys(picks) if pick not in self._tokens]
        if missing:
            encoded = self._encode(self._store.gather(missing).images).half()
            self._tokens.update(zip(missing, encoded.unbind(), strict=True))
        return torch.stack([self._tokens[pick] for pick in picks]).float()


def truth_of(frames: Frames) -> Truth:
    """What the frames' pictures show, and the normalised chunks."""
    return Truth(
        **{name: torch.from_numpy(np.asarray(getattr(frames, name))) for name in (*_STATE, "tasks")},
        chunks=torch.from_numpy(normalize_chunks(frames.chunks)),
    )
