# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The decoder on one picture and several instructions at once.

Attention is causal and the picture comes before the text, so what the decoder makes of the picture is the same for
every instruction. Here it is computed once: a sequence holds BOS, the visual tokens and then the texts one after the
other; each text sees the picture and itself, and its positions start where the picture ends. The result is that of
`CogAct.cognition` for each pair.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sqap_vla.cogact.llama import LlamaDecoder, rotary_tables
from sqap_vla.cogact.model import CogAct
from sqap_vla.cogact.token_dropping import take_queries, take_tokens


@dataclass(frozen=True, eq=False)
class PackedOutput:
    """cognition: [B, K, D]. attention: of the last token of each text to the given visual tokens, in the layers asked
    for, [B, K, H, n] each."""

    cognition: Tensor
    attention: dict[int, Tensor]


def packed_cognition(
    model: CogAct,
    visual: Tensor,
    texts: Tensor,
    lengths: Tensor,
    layers: Sequence[int] = (),
    kept: Tensor | None = None,
    num_visual: int = 256,
) -> PackedOutput:
    """visual: [B, n, D]. texts: int64 [B, K, L], ids after BOS, padded on the right. lengths: int64 [B, K].

    layers: whose attention is wanted, all but the last one. kept: int64 [B, n], ascending, which of `num_visual` visual
    tokens these are; None: all of them.
    """
    decoder: LlamaDecoder = model.decoder
    batch, count, longest = texts.shape
    start, device = 1 + visual.shape[1], visual.device
    if kept is None:
        kept = torch.arange(num_visual, device=device).expand(batch, -1)
    bos = decoder.embed_tokens.weight[_BOS].expand(batch, 1, -1)
    text = decoder.embed_tokens(texts).flatten(1, 2)  # [B, K L, D]
    x = torch.cat([bos, visual, text], dim=1)  # [B, T, D]
    text_positions = (1 + num_visual + torch.arange(longest, device=device)).repeat(count).expand(batch, -1)
    positions = torch.cat([kept.new_zeros(batch, 1), 1 + kept, text_positions], dim=1)  # [B, T]
    rope = rotary_tables(positions, decoder.config.head_dim, decoder.config.rope_theta, x.dtype)
    mask = _mask(start, count, longest, device)  # [T, T]
    last = start + longest * torch.arange(count, device=device) + lengths - 1  # [B, K]
    attention: dict[int, Tensor] = {}
    for index, layer in enumerate(decoder.layers):
        q, k, v = layer.qkv(x, rope)
        if index < len(decoder.layers) - 1:
            if index in layers:
                attention[index] = _rows(take_queries(q, last), k, mask[last])[..., 1:start].transpose(1, 2)
            x = layer.finish(x, layer.self_attn.attend(q, k, v, mask))
        else:
            mixed = layer.self_attn.attend(take_queries(q, last), k, v, mask[last][:, None])
            x = decoder.norm(layer.finish(take_tokens(x, last), mixed))  # [B, K, D]
    return PackedOutput(x, attention)


_BOS = 1


@functools.lru_cache(maxsize=8)
def _mask(start: int, count: int, longest: int, device: torch.device) -> Tensor:
    """Which token sees which, bool [T, T], uploaded once."""
    total = start + count * longest
    owner = torch.cat([torch.full((start,), -1), torch.arange(count).repeat_interleave(longest)])
    shared = (owner[None] == owner[:, None]) | (owner[None] == -1)
    return (shared & torch.ones(total, total, dtype=torch.bool).tril()).to(device)


def _rows(q: Tensor, k: Tensor, mask: Tensor) -> Tensor:
    """Softmax attention of some tokens: q [B, H, K, d], k [B, H, T, d], mask [B, K, T] -> [B, H, K, T]."""
    logits = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    return logits.masked_fill(~mask[:, None], float("-inf")).softmax(dim=-1)
