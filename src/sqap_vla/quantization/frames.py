# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Frames to calibrate on: pictures and prompts as the network gets them. One forward pass of each, no training."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sqap_vla.cogact.model import CogAct
from sqap_vla.cogact.preprocess import preprocess

MAX_FRAMES = 64  # all of one prompt length are in memory together


@dataclass(frozen=True)
class CalibrationFrames:
    """dino, siglip: float32 [B, 3, 224, 224] as preprocess.py makes them. input_ids: a prompt for each."""

    dino: Tensor
    siglip: Tensor
    input_ids: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        count = len(self.input_ids)
        if not 0 < count <= MAX_FRAMES or self.dino.shape[0] != count or self.siglip.shape[0] != count:
            raise ValueError(
                f"{self.dino.shape[0]} pictures and {count} prompts; give 1 to {MAX_FRAMES} frames, a prompt for each"
            )

    @classmethod
    def of(cls, pictures: list[np.ndarray], prompts: list[list[int]]) -> CalibrationFrames:
        """pictures: uint8 [H, W, 3] each. prompts: ids of prompt.py. Raises ValueError for none or too many."""
        if not pictures:
            raise ValueError("there are no frames to calibrate on; give a recording that holds images")
        dino, siglip = (torch.stack(tower) for tower in zip(*map(preprocess, pictures), strict=True))
        return cls(dino, siglip, tuple(map(tuple, prompts)))

    def __len__(self) -> int:
        return len(self.input_ids)

    @property
    def digest(self) -> str:
        """Of their content, 16 hexadecimal digits."""
        digest = hashlib.sha256(repr(self.input_ids).encode())
        for tower in (self.dino, self.siglip):
            digest.update(tower.float().contiguous().numpy().data)
        return digest.hexdigest()[:16]

    def run(self, model: CogAct) -> None:
        """Passes them through the whole network. Prompts of one length at a time: padding must not be counted."""
        for length in sorted(set(map(len, self.input_ids))):
            rows = [row for row, ids in enumerate(self.input_ids) if len(ids) == length]
            visual = model.encode_images(self.dino[rows], self.siglip[rows])  # [b, N, D]
            cognition = model.cognition(visual, [self.input_ids[row] for row in rows]).cognition  # [b, D]
            head = model.config.head
            noise = torch.randn(
                len(rows), head.chunk_steps, head.action_dim, generator=torch.Generator().manual_seed(length)
            )
            model.sample_actions(cognition, noise)
