# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Frames to measure layers on where no recorded ones are given: drawn from a fixed seed, the same on every machine.

They are colour gradients with boxes on them, no photographs. Measured on frames of the robot's own camera the choice
of layers may differ; `layers_dropped` takes such a choice.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sqap_vla.cogact.model import CogAct
from sqap_vla.cogact.preprocess import IMAGE_SIZE_PX, preprocess
from sqap_vla.cogact.prompt import Tokenizer

INSTRUCTION = "pick up the object"
PICTURES = 4
BOXES = 12


def calibration_pictures() -> list[np.ndarray]:
    """uint8 [224, 224, 3] each."""
    random = np.random.default_rng(0)
    return [_picture(random) for _ in range(PICTURES)]


@torch.inference_mode()
def calibration_embeds(model: CogAct, tokenizer: Tokenizer) -> Tensor:
    """What the decoder is given for these pictures and one instruction: [B, T, D]."""
    towers = zip(*map(preprocess, calibration_pictures()), strict=True)
    visual = model.encode_images(*(torch.stack(tower) for tower in towers))
    return model.embed(visual, [tokenizer.encode(INSTRUCTION)] * PICTURES)[0]


def _picture(random: np.random.Generator) -> np.ndarray:
    ramp = np.linspace(0, 1, IMAGE_SIZE_PX)[:, None]
    corners = random.uniform(0, 255, (4, 3))
    top, bottom = (corners[i] * (1 - ramp) + corners[i + 1] * ramp for i in (0, 2))  # [S, 3]
    picture = top[None] * (1 - ramp[:, None]) + bottom[None] * ramp[:, None]  # [S, S, 3]
    for _ in range(BOXES):
        (v, u), (height, width) = random.integers(0, IMAGE_SIZE_PX, 2), random.integers(8, 64, 2)
        picture[v : v + height, u : u + width] = random.uniform(0, 255, 3)
    return picture.round().astype(np.uint8)
