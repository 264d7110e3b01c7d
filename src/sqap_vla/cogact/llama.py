# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Llama-2 decoder for one thing: the last token's hidden state after one prefill.

No logits, and no KV cache within a frame. The last layer computes keys and values for all tokens, everything else
for the last one only. Between two layers visual tokens can be dropped (token_dropping.py); the kept ones keep their
original positions. Tokens can also be taken from the previous frame (token_reuse.py).

Rows of a batch are padded on the right. Attention is causal, so no real token sees padding; only the last
token's own query, which looks at the whole sequence at once, needs a mask. Parameter names are the
checkpoint's.

Source: transformers/models/llama/modeling_llama.py.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sqap_vla.cogact.config import DecoderConfig
from sqap_vla.cogact.token_dropping import (
    KeptTokens,
    Pruning,
    prunings_for_batch,
    score_row,
    surviving_tokens,
    take_tokens,
    visible_mask,
)
from sqap_vla.cogact.token_reuse import RotaryTables, TokenReuse

__all__ = ["DecoderOutput", "LlamaDecoder", "Pruning", "TokenReuse"]

VISUAL_TOKENS = slice(1, 257)  # after BOS


@dataclass(frozen=True)
class DecoderOutput:
    """cognition: last token after the final norm [B, D]. selections: one per row, () if nothing was dropped.

    computed: number of tokens whose keys and values each layer computed, padding included.
    hidden: if recorded, the embeddings, the output of every layer but the last [B, T, D] (T shrinks where
    tokens are dropped), and the last token after the final norm [B, 1, D].
    """

    cognition: Tensor
    selections: tuple[KeptTokens, ...]
    computed: tuple[int, ...]
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
        reuse: TokenReuse | None = None,
    ) -> DecoderOutput:
        """Prefill and return the last token of each row.

        embeds: [B, T, D], rows padded on the right. last_index: int64 [B], index of each row's last real
        token. visual: where the visual tokens are. pruning: one for B = 1, or one per row (same layers, same
        number kept). reuse: what to take from the previous frame, for B = 1 and without pruning. Raises ValueError
        if `pruning` or `reuse` do not fit the batch, the number of layers or each other.
        """
        batch, tokens, _ = embeds.shape
        if reuse is not None:
            if pruning is not None:
                raise ValueError("tokens are both dropped and reused; a frame's cache holds all of them: do one of it")
            reuse.start(embeds, visual, len(self.layers))
        prunings = prunings_for_batch(pruning, batch, len(self.layers))
        prune_layer = prunings[0].prune_layer if prunings else None
        score_layer = prunings[0].score_layer if prunings and prunings[0].needs_scores else None
        attention_rows: Sequence[Tensor | None] = [None] * batch
        selections: tuple[KeptTokens, ...] = ()

        x = embeds
        hidden = [x]
        computed: list[int] = []
        rope = first_rotary_tables(tokens, self.config.head_dim, self.config.rope_theta, x.dtype, x.device)
        rope = tuple(table.expand(batch, -1, -1) for table in rope)  # [B, T, d]
        for index, layer in enumerate(self.layers):
            if index == prune_layer:
                selections = tuple(
                    p.choose(row, entered, visual)
                    for p, row, entered in zip(prunings, attention_rows, embeds, strict=True)
                )
                stay = surviving_tokens(selections, visual, x.shape[1])  # [B, T']
                last_index = last_index - (x.shape[1] - stay.shape[1])  # visual tokens come before the last token
                # Gathering RoPE's tables with the tokens is what keeps the original positions.
                x, rope = take_tokens(x, stay), take_rope(rope, stay)  # [B, T', D]
            if reuse is not None:
                x, rope = reuse.enter(index, x, rope)  # [1, n, D]
                last_index = last_index.new_tensor([x.shape[1] - 1])
            computed.append(x.shape[1])
            if index == len(self.layers) - 1:
                x = self.norm(layer.forward_last(x, rope, last_index, index, reuse))  # [B, 1, D]
            elif index == score_layer:
                q, k, v = layer.qkv(x, rope)
                attention_rows = score_row(prunings[0].queries, q, k, last_index, visual)  # [B, T]
                x = layer.finish(x, layer.self_attn.attend(q, k, v))  # [B, T, D]
            else:
                x = layer(x, rope, index, reuse)  # [B, T, D]
            if record_hidden:
                hidden.append(x)
        return DecoderOutput(x[:, 0], selections, tuple(computed), hidden if record_hidden else None)


