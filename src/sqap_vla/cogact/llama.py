# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Llama-2 decoder for one thing: the last token's hidden state after one prefill.

No KV cache and no logits. The last layer computes keys and values for all tokens, and everything else for the last token only.
Between two layers visual tokens can be dropped (`Pruning`); the kept ones keep their original positions for RoPE.

Rows of a batch are padded on the right. Attention is causal, so no real token sees padding; only what looks at the whole
sequence at once (the last token's query) needs a mask. Parameter names are the checkpoint's.

Source: transformers/models/llama/modeling_llama.py; where tokens are dropped follows FastV (arXiv 2403.06764), layer K-1's
attention decides what layer K sees.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sqap_vla.cogact.config import DecoderConfig

VISUAL_TOKENS = slice(1, 257)  # after BOS


class KeptTokens(Protocol):
    """What a selection must offer: indices of the kept visual tokens, 0 = first visual token, int64 [n], ascending."""

    @property
    def kept(self) -> Tensor: ...


@dataclass(frozen=True)
class Pruning:
    """Where visual tokens are dropped, and who chooses.

    prune_layer: number of layers that run on all tokens. score_layer: zero-based layer whose attention is handed to `select`,
    below prune_layer. select: gets the head-mean softmax attention of the last token to the visual tokens, float32 [N_v] on the
    model's device, or None if `needs_scores` is false.
    """

    prune_layer: int
    score_layer: int
    select: Callable[[Tensor | None], KeptTokens]
    needs_scores: bool = True

    def __post_init__(self) -> None:
        if self.prune_layer < 0 or (self.needs_scores and not 0 <= self.score_layer < self.prune_layer):
            raise ValueError(f"score_layer is {self.score_layer} and prune_layer {self.prune_layer}; "
                             "a layer can only be asked for scores if it runs on all tokens: 0 <= score_layer < prune_layer")


@dataclass(frozen=True)
class DecoderOutput:
    """cognition: last token after the final norm [B, D]. selections: one per row, empty if nothing was dropped.

    hidden: if recorded, the embeddings, the output of every layer but the last [B, T, D] (T shrinks where tokens are dropped),
    and the last token after the final norm [B, 1, D].
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

    def forward(self, embeds: Tensor, last_index: Tensor, visual: slice = VISUAL_TOKENS,
                pruning: Pruning | Sequence[Pruning] | None = None, record_hidden: bool = False) -> DecoderOutput:
        """Prefill and return the last token of each row.

        embeds: [B, T, D], rows padded on the right. last_index: int64 [B], index of each row's last real token.
        visual: where the visual tokens are. pruning: one for B = 1, or one per row (same layers, same number of kept tokens).
        Raises ValueError if `pruning` does not fit the batch or the number of layers.
        """
        batch, tokens, _ = embeds.shape
        prunings = self._prunings(pruning, batch)
        prune_layer, score_layer = self._prune_layers(prunings)
        x, hidden = embeds, [embeds] if record_hidden else None
        positions = torch.arange(tokens, device=x.device).expand(batch, -1)  # [B, T], original positions throughout
        rope = rotary_tables(positions, self.config.head_dim, self.config.rope_theta, x.dtype)
        attention_row: Tensor | None = None
        selections: tuple[KeptTokens, ...] = ()

        for index, layer in enumerate(self.layers[:-1]):
            if index == prune_layer:
                selections = _select(prunings, attention_row, visual)
                x, positions, rope, last_index = _drop(selections, visual, x, positions, rope, last_index)
            if index == score_layer:
                x, attention_row = layer.forward_scored(x, rope, last_index)  # [B, T, D], [B, T]
            else:
                x = layer(x, rope)  # [B, T, D]
            if hidden is not None:
                hidden.append(x)
        if prune_layer == len(self.layers) - 1:
            selections = _select(prunings, attention_row, visual)
            x, positions, rope, last_index = _drop(selections, visual, x, positions, rope, last_index)
        x = self.norm(self.layers[-1].forward_last(x, rope, last_index))  # [B, 1, D]
        if hidden is not None:
            hidden.append(x)
        return DecoderOutput(cognition=x[:, 0], selections=selections, hidden=hidden)

    @staticmethod
    def _prunings(pruning: Pruning | Sequence[Pruning] | None, batch: int) -> tuple[Pruning, ...]:
        if pruning is None:
            return ()
        prunings = (pruning,) if isinstance(pruning, Pruning) else tuple(pruning)
        if len(prunings) != batch:
            raise ValueError(f"{len(prunings)} prunings for a batch of {batch}; give one for each row")
        return prunings

    def _prune_layers(self, prunings: tuple[Pruning, ...]) -> tuple[int | None, int | None]:
        if not prunings:
            return None, None
        first = prunings[0]
        if any((p.prune_layer, p.score_layer, p.needs_scores) != (first.prune_layer, first.score_layer, first.needs_scores)
               for p in prunings):
            raise ValueError("the prunings of one batch differ in prune_layer, score_layer or needs_scores; "
                             "rows of a batch run together, so they must be the same")
        if first.prune_layer >= len(self.layers):
            raise ValueError(f"prune_layer is {first.prune_layer} and the decoder has {len(self.layers)} layers; "
                             f"at least one layer must come after the pruning: at most {len(self.layers) - 1}")
        return first.prune_layer, first.score_layer if first.needs_scores else None


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
        """The layer, and the last token's head-mean attention to every token, float32 [B, T]."""
        q, k, v = self.self_attn.qkv(self.input_layernorm(x), rope)
        q_last = take_tokens(q.transpose(1, 2), last_index[:, None]).transpose(1, 2)  # [B, H, 1, d]
        row = last_token_attention(q_last, k, last_index)
        return self._finish(x, self.self_attn.attend(q, k, v)), row

    def forward_last(self, x: Tensor, rope: RotaryTables, last_index: Tensor) -> Tensor:
        """The layer's output for the last token alone, [B, 1, D]."""
        x_last = take_tokens(x, last_index[:, None])  # [B, 1, D]
        out = self.self_attn.attend_last(self.input_layernorm(x), rope, last_index)
        return self._finish(x_last, out)

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
        rope_last = tuple(take_tokens(table.squeeze(1), last).unsqueeze(1) for table in rope)  # [B, 1, 1, d] each
        q = rotate(self._heads(self.q_proj(take_tokens(x, last))), rope_last)  # [B, H, 1, d]
        k = share_heads(rotate(self._heads(self.k_proj(x)), rope), q.shape[1])  # [B, H, T, d]
        v = share_heads(self._heads(self.v_proj(x)), q.shape[1])  # [B, H, T, d]
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=visible_mask(last_index, x.shape[1]))  # [B, H, 1, d]
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


