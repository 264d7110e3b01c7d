# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The vision towers' GPU kernel, in Triton's interpreter, against the steps it stands for."""

from __future__ import annotations

import os

import pytest
import torch
from torch import nn

from sqap_vla.cogact.config import VisionTowerConfig
from sqap_vla.cogact.vision import VisionTransformer

pytest.importorskip("triton", reason="Triton is not here; make test-kernels runs these with it")
if os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("TRITON_INTERPRET is set to something else than 1", allow_module_level=True)

from sqap_vla.cogact.residual_norm_kernel import add_and_norm


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("dim", [96, 128])
def test_scale_residual_and_norm_equal_the_steps(dtype, scaled, dim):
    torch.manual_seed(0)
    x, branch = (3 + torch.randn(2, 5, dim)).to(dtype), torch.randn(2, 5, dim).to(dtype)
    norm = nn.LayerNorm(dim, eps=1e-6)
    nn.init.normal_(norm.weight), nn.init.normal_(norm.bias)
    norm = norm.to(dtype)
    scale = torch.randn(dim).to(dtype) if scaled else None
    with torch.no_grad():
        total, normed = add_and_norm(x, branch, scale, norm)
        expected = x + (branch if scale is None else branch * scale)
        # The interpreter cuts bfloat16 off where a GPU rounds: up to two steps of values up to 16.
        exact = dtype == torch.float32
        torch.testing.assert_close(total, expected, atol=0 if exact else 0.125, rtol=0)
        step = 1e-5 if exact else 1e-1
        torch.testing.assert_close(normed, norm(expected), atol=step, rtol=step)


@pytest.mark.parametrize("layer_scale", [False, True])
def test_a_tower_run_with_the_kernel_equals_its_blocks(layer_scale):
    torch.manual_seed(0)
    config = VisionTowerConfig(embed_dim=32, depth=4, num_heads=2, mlp_hidden=64, layer_scale=layer_scale)
    tower = VisionTransformer(config)
    for parameter in tower.parameters():
        nn.init.normal_(parameter, std=0.2)
    x = expected = torch.randn(2, 9, 32)
    with torch.no_grad():
        for block in tower.blocks:
            expected = block(expected)
        torch.testing.assert_close(tower._run_joined(x, add_and_norm), expected, atol=1e-5, rtol=1e-5)
