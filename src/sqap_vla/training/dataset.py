# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Batches of frames from the shards of one or more directories, which may grow meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sqap_vla.cogact.preprocess import DINO_MEAN, DINO_STD, SIGLIP_MEAN, SIGLIP_STD
from sqap_vla.training.frames import Frames, read_shard, shard_files
from sqap_vla.training.objectives import Truth, normalize_chunks

Pick = tuple[Path, int]  # shard file and row


class FrameStore:
    """All frames found so far. `sources`: directory -> how often its frames are drawn, relative to their number."""

    def __init__(self, sources: dict[Path, float]) -> None:
        self._sources = sources
        self._shards: dict[Path, Frames] = {}
        self.refresh()

    def refresh(self) -> None:
        """Takes in shards that have come since. Raises ValueError while there is no frame at all."""
        for directory in self._sources:
            for file in shard_files(directory):
                if file not in self._shards:
                    self._shards[file] = read_shard(file)
        weights = [self._sources[file.parent] * len(shard) for file, shard in self._shards.items()]
        if not weights:
            raise ValueError(f"no frames in {', '.join(map(str, self._sources))}; collect some first")
        self._files = list(self._shards)
        self._probability = np.array(weights) / sum(weights)

    def __len__(self) -> int:
        return sum(map(len, self._shards.values()))

    def draw(self, count: int, rng: np.random.Generator) -> list[Pick]:
        """`count` frames at random."""
        files = rng.choice(len(self._files), count, p=self._probability)
        return [(self._files[i], int(rng.integers(len(self._shards[self._files[i]])))) for i in files]

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


@dataclass(frozen=True)
class Augmentation:
    """Of the picture's colours: each is multiplied, per picture, by exp of a normal number with these deviations."""

    brightness: float = 0.10
    tint: float = 0.05

    def gains(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Factors [count, 3]."""
        return np.exp(rng.normal(0.0, self.brightness, (count, 1)) + rng.normal(0.0, self.tint, (count, 3)))


def truth_of(frames: Frames) -> Truth:
    """What the frames' pictures show, and the normalised chunks."""
    return Truth(
        **{name: torch.from_numpy(np.asarray(getattr(frames, name))) for name in (*_STATE, "tasks")},
        chunks=torch.from_numpy(normalize_chunks(frames.chunks)),
    )


def pictures_of(images: np.ndarray, gains: np.ndarray | None = None) -> tuple[Tensor, Tensor]:
    """Pictures uint8 [n, 224, 224, 3] as the two towers take them. gains [n, 3]: of each colour."""
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).to(torch.float32).div_(255.0)
    if gains is not None:
        pixels = (pixels * torch.from_numpy(gains).float()[..., None, None]).clamp_(max=1.0)
    return _scale(pixels, DINO_MEAN, DINO_STD), _scale(pixels, SIGLIP_MEAN, SIGLIP_STD)


def _scale(pixels: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    return (pixels - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