class DecoderLayer(nn.Module):
    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = LlamaAttention(config)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = LlamaMlp(config.hidden_size, config.intermediate_size)

    def forward(self, x: Tensor, rope: RotaryTables, index: int = 0, reuse: TokenReuse | None = None) -> Tensor:
        """index: this layer's, for `reuse`."""
        return self.finish(x, self._attention(x, rope, index, reuse))  # [B, T, D]

    def forward_last(
        self, x: Tensor, rope: RotaryTables, last_index: Tensor, index: int = 0, reuse: TokenReuse | None = None
    ) -> Tensor:
        """The layer's output for the last token alone, [B, 1, D]."""
        last = last_index[:, None]
        if reuse is None:
            attention = self.self_attn.attend(*self.qkv_last(x, rope, last), visible_mask(last_index, x.shape[1]))
        else:  # the next frame's choice wants this layer's whole attention, too
            attention = take_tokens(self._attention(x, rope, index, reuse), last)
        return self.finish(take_tokens(x, last), attention)

    def qkv(self, x: Tensor, rope: RotaryTables) -> tuple[Tensor, Tensor, Tensor]:
        """x [B, T, D] -> rotated q [B, H, T, d], rotated k [B, KV, T, d], v [B, KV, T, d]."""
        attention, normed = self.self_attn, self.input_layernorm(x)
        q = rotate(attention.heads(attention.q_proj(normed)), rope)
        k = rotate(attention.heads(attention.k_proj(normed)), rope)
        return q, k, attention.heads(attention.v_proj(normed))

    def qkv_last(self, x: Tensor, rope: RotaryTables, last: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As `qkv`, but q only of the tokens `last` [B, 1]: [B, H, 1, d]."""
        attention, normed = self.self_attn, self.input_layernorm(x)
        q = rotate(attention.heads(attention.q_proj(take_tokens(normed, last))), take_rope(rope, last))
        k = rotate(attention.heads(attention.k_proj(normed)), rope)
        return q, k, attention.heads(attention.v_proj(normed))

    def finish(self, x: Tensor, attention: Tensor) -> Tensor:
        """What comes after attention [B, n, D]: its output projection, residual, MLP."""
        x = x + self.self_attn.o_proj(attention)
        return x + self.mlp(self.post_attention_layernorm(x))

    def _attention(self, x: Tensor, rope: RotaryTables, index: int, reuse: TokenReuse | None) -> Tensor:
        q, k, v = self.qkv(x, rope)
        if reuse is None:
            return self.self_attn.attend(q, k, v)
        k, v = reuse.exchange(index, k, v)  # [1, KV, T, d]
        reuse.observe(index, q, k)
        return self.self_attn.attend(q, k, v, reuse.mask)


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

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        """Values mixed for the tokens in q, heads side by side, before o_proj: [B, n, D]. mask: bool [B, 1, n, T], what
        each sees; None is causal, n = T."""
        k, v = share_heads(k, q.shape[1]), share_heads(v, q.shape[1])  # [B, H, T, d]
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)  # [B, H, n, d]
        return out.transpose(1, 2).flatten(2)

    def heads(self, x: Tensor) -> Tensor:
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


@functools.cache  # a CUDA graph knows a table by its address alone: none may go; they are few and small
def first_rotary_tables(
    tokens: int, head_dim: int, theta: float, dtype: torch.dtype, device: torch.device
) -> RotaryTables:
    """`rotary_tables` of the positions 0 to tokens - 1, [1, T, d], made once. Read-only."""
    with torch.inference_mode(False):  # it outlives the call, and may be used outside of inference mode later
        return rotary_tables(torch.arange(tokens, device=device)[None], head_dim, theta, dtype)


def take_rope(rope: RotaryTables, index: Tensor) -> RotaryTables:
    cos, sin = rope
    return take_tokens(cos, index), take_tokens(sin, index)


def rotate(x: Tensor, rope: RotaryTables) -> Tensor:
    """Apply RoPE to heads x [B, heads, T, d]."""
    cos, sin = (table[:, None] for table in rope)  # [B, 1, T, d]
    low, high = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-high, low], dim=-1) * sin


def rotary_heads(y: Tensor, rope: RotaryTables, heads: int, kv_heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """q, k and v side by side [B, T, (heads + 2 kv_heads) d] -> rotated q [B, heads, T, d], rotated k [B, kv_heads, T,
    d], v. On CUDA with Triton in one launch."""
    half = rope[0].shape[-1] // 2
    if y.is_cuda and half & (half - 1) == 0 and (kernel := _rotary_kernel()) is not None:
        every = kernel(y, *rope, heads + kv_heads)  # [B, heads + 2 kv_heads, T, d]
        return every.split([heads, kv_heads, kv_heads], dim=1)
    every = y.unflatten(2, (heads + 2 * kv_heads, -1)).transpose(1, 2)
    q, k, v = every.split([heads, kv_heads, kv_heads], dim=1)
    return rotate(q, rope), rotate(k, rope), v


@functools.lru_cache(maxsize=1)
def _rotary_kernel() -> Callable[[Tensor, Tensor, Tensor, int], Tensor] | None:
    try:
        from sqap_vla.cogact.rotary_kernel import rotary_heads_kernel
    except ImportError:  # Triton comes with CUDA builds of torch for Linux, and with no other
        return None
    return rotary_heads_kernel


def share_heads(kv: Tensor, num_heads: int) -> Tensor:
    """Repeat key/value heads [B, KV, T, d] for the query heads that share them: [B, H, T, d]."""
    groups = num_heads // kv.shape[1]
    return kv if groups == 1 else kv.repeat_interleave(groups, dim=1)
