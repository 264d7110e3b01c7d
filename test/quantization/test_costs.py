# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Costs against numbers worked out by hand, for CogACT-Base and for a network small enough to count on paper."""

from __future__ import annotations

import pytest

from sqap_vla.cogact.config import CogActConfig, DecoderConfig, HeadConfig, VisionTowerConfig, official_config
from sqap_vla.quantization.costs import (
    Precision,
    Workload,
    as_run,
    cost,
    dense_workload,
    macs_by_part,
)

BASE = official_config()
W4A4 = Precision(4, 4)

# Per token and layer: q, k, v, o 4 * 4096^2 = 67 108 864; gate, up, down 3 * 4096 * 11008 = 135 266 304.
LAYER = 67_108_864 + 135_266_304
# Original vision: patch embedding 256 * 588 * (1024 + 1152); DINOv2-L 24 blocks of 12 * 1024^2 on 261 tokens;
# SigLIP 27 blocks of 4 * 1152^2 + 2 * 1152 * 4304 on 256.
VISION = 256 * 588 * 2176 + 24 * 12_582_912 * 261 + 27 * (5_308_416 + 9_916_416) * 256
PROJECTOR = 256 * (2176 * 8704 + 8704 * 4096 + 4096 * 4096)
# Head: 12 blocks of 12 * 768^2 on 17 tokens, twice for guidance, 10 steps; embeddings and final layer.
HEAD_BLOCKS = 12 * 12 * 768**2 * 17 * 2 * 10
HEAD_REST = 2 * 4096 * 768 + 10 * (256 * 768 + 768**2) + 20 * 16 * 7 * 768 + 20 * 17 * 768 * 7
REST = VISION + PROJECTOR + HEAD_BLOCKS + HEAD_REST

TINY = CogActConfig(
    dino=VisionTowerConfig(embed_dim=2, depth=2, num_heads=1, mlp_hidden=8, patch_size=14, image_size=14),
    siglip=VisionTowerConfig(embed_dim=3, depth=3, num_heads=1, mlp_hidden=6, patch_size=14, image_size=14),
    decoder=DecoderConfig(10, 4, 6, num_layers=2, num_heads=2, num_kv_heads=1),
    head=HeadConfig(depth=1, hidden_size=2, num_heads=1, token_size=4, action_dim=3, chunk_steps=4),
)


def pruned(kept: int, prune_layer: int, text: int = 25) -> Workload:
    tokens = (256 + text,) * prune_layer + (kept + text,) * (32 - prune_layer)
    return Workload(tokens, tokens, 11008)


class TestCogActBase:
    def test_each_part(self):
        assert macs_by_part(BASE, dense_workload(BASE, 281)) == {
            "vision": VISION,
            "projector": PROJECTOR,
            "llm": 281 * 32 * LAYER,
            "head": HEAD_BLOCKS + HEAD_REST,
        }
        assert 32 * LAYER == 6_476_005_376, "6.476 GMAC per token"

    def test_attention_products(self):
        with_products = macs_by_part(BASE, dense_workload(BASE, 281), attention_products=True)
        assert with_products["llm"] - 281 * 32 * LAYER == 32 * 2 * 281 * 281 * 4096
        assert with_products["vision"] - VISION == 24 * 2 * 261**2 * 1024 + 27 * 2 * 256**2 * 1152
        assert with_products["head"] - HEAD_BLOCKS - HEAD_REST == 12 * 2 * 17**2 * 768 * 20

    def test_sqap_in_both_conventions(self):
        dense = 281 * 32 * LAYER + REST
        llm = (281 * 3 + (154 + 25) * 29) * LAYER
        product, coarse = cost(BASE, pruned(154, 3), W4A4).relative_to(cost(BASE, dense_workload(BASE, 281)))
        assert product == pytest.approx(100 * (llm / 16 + REST) / dense)
        assert coarse == pytest.approx(100 * (llm / 4 + REST) / dense)
        assert coarse == pytest.approx(26.3, abs=0.2), "the paper's figure"

    def test_published_operations_of_the_dense_network(self):
        """EfficientVLA's Table 4, 1 MAC = 2 FLOP; a prompt of 32 tokens."""
        for kept, teraflop in ((256, 4.19), (112, 2.45), (96, 2.25), (72, 1.96), (56, 1.76)):
            macs = cost(BASE, pruned(kept, 2, text=32)).macs
            assert 2 * macs / 1e12 == pytest.approx(teraflop, abs=0.012)

    def test_what_runs_here(self):
        """Each tower's last block and the last layer's other tokens are left out."""
        saved = macs_by_part(BASE, dense_workload(BASE, 281))
        runs = macs_by_part(BASE, as_run(dense_workload(BASE, 281)))
        assert saved["vision"] - runs["vision"] == 12_582_912 * 261 + 15_224_832 * 256
        assert saved["llm"] - runs["llm"] == 280 * (LAYER - 2 * 4096**2)
        assert saved["head"] == runs["head"] and saved["projector"] == runs["projector"]

    def test_a_cached_head_runs_its_blocks_in_two_of_ten_steps(self):
        work = Workload((281,) * 32, (281,) * 32, 11008, head_steps=10, head_block_runs=2)
        assert macs_by_part(BASE, work)["head"] == HEAD_BLOCKS / 5 + HEAD_REST

    def test_reused_tokens_save_linears_and_queries_but_not_keys(self):
        work = Workload((281,) * 2 + (212,) * 30, (281,) * 32, 11008)
        macs = macs_by_part(BASE, work, attention_products=True)["llm"]
        assert macs == (281 * 2 + 212 * 30) * (LAYER + 2 * 281 * 4096)

    def test_weight_bytes(self):
        """Matrices at 16 bits; quantized, the decoder's at 4 with a float32 scale for each output channel."""
        weights = 588 * 2176 + 24 * 12_582_912 + 27 * 15_224_832 + PROJECTOR / 256 + 32_064 * 4096
        head = 12 * 12 * 768**2 + 4096 * 768 + 256 * 768 + 768**2 + 7 * 768 + 768 * 7
        full = cost(BASE, dense_workload(BASE, 281)).weight_bytes
        assert full == 2 * (weights + head + 32 * LAYER)
        scales = 4 * 32 * (5 * 4096 + 2 * 11008)
        assert cost(BASE, dense_workload(BASE, 281), W4A4).weight_bytes == pytest.approx(
            2 * (weights + head) + 32 * LAYER / 2 + scales
        )

    def test_published_parameters_of_efficientvla(self):
        """7.63 billion, 5.87 with 28 layers and 25 % MLP sparsity, 4.86 with 22: differences of the weight matrices."""
        full = cost(BASE, dense_workload(BASE, 281)).weight_bytes / 2
        for layers, published in ((28, 5.87), (22, 4.86)):
            reduced = cost(BASE, Workload((281,) * layers, (281,) * layers, 8256)).weight_bytes / 2
            assert (full - reduced) / 1e9 == pytest.approx(7.63 - published, abs=0.01)

    def test_carried_bytes(self):
        work = Workload((281,) * 32, (281,) * 32, 11008, carried_tokens=281)
        assert cost(BASE, work).carried_bytes == 32 * 2 * 281 * 4096 * 2
        assert cost(BASE, dense_workload(BASE, 281)).carried_bytes == 0


