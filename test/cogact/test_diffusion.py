# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
import torch
from tolerance import close

from sqap_vla.cogact.diffusion import cosine_schedule, ddim_schedule, ddim_trajectory

TABLE_ATOL = 1e-12


@pytest.fixture(scope="module")
def expected(arrays):
    return arrays("a_action_head_tok96")


def test_full_tables_match(expected):
    schedule = cosine_schedule()
    close(schedule.betas, expected["full_betas"], TABLE_ATOL)
    close(schedule.alphas_cumprod, expected["full_alphas_cumprod"], TABLE_ATOL)
    np.testing.assert_array_equal(schedule.timesteps, expected["full_timestep_map"])


@pytest.mark.parametrize("steps", [10, 5])
def test_strided_tables_match(expected, steps):
    schedule = ddim_schedule(steps)
    np.testing.assert_array_equal(schedule.timesteps, expected[f"ddim{steps}_timestep_map"])
    close(schedule.alphas_cumprod, expected[f"ddim{steps}_alphas_cumprod"], TABLE_ATOL)
    close(schedule.alphas_cumprod_prev, expected[f"ddim{steps}_alphas_cumprod_prev"], TABLE_ATOL)
    close(schedule.betas, expected[f"ddim{steps}_betas"], TABLE_ATOL)


def test_forward_noising_matches(expected):
    x0, level, noise = (torch.from_numpy(expected[key]) for key in ("q_x0", "q_t", "noise"))
    close(cosine_schedule().add_noise(x0, level, noise), expected["q_sample"], 1e-6)


@pytest.mark.parametrize("steps", [1, 2, 4, 5, 10, 20, 25, 50, 100])
def test_sampling_recovers_x0_when_the_noise_is_known(steps):
    """With a perfect epsilon every step's estimate is x_0 itself, whatever the stride."""
    schedule = ddim_schedule(steps)
    x0, epsilon = torch.randn(2, 16, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).unbind()
    top = torch.tensor([steps - 1])
    start = schedule.add_noise(x0[None], top, epsilon[None])
    for step in ddim_trajectory(lambda x, level: epsilon[None], start, schedule):
        close(step.pred_x0[0], x0.numpy(), 1e-9)
    close(step.sample[0], x0.numpy(), 1e-9)


def test_a_step_count_without_a_whole_stride_is_refused():
    with pytest.raises(ValueError, match=r"ddim_steps is 30; 100 steps can be strided to \[1, 2, 3,"):
        ddim_schedule(30)
