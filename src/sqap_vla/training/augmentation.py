# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""What is done to training pictures so that the policy does not rely on one light, one table and one camera.

Everything is done to the picture: another look of the simulator itself is seen on no training frame.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sqap_vla.sim.camera import CameraConfig
from sqap_vla.training.viewpoint import Viewpoints, in_square_picture, plane_homography, warp_pictures, warp_points

_VIEWS = 512  # drawn once; pictures choose among them
_SHADING_CELLS = 5
_PERIODS_PX, _PATTERN_SHARE = (6.0, 70.0), 0.35


@dataclass(frozen=True)
class Augmentation:
    """clean_share: of pictures that are left alone. The others get all of the following.

    brightness, tint: each colour is multiplied, per picture, by exp of normal numbers with these deviations. shading:
    and by such a number that changes smoothly over the picture. pattern: and some by stripes or checks, exp of this at
    most.
    patches: how many rectangles of one colour are laid over it, up to patch_px wide and high. view_share: of them that
    are also seen from somewhere else, which `viewpoints` has.
    """

    clean_share: float = 0.3
    brightness: float = 0.35
    tint: float = 0.16
    shading: float = 0.09
    pattern: float = 0.3
    patches: int = 2
    patch_px: int = 36
    view_share: float = 0.6
    viewpoints: Viewpoints = field(default_factory=Viewpoints)

    def __call__(self, pixels: Tensor, keypoints: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """pixels: float32 [n, 3, S, S], 0 to 1, of the training camera. keypoints: [n, k, 2], where things are in them
        [px]. Returns both as they are now."""
        n = len(pixels)
        touched = rng.random(n) >= self.clean_share
        turned = touched & (rng.random(n) < self.view_share)
        views = _homographies(self.viewpoints, pixels.shape[-1])[rng.integers(_VIEWS, size=n)]
        views[~turned] = np.eye(3)
        homographies = _on(views, pixels)
        if turned.any():
            rows = torch.from_numpy(np.flatnonzero(turned)).to(pixels.device, non_blocking=True)
            pixels = pixels.index_copy(0, rows, warp_pictures(pixels[rows], homographies[rows]))
        log_gains = self._log_gains(n, pixels, rng) * _on(touched, pixels)[:, None, None, None]
        pixels = (pixels * log_gains.exp()).clamp(max=1.0)
        return self._cover(pixels, touched, rng), warp_points(keypoints, homographies)

    def _log_gains(self, n: int, like: Tensor, rng: np.random.Generator) -> Tensor:
        """Logarithms of what each colour is multiplied with, [n, 3, S, S]."""
        side = like.shape[-1]
        plain = rng.normal(0.0, self.brightness, (n, 1)) + rng.normal(0.0, self.tint, (n, 3))
        cells = rng.normal(0.0, self.shading, (n, 3, _SHADING_CELLS, _SHADING_CELLS))
        smooth = F.interpolate(_on(cells, like), (side, side), mode="bilinear", align_corners=True)
        return _on(plain, like)[..., None, None] + smooth + self._patterns(n, like, rng)[:, None]

    def _patterns(self, n: int, like: Tensor, rng: np.random.Generator) -> Tensor:
        """Stripes, and checks of two kinds of stripes, from soft to hard, [n, S, S]."""
        axis = torch.arange(like.shape[-1], device=like.device, dtype=like.dtype)
        angle, phase = rng.uniform(0.0, math.pi, (n, 2)), rng.uniform(0.0, 2 * math.pi, (n, 2))
        rate = 2 * math.pi / np.exp(rng.uniform(*np.log(_PERIODS_PX), (n, 2)))
        across, down, phase = (
            _on(values, like)[..., None, None] for values in (rate * np.cos(angle), rate * np.sin(angle), phase)
        )
        waves = torch.sin(across * axis + down * axis[:, None] + phase)  # [n, 2, S, S]
        hardness = _on(np.exp(rng.uniform(-1.0, 3.0, n)), like)[:, None, None]
        size = rng.uniform(0.0, self.pattern, (n, 2)) * (rng.random((n, 2)) < _PATTERN_SHARE)
        size = _on(size, like)[..., None, None]
        return (size * torch.tanh(hardness[:, None] * waves)).sum(dim=1)

    def _cover(self, pixels: Tensor, touched: np.ndarray, rng: np.random.Generator) -> Tensor:
        n, _, height, width = pixels.shape
        v, u = torch.arange(height, device=pixels.device), torch.arange(width, device=pixels.device)
        for _ in range(self.patches):
            size, place, colour = rng.uniform(6, self.patch_px, (n, 2)), rng.random((n, 2)), rng.random((n, 3))
            size[~touched] = 0.0
            middle = _on(place * (height, width), pixels)  # [n, 2]
            half = 0.5 * _on(size, pixels)
            rows = (v - middle[:, :1]).abs() < half[:, :1]  # [n, H]
            columns = (u - middle[:, 1:]).abs() < half[:, 1:]  # [n, W]
            covered = (rows[:, :, None] & columns[:, None])[:, None]  # [n, 1, H, W]
            pixels = torch.where(covered, _on(colour, pixels)[..., None, None], pixels)
        return pixels


@functools.lru_cache(maxsize=4)
def _homographies(viewpoints: Viewpoints, side_px: int) -> np.ndarray:
    """To `_VIEWS` other views of the training camera's pictures, [V, 3, 3]."""
    camera, rng = CameraConfig(), np.random.default_rng(0)
    others = [viewpoints.draw(camera, rng) for _ in range(_VIEWS)]
    return np.stack([in_square_picture(plane_homography(camera, other), camera, side_px) for other in others])


def _on(values: np.ndarray, like: Tensor) -> Tensor:
    return torch.from_numpy(values).to(like.device, torch.float32, non_blocking=True)
