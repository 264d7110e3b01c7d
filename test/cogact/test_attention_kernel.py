# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The decoder's attention as one GPU kernel, in Triton's interpreter, against the steps it stands for."""

from __future__ import annotations

import os

import pytest
import torch
from torch.nn import functional as F

from sqap_vla.cogact.llama import rotary_heads, rotary_tables, share_heads

pytest.importorskip("triton", reason="Triton is not here; make test-kernels runs these with it")
if os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("TRITON_INTERPRET is set to something else than 1", allow_module_level=True)

from sqap_vla.cogact.attention_kernel import attend

WIDTH = 32


def joined(batch: int, tokens: int, heads: int, kv_heads: int, positions: torch.Tensor | None = None):
    torch.manual_seed(0)
    y = 2 * torch.randn(batch, tokens, (heads + 2 * kv_heads) * WIDTH)
    positions = torch.arange(tokens)[None].expand(batch, -1) if positions is None else positions
    return y, rotary_tables(positions, WIDTH, 1e4, torch.float32)


def in_steps(y, rope, heads, kv_heads):
    q, k, v = rotary_heads(y, rope, heads, kv_heads)
    mixed = F.scaled_dot_product_attention(q, share_heads(k, heads), share_heads(v, heads), is_causal=True)
    return mixed.transpose(1, 2).flatten(2)


@pytest.mark.parametrize("tokens", [1, 64, 65, 150])
@pytest.mark.parametrize(("batch", "heads", "kv_heads"), [(1, 2, 2), (2, 4, 2)])
def test_it_equals_the_steps(tokens, batch, heads, kv_heads):
    y, rope = joined(batch, tokens, heads, kv_heads)
    torch.testing.assert_close(attend(y, *rope, heads, kv_heads), in_steps(y, rope, heads, kv_heads))


def test_tokens_keep_the_positions_they_have():
    """After pruning: other gaps in each row of the batch."""
    positions = torch.stack([torch.arange(0, 140, 2), torch.arange(70) + 5])
    y, rope = joined(2, 70, 2, 2, positions)
    made = attend(y, *rope, 2, 2)
    torch.testing.assert_close(made, in_steps(y, rope, 2, 2))
    assert not torch.allclose(made, in_steps(y, joined(2, 70, 2, 2)[1], 2, 2), atol=1e-2)


def test_one_table_for_all_rows_of_a_batch():
    y, rope = joined(2, 9, 2, 1)
    shared = tuple(table[:1].expand(2, -1, -1) for table in rope)
    torch.testing.assert_close(attend(y, *shared, 2, 1), in_steps(y, rope, 2, 1))


def test_no_token_sees_what_comes_after_it():
    y, rope = joined(1, 80, 2, 2)
    before = attend(y, *rope, 2, 2)
    y[:, 70:] = 9.0
    after = attend(y, *rope, 2, 2)
    assert torch.equal(after[:, :70], before[:, :70])
    assert not torch.allclose(after[:, 70:], before[:, 70:])
