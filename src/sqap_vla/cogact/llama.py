# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Llama-2 decoder for one thing: the last token's hidden state after one prefill.

No KV cache and no logits. The last layer computes keys and values for all tokens, everything else for the
last one only. Between two layers visual tokens can be dropped (token_dropping.py); the kept ones keep their
original positions.

Rows of a batch are padded on the right. Attention is causal, so no real token sees padding; only the last
token's own query, which looks at the whole sequence at once, needs a mask. Parameter names are the
checkpoint's.

Source: transformers/models/llama/modeling_llama.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sqap_vla.cogact.config import DecoderConfig
from sqap_vla.cogact.token_dropping import (
    KeptTokens,
    Pruning,
    last_token_attention,
    prunings_for_batch,
    surviving_tokens,
    take_tokens,
    visible_mask,
)

__all__ = ["DecoderOutput", "LlamaDecoder", "Pruning"]

VISUAL_TOKENS = slice(1, 257)  # after BOS

RotaryTables = tuple[Tensor, Tensor]  # cos and sin, [B, T, d] each


@dataclass(frozen=True)
class DecoderOutput:
    """cognition: last token after the final norm [B, D]. selections: one per row, () if nothing was dropped.

    hidden: if recorded, the embeddings, the output of every layer but the last [B, T, D] (T shrinks where
    tokens are dropped), and the last token after the final norm [B, 1, D].
    """

    cognition: Tensor
    selections: tuple[KeptTokens, ...]
    hidden: list[Tensor] | None


class LlamaDecoder(nn.Module):
    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.num_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(
        self,
        embeds: Tensor,
        last_index: Tensor,
        visual: slice = VISUAL_TOKENS,
        pruning: Pruning | Sequence[Pruning] | None = None,
        record_hidden: bool = False,
    ) -> DecoderOutput:
        """Prefill and return the last token of each row.

        embeds: [B, T, D], rows padded on the right. last_index: int64 [B], index of each row's last real
        token. visual: where the visual tokens are. pruning: one for B = 1, or one per row (same layers, same
        number kept). Raises ValueError if `pruning` does not fit the batch or the number of layers.
        """
        batch, tokens, _ = embeds.shape
        prunings = prunings_for_batch(pruning, batch, len(self.layers))
        prune_layer = prunings[0].prune_layer if prunings else None
        score_layer = prunings[0].score_layer if prunings and prunings[0].needs_scores else None
        attention_rows: Sequence[Tensor | None] = [None] * batch
        selections: tuple[KeptTokens, ...] = ()

        x = embeds
        hidden = [x]
        positions = torch.arange(tokens, device=x.device).expand(batch, -1)  # [B, T]
        rope = rotary_tables(positions, self.config.head_dim, self.config.rope_theta, x.dtype)
        for index, layer in enumerate(self.layers):
            if index == prune_layer:
                selections = tuple(p.choose(row, visual) for p, row in zip(prunings, attention_rows, strict=True))
                stay = surviving_tokens(selections, visual, x.shape[1])  # [B, T']
                last_index = last_index - (x.shape[1] - stay.shape[1])  # visual tokens come before the last token
                # Gathering RoPE's tables with the tokens is what keeps the original positions.
                x, rope = take_tokens(x, stay), take_rope(rope, stay)  # [B, T', D]
            if index == len(self.layers) - 1:
                x = self.norm(layer.forward_last(x, rope, last_index))  # [B, 1, D]
            elif index == score_layer:
                x, attention_rows = layer.forward_scored(x, rope, last_index)  # [B, T, D], [B, T]
            else:
                x = layer(x, rope)  # [B, T, D]
            if record_hidden:
                hidden.append(x)
        return DecoderOutput(x[:, 0], selections, hidden if record_hidden else None)


