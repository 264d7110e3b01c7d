# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""What the last token attends to in every layer, for looking at. The decoder itself computes it in one layer at most.

Heard at the outputs of q_proj and k_proj, whatever linears these are (float, rotated, quantized), so a quantized
decoder shows the attention that it really has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from sqap_vla.cogact.llama import LlamaDecoder, rotary_tables, rotate, take_rope
from sqap_vla.cogact.token_dropping import head_mean_attention, take_tokens


@contextmanager
def recorded_attention(decoder: LlamaDecoder, last_index: Tensor) -> Iterator[dict[int, Tensor]]:
    """Within it, a prefill leaves every layer's attention row there: head-mean softmax of the last token over all
    tokens, float32 [B, T], by layer from 0.

    last_index: int64 [B], the last real token of each row, as LlamaDecoder takes it. The prefill must neither drop
    nor reuse tokens: those that remain would be taken for neighbours.
    """
    rows: dict[int, Tensor] = {}
    last = last_index[:, None]  # [B, 1]

    def heads(x: Tensor) -> Tensor:
        return x.unflatten(2, (-1, decoder.config.head_dim)).transpose(1, 2)  # [B, heads, T, d]

    def listen(index: int) -> tuple[Callable[..., None], Callable[..., None]]:
        queries: list[Tensor] = []

        def on_query(_: nn.Module, __: tuple[Tensor], q: Tensor) -> None:
            # The last layer has a query for the last token only.
            queries.append(heads(q if q.shape[1] == 1 else take_tokens(q, last)))  # [B, H, 1, d]

        def on_key(_: nn.Module, __: tuple[Tensor], k: Tensor) -> None:
            positions = last_index.new_tensor(range(k.shape[1])).expand(k.shape[0], -1)  # [B, T]
            rope = rotary_tables(positions, decoder.config.head_dim, decoder.config.rope_theta, k.dtype)
            q = rotate(queries.pop(), take_rope(rope, last))
            rows[index] = head_mean_attention(q, rotate(heads(k), rope), last)[:, 0]

        return on_query, on_key

    handles = []
    for index, layer in enumerate(decoder.layers):
        on_query, on_key = listen(index)  # q_proj is called before k_proj
        handles.append(layer.self_attn.q_proj.register_forward_hook(on_query))
        handles.append(layer.self_attn.k_proj.register_forward_hook(on_key))
    try:
        yield rows
    finally:
        for handle in handles:
            handle.remove()
