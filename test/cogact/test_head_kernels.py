# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The action head's GPU kernels, in Triton's interpreter, against the head they stand for."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sqap_vla.cogact.action_head import NORM_EPS, ActionModel, DiT
from sqap_vla.cogact.config import HeadConfig

pytest.importorskip("triton", reason="Triton is not here; make test-kernels runs these with it")
if os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("TRITON_INTERPRET is set to something else than 1", allow_module_level=True)

from sqap_vla.cogact import head_kernels
from sqap_vla.cogact.fast_head import FastHead, fits
from sqap_vla.cogact.head_kernels import Tiling

HALF = 2e-3  # of values near 1, after a few hundred products of float16


def head_config(**changes) -> HeadConfig:
    return replace(HeadConfig(depth=1, hidden_size=64, num_heads=4, token_size=48), **changes)


def random_head(config: HeadConfig) -> ActionModel:
    torch.manual_seed(0)
    model = ActionModel(config).requires_grad_(False)
    for parameter in model.parameters():
        if not parameter.any():  # positions, biases
            nn.init.normal_(parameter, std=0.3)
    return model


@pytest.mark.parametrize(("rows", "inputs", "outputs"), [(34, 256, 96), (5, 128, 48), (70, 384, 64)], ids=str)
@pytest.mark.parametrize("gelu", [False, True])
def test_a_product_equals_the_steps(rows, inputs, outputs, gelu):
    torch.manual_seed(0)
    x, layer = torch.randn(rows, inputs).half(), nn.Linear(inputs, outputs)
    weight = layer.weight.half()
    expected = F.linear(x.float(), weight.float(), layer.bias)
    expected = F.gelu(expected, approximate="tanh") if gelu else expected
    made = head_kernels.product(x, weight, layer.bias, Tiling(16, 64, 1, 4, 2), gelu)
    assert made.dtype == torch.float16
    torch.testing.assert_close(made.float(), expected, atol=HALF, rtol=HALF)


@pytest.mark.parametrize("splits", [2, 4])
def test_parts_of_a_product_add_up_to_it(splits):
    torch.manual_seed(0)
    x, weight = torch.randn(34, 512).half(), torch.randn(48, 512).half()
    parts = head_kernels.product(x, weight, None, Tiling(16, 64, splits, 4, 2))
    assert parts.shape == (splits, 34, 48)
    torch.testing.assert_close(parts.sum(0), F.linear(x.float(), weight.float()), atol=1e-3, rtol=1e-5)


@pytest.mark.parametrize(("sequences", "tokens", "splits"), [(2, 17, 2), (5, 17, 4), (1, 9, 1), (3, 40, 2)])
def test_attention_and_its_projection_equal_torchs(sequences, tokens, splits):
    """Sequences do not see each other, whichever program they fall into."""
    torch.manual_seed(0)
    heads, width = 4, 32
    qkv, weight = torch.randn(sequences * tokens, 3 * heads * width).half(), torch.randn(128, 128).half() / 11
    parts = head_kernels.attend_and_project(qkv, weight, tokens, heads, Tiling(32, 0, splits, 4, 2))
    q, k, v = qkv.float().view(sequences, tokens, 3, heads, width).permute(2, 0, 3, 1, 4)
    mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(-1, heads * width)
    assert parts.shape == (splits, sequences * tokens, 128)
    torch.testing.assert_close(parts.sum(0), F.linear(mixed, weight.float()), atol=HALF, rtol=HALF)


@pytest.mark.parametrize("dim", [96, 128])
def test_gathering_adds_parts_and_bias_to_the_rows_and_normalises(dim):
    torch.manual_seed(0)
    x, parts, bias = 3 + torch.randn(5, dim), torch.randn(3, 5, dim), torch.randn(dim)
    expected = x + parts.sum(0) + bias
    normed = torch.empty(5, dim, dtype=torch.float16)
    head_kernels.gather(x, normed, parts, bias, NORM_EPS)
    torch.testing.assert_close(x, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(normed.float(), F.layer_norm(expected, (dim,), eps=NORM_EPS), atol=HALF, rtol=HALF)


@pytest.mark.parametrize(
    ("batch", "scale", "interval", "depth"), [(1, 1.5, 1, 2), (2, 1.5, 2, 1), (3, 1.0, 1, 1)], ids=str
)
def test_samples_equal_the_heads(batch, scale, interval, depth):
    model = random_head(head_config(depth=depth))
    torch.manual_seed(1)
    cognition, noise = torch.randn(batch, 48), torch.randn(batch, 16, 7)
    given = noise.clone()
    expected = model.sampler(3, scale, interval).sample(cognition, noise)
    with torch.inference_mode():
        made = FastHead(model.net).sampler(3, scale, interval).sample(cognition, noise)
    assert torch.equal(noise, given)
    torch.testing.assert_close(made, expected, atol=5e-3, rtol=5e-3)


def test_the_condition_and_the_noise_matter():
    model = random_head(head_config())
    sampler = FastHead(model.net).sampler(1, 1.5)
    torch.manual_seed(1)
    cognition, noise = torch.randn(1, 48), torch.randn(1, 16, 7)
    with torch.inference_mode():
        made = sampler.sample(cognition, noise)
        other = sampler.sample(-cognition, noise)
        noisy = sampler.sample(cognition, -noise)
    assert float((made - other).abs().max()) > 1e-2
    assert float((made - noisy).abs().max()) > 1e-2


def test_not_finite_stays_not_finite():
    model = random_head(head_config())
    cognition = torch.full((1, 48), float("nan"))
    with torch.inference_mode():
        made = FastHead(model.net).sampler(1, 1.5).sample(cognition, torch.randn(1, 16, 7))
    assert not made.isfinite().any()


def test_what_the_kernels_take():
    wide = head_config(hidden_size=256)
    assert fits(DiT(wide))
    assert not fits(DiT(replace(wide, hidden_size=96)))  # 24 wide
    assert not fits(DiT(replace(wide, hidden_size=64)))  # less than one tile
    assert not fits(DiT(wide).bfloat16())
    assert not fits(DiT(replace(wide, chunk_steps=64)))  # with the condition's, more tokens than rows at a time
    net = DiT(wide)
    with torch.no_grad():
        net.blocks[0].mlp.fc1.weight[3, 5] = 7e4
    assert not fits(net)


def test_an_interval_below_one_is_refused():
    with pytest.raises(ValueError, match="cache_interval is 0; it must be >= 1"):
        FastHead(DiT(head_config())).sampler(5, 1.5, 0)