class DecoderLayer(nn.Module):
    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = LlamaAttention(config)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = LlamaMlp(config.hidden_size, config.intermediate_size)

    def forward(self, x: Tensor, rope: RotaryTables) -> Tensor:
        q, k, v = self.self_attn.qkv(self.input_layernorm(x), rope)
        return self._finish(x, self.self_attn.attend(q, k, v))  # [B, T, D]

    def forward_scored(self, x: Tensor, rope: RotaryTables, last_index: Tensor) -> tuple[Tensor, Tensor]:
        """The layer's output [B, T, D], and the last token's attention to every token, float32 [B, T]."""
        q, k, v = self.self_attn.qkv(self.input_layernorm(x), rope)
        q_last = take_tokens(q.transpose(1, 2), last_index[:, None]).transpose(1, 2)  # [B, H, 1, d]
        return self._finish(x, self.self_attn.attend(q, k, v)), last_token_attention(q_last, k, last_index)

    def forward_last(self, x: Tensor, rope: RotaryTables, last_index: Tensor) -> Tensor:
        """The layer's output for the last token alone, [B, 1, D]."""
        attention = self.self_attn.attend_last(self.input_layernorm(x), rope, last_index)
        return self._finish(take_tokens(x, last_index[:, None]), attention)

    def _finish(self, x: Tensor, attention: Tensor) -> Tensor:
        x = x + attention
        return x + self.mlp(self.post_attention_layernorm(x))


class LlamaAttention(nn.Module):
    """Causal attention with rotary positions; several query heads may share a key/value head."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.head_dim = config.head_dim
        kv_dim = config.num_kv_heads * config.head_dim
        self.q_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, kv_dim, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, kv_dim, bias=False)
        self.o_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=False)

    def qkv(self, x: Tensor, rope: RotaryTables) -> tuple[Tensor, Tensor, Tensor]:
        """x [B, T, D] -> rotated q [B, H, T, d], rotated k [B, KV, T, d], v [B, KV, T, d]."""
        q = rotate(self._heads(self.q_proj(x)), rope)
        k = rotate(self._heads(self.k_proj(x)), rope)
        return q, k, self._heads(self.v_proj(x))

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        k, v = share_heads(k, q.shape[1]), share_heads(v, q.shape[1])  # [B, H, T, d]
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True)  # [B, H, T, d]
        return self.o_proj(out.transpose(1, 2).flatten(2))  # [B, T, D]

    def attend_last(self, x: Tensor, rope: RotaryTables, last_index: Tensor) -> Tensor:
        """Normed x [B, T, D] -> attention output of the last token [B, 1, D]."""
        last = last_index[:, None]  # [B, 1]
        q = rotate(self._heads(self.q_proj(take_tokens(x, last))), take_rope(rope, last))  # [B, H, 1, d]
        k = share_heads(rotate(self._heads(self.k_proj(x)), rope), q.shape[1])  # [B, H, T, d]
        v = share_heads(self._heads(self.v_proj(x)), q.shape[1])  # [B, H, T, d]
        visible = visible_mask(last_index, x.shape[1])  # [B, 1, 1, T]
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=visible)  # [B, H, 1, d]
        return self.o_proj(out.transpose(1, 2).flatten(2))  # [B, 1, D]

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (-1, self.head_dim)).transpose(1, 2)  # [B, heads, T, d]


class LlamaMlp(nn.Module):
    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(dim, hidden, bias=False)
        self.up_proj = nn.Linear(dim, hidden, bias=False)
        self.down_proj = nn.Linear(hidden, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))  # [B, T, D]


class RMSNorm(nn.Module):
    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return wide.to(x.dtype) * self.weight


def rotary_tables(positions: Tensor, head_dim: int, theta: float, dtype: torch.dtype) -> RotaryTables:
    """Positions [B, T] -> cos and sin [B, T, d]; both halves of d hold the same angles (split-half RoPE)."""
    exponents = torch.arange(0, head_dim, 2, device=positions.device, dtype=torch.float32) / head_dim  # [d / 2]
    angles = positions[..., None].float() * theta**-exponents  # [B, T, d / 2]
    angles = torch.cat([angles, angles], dim=-1)  # [B, T, d]
    return angles.cos().to(dtype), angles.sin().to(dtype)


def take_rope(rope: RotaryTables, index: Tensor) -> RotaryTables:
    cos, sin = rope
    return take_tokens(cos, index), take_tokens(sin, index)


def rotate(x: Tensor, rope: RotaryTables) -> Tensor:
    """Apply RoPE to heads x [B, heads, T, d]."""
    cos, sin = (table[:, None] for table in rope)  # [B, 1, T, d]
    low, high = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-high, low], dim=-1) * sin


def share_heads(kv: Tensor, num_heads: int) -> Tensor:
    """Repeat key/value heads [B, KV, T, d] for the query heads that share them: [B, H, T, d]."""
    groups = num_heads // kv.shape[1]
    return kv if groups == 1 else kv.repeat_interleave(groups, dim=1)
