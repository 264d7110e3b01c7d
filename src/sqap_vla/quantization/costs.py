# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""What one action chunk costs: multiply-accumulates, bit operations, bytes. From sizes alone; nothing runs.

Counted are matrix products: MACs = rows * inputs * outputs. Norms, activations, softmax, RoPE and the resize are
not. Bit operations (BOPs) are given relative to the dense network in fp16, in two conventions:

    product   sum of MACs * b_w * b_a              over the same sum with 16 * 16
    coarse    sum of MACs * max(b_w, b_a) / 16     over the sum of MACs

The coarse one gives the paper's figure for W4A4 (26.3 %): it counts what a 4-bit tensor core saves over a 16-bit one.
Only the decoder's linears have another precision than 16 bits; attention's own products (q k^T and the weighted sum
of v) multiply activations with activations and stay at 16. The paper's figures leave these products out.

Bytes: weights are the matrices that run and the embedding table at their bits, with a float32 scale for each output
channel below 16 bits. Activations are the rows that matrix products read, each product its own. Carried is what stays
in memory for the next frame.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass

from sqap_vla.cogact.config import CogActConfig, DecoderConfig, HeadConfig, VisionTowerConfig

SCALE_BYTES = 4
FULL_BITS = 16
COLOURS = 3
FREQUENCIES = 256  # of the head's timestep embedding


@dataclass(frozen=True)
class Precision:
    """Bits of the decoder's weights and of the activations that they meet."""

    weight_bits: int = FULL_BITS
    activation_bits: int = FULL_BITS

    def __post_init__(self) -> None:
        if not (1 <= self.weight_bits <= FULL_BITS and 1 <= self.activation_bits <= FULL_BITS):
            raise ValueError(f"precision is w{self.weight_bits}a{self.activation_bits}; bits must be from 1 to 16")

    def __str__(self) -> str:
        return "fp16" if self == Precision() else f"W{self.weight_bits}A{self.activation_bits}"


@dataclass(frozen=True)
class Workload:
    """What of the network runs for one chunk.

    computed: tokens that each decoder layer computes. attended: tokens whose keys they see, layer by layer.
    mlp_channels: width of the decoder's MLPs. head_steps: denoising steps; head_block_runs: those in which the blocks
    run. guided: conditional and unconditional half. original: count what the original code runs, as papers do; this
    package leaves out each vision tower's last block, whose output nobody reads, and runs the decoder's last layer for
    the last token alone but for keys and values. carried_tokens: tokens whose keys and values are kept for the next
    frame.
    """

    computed: tuple[int, ...]
    attended: tuple[int, ...]
    mlp_channels: int
    head_steps: int = 10
    head_block_runs: int = 10
    guided: bool = True
    original: bool = True
    carried_tokens: int = 0


@dataclass(frozen=True)
class Matmul:
    """`rows` rows of `inputs` numbers times a matrix with `outputs` columns, `times` times.

    weights: whether that matrix is one of the network's, so that it takes memory and its own bits.
    """

    part: str
    rows: int
    inputs: int
    outputs: int
    times: int = 1
    weights: bool = True
    copies: int = 1  # matrices of this shape in the network; `times` counts their uses

    @property
    def macs(self) -> int:
        return self.rows * self.inputs * self.outputs * self.times


@dataclass(frozen=True)
class Cost:
    """macs: per chunk. bops_product, bops_coarse: MACs weighted by bits, in units of 16-bit MACs. Bytes."""

    macs: float
    bops_product: float
    bops_coarse: float
    weight_bytes: float
    activation_bytes: float
    carried_bytes: float

    def relative_to(self, dense: Cost) -> tuple[float, float]:
        """BOPs in percent of `dense`: (product, coarse)."""
        return 100 * self.bops_product / dense.bops_product, 100 * self.bops_coarse / dense.bops_coarse


def dense_workload(config: CogActConfig, tokens: int, ddim_steps: int = 10) -> Workload:
    """Every token in every layer."""
    layers = (tokens,) * config.decoder.num_layers
    return Workload(layers, layers, config.decoder.intermediate_size, ddim_steps, ddim_steps)


