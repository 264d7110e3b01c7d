# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""What a method leaves of the network, as numbers of tokens: the input of the cost table."""

from __future__ import annotations

from sqap_vla.cogact.config import CogActConfig
from sqap_vla.quantization.costs import Workload
from sqap_vla.runtime.methods.base import Method


def workload(
    method: Method, config: CogActConfig, text_tokens: int, reused_tokens: int = 0, ddim_steps: int = 10
) -> Workload:
    """One frame of `method`.

    text_tokens: length of the prompt, BOS and end included. reused_tokens: how many tokens a method with reuse takes
    from the frame before, from its first reuse layer on; the pictures decide that, so it must be assumed or measured.
    Raises ValueError where the method does not fit the network or no token could be reused that often.
    """
    visual = config.dino.num_patches
    tokens, layers = visual + text_tokens, config.decoder.num_layers
    method.check_fits(layers)
    channels = config.decoder.intermediate_size
    if method.reduction is not None:
        layers = method.reduction.num_kept(layers)
        channels -= round(method.reduction.mlp_sparsity * channels)
    computed, attended = [tokens] * layers, [tokens] * layers
    if method.selector is not None:
        left = method.budget(visual) + text_tokens
        computed[method.prune_layer :] = attended[method.prune_layer :] = [left] * (layers - method.prune_layer)
    if method.reuse is not None:
        if not 0 <= reused_tokens <= visual:
            raise ValueError(f"reused_tokens is {reused_tokens}; a frame has {visual} visual tokens")
        first = method.reuse.reuse_layers[0]
        computed[first:] = [tokens - reused_tokens] * (layers - first)
    return Workload(
        computed=tuple(computed),
        attended=tuple(attended),
        mlp_channels=channels,
        head_steps=ddim_steps,
        head_block_runs=-(-ddim_steps // method.head_cache_interval),
        carried_tokens=tokens if method.reuse is not None else 0,
    )
