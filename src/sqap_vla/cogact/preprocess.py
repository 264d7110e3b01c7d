# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Camera frame -> the two normalised pictures that the vision towers see.

The whole frame is resized to 224x224 without keeping its aspect ratio ("resize-naive"), with PIL's
antialiased bicubic filter, once for both towers; then each tower's own mean and standard deviation. No crop:
a pixel (u, v) of a WxH frame lands at (224 u / W, 224 v / H). Source:
prismatic/models/backbones/vision/dinosiglip_vit.py, timm's data configs.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from PIL import Image
from torch import Tensor

IMAGE_SIZE_PX = 224
DINO_MEAN, DINO_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet
SIGLIP_MEAN, SIGLIP_STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)


def preprocess(rgb: np.ndarray) -> tuple[Tensor, Tensor]:
    """Resize and normalise one frame.

    rgb: uint8 [H, W, 3], RGB. Returns (dino, siglip), float32 [3, 224, 224] each.
    Raises ValueError if `rgb` is not such an array.
    """
    return normalize(resize(rgb))


def check_rgb(rgb: np.ndarray) -> None:
    """Raises ValueError for anything but uint8 [H, W, 3]."""
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or 0 in rgb.shape:
        raise ValueError(f"rgb is {rgb.dtype} {rgb.shape}; it must be uint8 [H, W, 3] and not empty")


def resize(rgb: np.ndarray) -> np.ndarray:
    """Frame uint8 [H, W, 3] -> uint8 [224, 224, 3]. Raises ValueError for another kind of array."""
    check_rgb(rgb)
    return np.array(Image.fromarray(rgb).resize((IMAGE_SIZE_PX, IMAGE_SIZE_PX), Image.Resampling.BICUBIC))


def normalize(picture: np.ndarray) -> tuple[Tensor, Tensor]:
    """Resized frame uint8 [224, 224, 3] -> (dino, siglip), float32 [3, 224, 224] each."""
    dino, siglip = normalize_pictures(torch.from_numpy(picture)[None])
    return dino[0], siglip[0]


def normalize_pictures(pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Resized frames uint8 [B, 224, 224, 3] -> (dino, siglip), float32 [B, 3, 224, 224] each, on the same device."""
    return normalize_pixels(pixels_of(pictures))


def pixels_of(pictures: Tensor) -> Tensor:
    """Resized frames uint8 [B, 224, 224, 3] -> float32 [B, 3, 224, 224], 0 to 1."""
    return pictures.permute(0, 3, 1, 2).contiguous().to(torch.float32).div(255)


def normalize_pixels(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Pixels [B, 3, 224, 224] -> (dino, siglip), float32 [B, 3, 224, 224] each."""
    towers = ((DINO_MEAN, DINO_STD), (SIGLIP_MEAN, SIGLIP_STD))
    dino, siglip = (
        (pixels - _per_channel(mean, pixels.device)) / _per_channel(std, pixels.device) for mean, std in towers
    )
    return dino, siglip


@functools.lru_cache(maxsize=32)
def _per_channel(values: tuple[float, ...], device: torch.device) -> Tensor:
    """float32 [3, 1, 1], uploaded once."""
    with torch.inference_mode(False):
        return torch.tensor(values, device=device)[:, None, None]
