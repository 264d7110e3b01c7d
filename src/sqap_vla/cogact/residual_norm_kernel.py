# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""What lies between two products of a vision block as one GPU kernel: layer scale, residual, LayerNorm."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor, nn

from sqap_vla.cogact.head_kernels import layer_norm


@triton.jit
def _add_and_norm(
    sum_ptr, normed_ptr, x_ptr, branch_ptr, scale_ptr, gain_ptr, bias_ptr,
    eps, DIM: tl.constexpr, SCALED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One row."""
    row, k = tl.program_id(0).to(tl.int64) * DIM, tl.arange(0, BLOCK)
    inside = k < DIM
    x = tl.load(x_ptr + row + k, mask=inside, other=0.0)
    branch = tl.load(branch_ptr + row + k, mask=inside, other=0.0).to(tl.float32)
    if SCALED:  # rounded where the steps in x's dtype would be
        branch = (branch * tl.load(scale_ptr + k, mask=inside, other=0.0).to(tl.float32)).to(x.dtype).to(tl.float32)
    total = (x.to(tl.float32) + branch).to(x.dtype)
    tl.store(sum_ptr + row + k, total, mask=inside)
    wide = total.to(tl.float32)
    normed = layer_norm(wide, inside, eps, DIM)
    gain = tl.load(gain_ptr + k, mask=inside, other=0.0).to(tl.float32)
    bias = tl.load(bias_ptr + k, mask=inside, other=0.0).to(tl.float32)
    tl.store(normed_ptr + row + k, (normed * gain + bias).to(x.dtype), mask=inside)


def add_and_norm(x: Tensor, branch: Tensor, scale: Tensor | None, norm: nn.LayerNorm) -> tuple[Tensor, Tensor]:
    """x, branch [B, N, D], scale [D] -> x + scale * branch, and its LayerNorm."""
    x, branch = x.contiguous(), branch.contiguous()
    total, normed = torch.empty_like(x), torch.empty_like(x)
    dim = x.shape[-1]
    _add_and_norm[(x.numel() // dim,)](
        total, normed, x, branch, scale, norm.weight, norm.bias,
        norm.eps, DIM=dim, SCALED=scale is not None, BLOCK=triton.next_power_of_2(dim), num_warps=4,
    )  # fmt: skip
    return total, normed