RotaryTables = tuple[Tensor, Tensor]  # cos and sin, [B, 1, T, d] each


def rotary_tables(positions: Tensor, head_dim: int, theta: float, dtype: torch.dtype) -> RotaryTables:
    """Positions [B, T] -> cos and sin [B, 1, T, d]; both halves of d hold the same angles (Llama's split-half RoPE)."""
    exponents = torch.arange(0, head_dim, 2, device=positions.device, dtype=torch.float32) / head_dim  # [d / 2]
    angles = positions[:, None, :, None].float() * theta ** -exponents  # [B, 1, T, d / 2]
    angles = torch.cat([angles, angles], dim=-1)  # [B, 1, T, d]
    return angles.cos().to(dtype), angles.sin().to(dtype)


def rotate(x: Tensor, rope: RotaryTables) -> Tensor:
    """Apply RoPE to heads x [B, heads, T, d]."""
    cos, sin = rope
    low, high = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-high, low], dim=-1) * sin


def share_heads(kv: Tensor, num_heads: int) -> Tensor:
    """Repeat key/value heads [B, KV, T, d] for the query heads that share them: [B, H, T, d]."""
    groups = num_heads // kv.shape[1]
    return kv if groups == 1 else kv.repeat_interleave(groups, dim=1)


def visible_mask(last_index: Tensor, tokens: int) -> Tensor:
    """True where a row's last token may look: everything up to itself. last_index [B] -> bool [B, 1, 1, T]."""
    return (torch.arange(tokens, device=last_index.device) <= last_index[:, None])[:, None, None]


def last_token_attention(q_last: Tensor, k: Tensor, last_index: Tensor) -> Tensor:
    """Head-mean softmax attention of the last token to every token, without computing the rest of the attention matrix.

    q_last: rotated [B, H, 1, d]. k: rotated [B, KV, T, d]. Returns float32 [B, T]; rows sum to 1.
    """
    batch, kv_heads, tokens, head_dim = k.shape
    q = q_last.reshape(batch, kv_heads, -1, head_dim).float()  # [B, KV, H / KV, d]
    logits = q @ k.float().transpose(-1, -2) * head_dim ** -0.5  # [B, KV, H / KV, T]
    logits = logits.masked_fill(~visible_mask(last_index, tokens), float("-inf"))
    return logits.softmax(dim=-1).mean(dim=(1, 2))  # [B, T]


def take_tokens(x: Tensor, index: Tensor) -> Tensor:
    """Tokens `index` [B, n] of x [B, T, ...] -> [B, n, ...]."""
    return x[torch.arange(x.shape[0], device=x.device)[:, None], index]


def _select(prunings: tuple[Pruning, ...], attention_row: Tensor | None, visual: slice) -> tuple[KeptTokens, ...]:
    return tuple(p.select(None if attention_row is None else attention_row[row, visual]) for row, p in enumerate(prunings))


def _drop(selections: tuple[KeptTokens, ...], visual: slice, x: Tensor, positions: Tensor, rope: RotaryTables,
          last_index: Tensor) -> tuple[Tensor, Tensor, RotaryTables, Tensor]:
    """Keep the selected visual tokens and every other token, in order. All sequence-long tensors are gathered alike."""
    counts = {selection.kept.shape[0] for selection in selections}
    if len(counts) > 1:
        raise ValueError(f"the rows of one batch keep {sorted(counts)} visual tokens; they run together, so the counts must match")
    tokens = torch.arange(x.shape[1], device=x.device)
    keep = torch.stack([torch.cat([tokens[:visual.start], visual.start + s.kept, tokens[visual.stop:]])
                        for s in selections])  # [B, T']
    cos, sin = (take_tokens(table.squeeze(1), keep).unsqueeze(1) for table in rope)
    dropped = x.shape[1] - keep.shape[1]
    return take_tokens(x, keep), take_tokens(positions, keep), (cos, sin), last_index - dropped
