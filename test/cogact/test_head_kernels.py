# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The DiT's GPU kernels, in Triton's interpreter, against the blocks they stand for."""

from __future__ import annotations

import os

import pytest
import torch
from torch import nn

from sqap_vla.cogact.action_head import NORM_EPS, DiTBlock

pytest.importorskip("triton", reason="Triton is not here; make test-kernels runs these with it")
if os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("TRITON_INTERPRET is set to something else than 1", allow_module_level=True)

from sqap_vla.cogact import head_kernels


@pytest.mark.parametrize(("rows", "inputs", "outputs"), [(34, 256, 96), (5, 128, 40), (70, 384, 64)], ids=str)
@pytest.mark.parametrize("gelu", [False, True])
def test_a_product_with_its_surroundings_equals_the_steps(rows, inputs, outputs, gelu):
    torch.manual_seed(0)
    x, layer, residual = torch.randn(rows, inputs), nn.Linear(inputs, outputs), torch.randn(rows, outputs)
    expected = layer(x)
    expected = (nn.functional.gelu(expected, approximate="tanh") if gelu else expected) + residual
    made = head_kernels.linear(x, layer, gelu, residual)
    torch.testing.assert_close(made, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("width", [96, 128])
def test_the_norm_equals_torchs(width):
    x = 3 + torch.randn(5, width)
    expected = nn.functional.layer_norm(x, (width,), eps=NORM_EPS)
    torch.testing.assert_close(head_kernels.norm(x, NORM_EPS), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("batch", [1, 3])
def test_blocks_equal_the_blocks(batch):
    torch.manual_seed(0)
    blocks = nn.ModuleList(DiTBlock(128, 4) for _ in range(2))
    assert head_kernels.fits(blocks)
    x = expected = torch.randn(batch, 17, 128)
    with torch.no_grad():
        for block in blocks:
            expected = block(expected)
        torch.testing.assert_close(head_kernels.run_blocks(blocks, x), expected, atol=1e-5, rtol=1e-5)


def test_what_the_kernels_do_not_take():
    assert not head_kernels.fits(nn.ModuleList([DiTBlock(96, 4)]))  # 24 wide
    assert not head_kernels.fits(nn.ModuleList([DiTBlock(64, 4)]))  # less than one tile
    assert not head_kernels.fits(nn.ModuleList([DiTBlock(128, 4).bfloat16()]))
