# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The diffusion process behind the action head: noise schedule, forward noising, deterministic DDIM.

Tables are float64; sampling runs in the dtype of the noise. The head predicts epsilon; x_0 is not clipped.
Source: action_model/gaussian_diffusion.py, action_model/respace.py; DDIM (arXiv 2010.02502) eq. 12 with eta =
0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch
from torch import Tensor

DIFFUSION_STEPS = 100


@dataclass(frozen=True)
class DiffusionSchedule:
    """Noise levels in ascending order.

    timesteps: int64 [S], each level's timestep of the original process (what the network is told).
    alphas_cumprod: float64 [S], share of the signal's variance left at that level.
    """

    timesteps: np.ndarray
    alphas_cumprod: np.ndarray

    @cached_property
    def alphas_cumprod_prev(self) -> np.ndarray:
        """float64 [S]: alphas_cumprod of the next lower level; 1 (no noise) below the lowest."""
        return np.append(1.0, self.alphas_cumprod[:-1])

    @cached_property
    def betas(self) -> np.ndarray:
        """float64 [S]: variance added between neighbouring levels."""
        return 1.0 - self.alphas_cumprod / self.alphas_cumprod_prev

    def add_noise(self, x0: Tensor, level: Tensor, noise: Tensor) -> Tensor:
        """Forward process q(x_t | x_0). x0, noise: [B, T, C]. level: int64 [B], indices of this schedule."""
        alphas = torch.as_tensor(self.alphas_cumprod, device=x0.device)[level]  # [B]
        signal, sigma = alphas.sqrt().to(x0.dtype), (1.0 - alphas).sqrt().to(x0.dtype)
        return signal[:, None, None] * x0 + sigma[:, None, None] * noise


@lru_cache
def cosine_schedule(steps: int = DIFFUSION_STEPS) -> DiffusionSchedule:
    """'squaredcos_cap_v2' (arXiv 2102.09672), betas capped at 0.999."""

    def signal(t: float) -> float:
        return math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2

    betas = [min(1.0 - signal((i + 1) / steps) / signal(i / steps), 0.999) for i in range(steps)]
    return DiffusionSchedule(np.arange(steps), np.cumprod(1.0 - np.array(betas)))


@lru_cache
def ddim_schedule(steps: int) -> DiffusionSchedule:
    """Every k-th level of the 100-step process such that `steps` remain; for one step, level 50 (respace.py).

    Raises ValueError if no whole stride gives that many, naming the counts that work.
    """
    full = cosine_schedule()
    strides = {len(range(0, DIFFUSION_STEPS, stride)): stride for stride in range(DIFFUSION_STEPS - 1, 0, -1)}
    if steps == 1:
        timesteps = np.array([DIFFUSION_STEPS // 2])
    elif steps in strides:
        timesteps = np.arange(0, DIFFUSION_STEPS, strides[steps])
    else:
        raise ValueError(f"ddim_steps is {steps}; {DIFFUSION_STEPS} steps can be strided to {sorted({1, *strides})}")
    return DiffusionSchedule(timesteps, full.alphas_cumprod[timesteps])


@dataclass(frozen=True)
class DdimStep:
    """One step of sampling: where it started, the estimate of x_0 there, and x at the next lower level."""

    level: int
    pred_x0: Tensor
    sample: Tensor


def ddim_trajectory(
    predict_noise: Callable[[Tensor, int], Tensor], noise: Tensor, schedule: DiffusionSchedule
) -> Iterator[DdimStep]:
    """DDIM from pure noise, highest level first; the last step's sample is the result.

    predict_noise(x, level): epsilon of x's shape; `level` is an index into `schedule`.
    """
    x = noise
    for level in reversed(range(len(schedule.timesteps))):
        alpha, alpha_prev = float(schedule.alphas_cumprod[level]), float(schedule.alphas_cumprod_prev[level])
        epsilon = predict_noise(x, level)
        pred_x0 = math.sqrt(1.0 / alpha) * x - math.sqrt(1.0 / alpha - 1.0) * epsilon
        x = math.sqrt(alpha_prev) * pred_x0 + math.sqrt(1.0 - alpha_prev) * epsilon
        yield DdimStep(level, pred_x0, x)
