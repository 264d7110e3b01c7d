# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Taking tokens from the previous frame instead of computing them again, inside the decoder.

From some layer on a token may stand aside: its query, MLP and hidden state are no longer computed, and the other
tokens attend to the keys and values it had in the previous frame. Only the last token's hidden state leaves the
decoder, so keys and values are all that a reused token needs. Positions are absolute and the same in both frames
(same prompt, same number of visual tokens), so cached keys carry the right rotation.

    x [1, n, D]  tokens still computed        keys, values [1, KV, T, d]  all tokens, in order

While it runs it notes what the next frame's choice needs: keys and values, and two figures of the attention.
Invariants: one row per batch; the last token is never reused; a token that stands aside does not come back.
Source: siyuhsu/vla-cache, src/transformers/.../modeling_llama.py (arXiv 2502.02175, section 4).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from sqap_vla.cogact.token_dropping import head_mean_attention, take_tokens

EPS = 1e-10

RotaryTables = tuple[Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class KeyValues:
    """Rotated keys and values of every layer of one frame, [1, KV, T, d] each."""

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]

    @property
    def num_tokens(self) -> int:
        return self.keys[0].shape[2]

    @property
    def num_bytes(self) -> int:
        return sum(tensor.nbytes for tensor in (*self.keys, *self.values))


@dataclass(frozen=True, eq=False)
class AttentionTrace:
    """What a frame's attention says about the next one.

    entropy: float32 [L], mean entropy of each layer's head-mean attention rows, in nats. relevance: float32 [N_v],
    head-mean attention of the text after the visual tokens to each of these, averaged over the text, in one layer.
    """

    entropy: Tensor
    relevance: Tensor


class TokenReuse:
    """One frame's reuse. Made for one forward pass; afterwards `key_values` and `trace` are there.

    relevance_layer: zero-based layer whose attention becomes `trace.relevance`. previous, reused: keys and values of
    the frame before, and for a layer the positions (int64 [m], ascending) that stand aside from it on. Without them
    every token is computed.
    """

    def __init__(
        self,
        relevance_layer: int,
        previous: KeyValues | None = None,
        reused: Mapping[int, Tensor] | None = None,
    ) -> None:
        if reused and previous is None:
            raise ValueError("tokens are to be reused, and there is no previous frame; give its keys and values")
        self.relevance_layer = relevance_layer
        self._previous = previous
        self._reused = dict(reused or {})
        self._keys: list[Tensor] = []
        self._values: list[Tensor] = []
        self._entropy: list[Tensor] = []
        self._relevance: Tensor | None = None

    def start(self, x: Tensor, visual: slice, num_layers: int) -> None:
        """Raises ValueError where this frame cannot take tokens from the previous one."""
        batch, tokens, _ = x.shape
        if batch != 1:
            raise ValueError(f"tokens are reused in a batch of {batch}; frames follow each other, so give one row")
        if not 0 <= self.relevance_layer < num_layers:
            raise ValueError(f"relevance_layer is {self.relevance_layer}; the decoder has layers 0 to {num_layers - 1}")
        if self._previous is not None and (self._previous.num_tokens, len(self._previous.keys)) != (tokens, num_layers):
            raise ValueError(
                f"the previous frame has {self._previous.num_tokens} tokens in {len(self._previous.keys)} layers and "
                f"this one {tokens} in {num_layers}; forget it when prompt or model change"
            )
        self._visual = visual
        self._computed = torch.arange(tokens, device=x.device)  # [n], positions of the rows of x
        self._mask: Tensor | None = None

    @property
    def mask(self) -> Tensor | None:
        """Which token each computed one sees, bool [1, 1, n, T]; None while all are computed: causal."""
        return self._mask

    def enter(self, layer: int, x: Tensor, rope: RotaryTables) -> tuple[Tensor, RotaryTables]:
        """x [1, n, D] and its RoPE tables without the tokens that stand aside from this layer on."""
        positions = self._reused.get(layer)
        if positions is not None and len(positions):
            tokens = torch.arange(self._previous.num_tokens, device=x.device)
            stay = ~torch.isin(self._computed, positions)
            rows = stay.nonzero()[:, 0][None]  # [1, n']
            self._computed = self._computed[stay]
            self._mask = (tokens <= self._computed[:, None])[None, None]
            x, rope = take_tokens(x, rows), tuple(take_tokens(table, rows) for table in rope)
        return x, rope

    def exchange(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of the computed tokens [1, KV, n, d] -> of all tokens [1, KV, T, d]."""
        if self._mask is not None:
            everyone = self._previous.keys[layer].clone(), self._previous.values[layer].clone()
            for full, computed in zip(everyone, (k, v), strict=True):
                full[:, :, self._computed] = computed
            k, v = everyone
        self._keys.append(k)
        self._values.append(v)
        return k, v

    def observe(self, layer: int, q: Tensor, k: Tensor) -> None:
        """Notes the attention of the computed tokens. q: [1, H, n, d]; k: [1, KV, T, d]."""
        rows = head_mean_attention(q, k, self._computed[None])[0]  # [n, T]
        self._entropy.append(mean_entropy(rows))
        if layer == self.relevance_layer:
            self._relevance = text_relevance(rows, self._computed, self._visual)

    @property
    def key_values(self) -> KeyValues:
        return KeyValues(tuple(self._keys), tuple(self._values))

    @property
    def trace(self) -> AttentionTrace:
        return AttentionTrace(torch.stack(self._entropy), self._relevance)


def mean_entropy(rows: Tensor) -> Tensor:
    """Head-mean attention rows [n, T] -> their mean entropy in nats, a scalar."""
    rows = rows / (rows.sum(dim=-1, keepdim=True) + EPS)
    return -(rows * (rows + EPS).log()).sum(dim=-1).mean()


def text_relevance(rows: Tensor, positions: Tensor, visual: slice) -> Tensor:
    """Attention rows [n, T] of tokens at `positions` [n] -> mean over the text after the visual tokens, [N_v]."""
    return rows[positions >= visual.stop, visual].mean(dim=0)