def cost(
    config: CogActConfig, work: Workload, precision: Precision | None = None, attention_products: bool = False
) -> Cost:
    """The cost of one chunk. attention_products: count them, or leave them out as the paper does."""
    precision = precision or Precision()
    macs = product = coarse = weight_bytes = activation_bytes = 0.0
    for matmul in matmuls(config, work):
        quantized = matmul.weights and matmul.part == "llm"
        bits = precision if quantized else Precision()
        if matmul.weights:
            elements = matmul.copies * matmul.inputs * matmul.outputs
            scales = matmul.copies * matmul.outputs * SCALE_BYTES if bits.weight_bits < FULL_BITS else 0
            weight_bytes += elements * bits.weight_bits / 8 + scales
        elif not attention_products:
            continue
        macs += matmul.macs
        product += matmul.macs * bits.weight_bits * bits.activation_bits / FULL_BITS**2
        coarse += matmul.macs * max(bits.weight_bits, bits.activation_bits) / FULL_BITS
        activation_bytes += matmul.rows * matmul.inputs * matmul.times * bits.activation_bits / 8
    decoder = config.decoder
    weight_bytes += decoder.vocab_size * decoder.hidden_size * FULL_BITS / 8
    kv_width = 2 * decoder.num_kv_heads * decoder.head_dim
    carried = work.carried_tokens * len(work.computed) * kv_width * FULL_BITS / 8
    return Cost(macs, product, coarse, weight_bytes, activation_bytes, carried)


def matmuls(config: CogActConfig, work: Workload) -> list[Matmul]:
    """Every matrix product of one chunk."""
    fused = config.dino.embed_dim + config.siglip.embed_dim
    patches, width = config.dino.num_patches, config.decoder.hidden_size
    return [
        *_tower(config.dino, work),
        *_tower(config.siglip, work),
        Matmul("projector", patches, fused, 4 * fused),
        Matmul("projector", patches, 4 * fused, width),
        Matmul("projector", patches, width, width),
        *_decoder(config.decoder, work),
        *_head(config.head, work),
    ]


def _tower(config: VisionTowerConfig, work: Workload) -> Iterable[Matmul]:
    blocks = config.depth if work.original else config.depth - 1
    dim, patch = config.embed_dim, config.patch_size
    tokens = config.num_patches + config.num_prefix_tokens
    yield Matmul("vision", config.num_patches, COLOURS * patch * patch, dim)
    for inputs, outputs in ((dim, 3 * dim), (dim, dim), (dim, config.mlp_hidden), (config.mlp_hidden, dim)):
        yield Matmul("vision", tokens, inputs, outputs, blocks, copies=blocks)
    yield from _attention("vision", tokens, tokens, dim, blocks)


def _decoder(config: DecoderConfig, work: Workload) -> Iterable[Matmul]:
    dim, kv = config.hidden_size, config.num_kv_heads * config.head_dim
    for layer, (computed, attended) in enumerate(zip(work.computed, work.attended, strict=True)):
        last = layer == len(work.computed) - 1 and not work.original
        rows = 1 if last else computed
        yield Matmul("llm", rows, dim, dim)  # q
        yield Matmul("llm", computed, dim, kv, 2, copies=2)  # k, v
        yield Matmul("llm", rows, dim, dim)  # o
        yield Matmul("llm", rows, dim, work.mlp_channels, 2, copies=2)  # gate, up
        yield Matmul("llm", rows, work.mlp_channels, dim)  # down
        yield from _attention("llm", rows, attended, dim, 1)


def _head(config: HeadConfig, work: Workload) -> Iterable[Matmul]:
    halves, dim, steps = 1 + work.guided, config.hidden_size, work.head_steps
    tokens = config.chunk_steps + 1
    runs = halves * work.head_block_runs * config.depth
    yield Matmul("head", 1, config.token_size, dim, halves)
    yield Matmul("head", 1, FREQUENCIES, dim, steps)
    yield Matmul("head", 1, dim, dim, steps)
    yield Matmul("head", config.chunk_steps, config.action_dim, dim, halves * steps)
    for inputs, outputs in ((dim, 3 * dim), (dim, dim), (dim, 4 * dim), (4 * dim, dim)):
        yield Matmul("head", tokens, inputs, outputs, runs, copies=config.depth)
    yield from _attention("head", tokens, tokens, dim, runs)
    yield Matmul("head", tokens, dim, config.action_dim, halves * steps)


def _attention(part: str, queries: int, keys: int, dim: int, times: int) -> Iterable[Matmul]:
    """q k^T and the weighted sum of v over all heads; the masked half counts, since it is computed."""
    yield Matmul(part, queries, dim, keys, times, weights=False)
    yield Matmul(part, queries, keys, dim, times, weights=False)


def macs_by_part(config: CogActConfig, work: Workload, attention_products: bool = False) -> dict[str, int]:
    """MACs of vision, projector, llm and head."""
    parts = dict.fromkeys(("vision", "projector", "llm", "head"), 0)
    for matmul in matmuls(config, work):
        if matmul.weights or attention_products:
            parts[matmul.part] += matmul.macs
    return parts


def as_run(work: Workload) -> Workload:
    """The same as this package runs it."""
    return dataclasses.replace(work, original=False)