class TestTinyNetwork:
    """1 patch; 3 text tokens, of which 1 more goes after the first layer; 2 steps without guidance."""

    WORK = Workload((4, 3), (4, 3), 6, head_steps=2, head_block_runs=1, guided=False)
    VISION = 1 * 588 * 5 + 2 * (4 * 4 + 2 * 2 * 8) + 3 * (4 * 9 + 2 * 3 * 6)
    PROJECTOR = 5 * 20 + 20 * 4 + 4 * 4
    LLM_PER_TOKEN = 4 * 4 + 2 * (4 * 2) + 4 * 4 + 3 * (4 * 6)  # q; k, v of one head of two; o; gate, up, down
    HEAD = 4 * 2 + 2 * (256 * 2 + 2 * 2) + 2 * 4 * 3 * 2 + 5 * 12 * 4 + 2 * 5 * 2 * 3

    def test_macs(self):
        assert macs_by_part(TINY, self.WORK) == {
            "vision": self.VISION,
            "projector": self.PROJECTOR,
            "llm": 7 * self.LLM_PER_TOKEN,
            "head": self.HEAD,
        }

    def test_bops(self):
        rest = self.VISION + self.PROJECTOR + self.HEAD
        priced = cost(TINY, self.WORK, Precision(4, 8))
        assert priced.bops_product == pytest.approx(7 * self.LLM_PER_TOKEN * 32 / 256 + rest)
        assert priced.bops_coarse == pytest.approx(7 * self.LLM_PER_TOKEN / 2 + rest)

    def test_activation_bytes(self):
        """Rows times inputs of every product, at the bits of the activations that it reads."""
        llm = 7 * (4 + 2 * 4 + 4 + 2 * 4 + 6)
        vision = 2 * 588 + 2 * (3 * 2 + 8) + 3 * (3 * 3 + 6)
        head = 4 + 2 * (256 + 2) + 2 * 4 * 3 + 5 * (3 * 2 + 8) + 2 * 5 * 2
        expected = 2 * (vision + (5 + 20 + 4) + head) + llm * 8 / 8
        assert cost(TINY, self.WORK, Precision(4, 8)).activation_bytes == pytest.approx(expected)


@pytest.mark.parametrize("bits", [(0, 4), (4, 0), (32, 16)])
def test_bits_that_cannot_be_are_refused(bits):
    with pytest.raises(ValueError, match="bits must be from 1 to 16"):
        Precision(*bits)


def test_precision_by_name():
    assert (str(Precision()), str(W4A4), str(Precision(4, 8))) == ("fp16", "W4A4", "W4A8")
