# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""VLA-Cache's choices against those of the original code, and the rules at their edges."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sqap_vla.pruning.vla_cache import (
    VlaCachePolicy,
    patch_similarity,
    reusable_patches,
    reuse_shares,
    reused_by_layer,
    static_patches,
    top_patches,
)

REFERENCE = Path(__file__).parents[1] / "reference"


@pytest.fixture(scope="module")
def expected() -> dict[str, np.ndarray]:
    with np.load(REFERENCE / "g_vla_cache.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def similarity(expected) -> np.ndarray:
    return patch_similarity(expected["image"], expected["prev_image"])


class TestAgainstTheOriginal:
    def test_similarity(self, expected, similarity):
        assert similarity.dtype == np.float32
        np.testing.assert_allclose(similarity, expected["similarity"], atol=2e-7)

    @pytest.mark.parametrize(
        ("name", "most", "threshold"),
        [
            ("static_top40", 40, 0.996),
            ("static_top130", 130, 0.996),
            ("static_top150", 150, 0.996),
            ("static_top150_thr0.98", 150, 0.98),
        ],
    )
    def test_static_patches(self, expected, similarity, name, most, threshold):
        assert set(static_patches(similarity, most, threshold)) == set(expected[name])
        ranked = static_patches(expected["similarity"], most, threshold)
        assert ranked.tolist() == expected[name].tolist(), "on the same figures, in the same order"

    @pytest.mark.parametrize("most", [100, 120])
    def test_relevant_patches(self, expected, most):
        ranked = top_patches(torch.from_numpy(expected["merged_scores"]), most)
        assert ranked.tolist() == expected[f"top_attention_{most}"].tolist()

    def test_reusable_tokens(self, expected):
        positions = 1 + reusable_patches(expected["static_top130"], expected["top_attention_120"])
        assert positions.tolist() == expected["reusable_tokens_default"].tolist()

    def test_computed_positions_shrink_at_the_published_layers(self, expected):
        with np.load(REFERENCE / "g_vla_cache_layers_transcribed.npz") as transcribed:
            prefix = "computed_positions_layer"
            layers = {int(name.removeprefix(prefix)): transcribed[name] for name in transcribed if prefix in name}
            counts = transcribed["top_k_per_prune_layer"].tolist()
        positions, shares = expected["reusable_tokens_default"], expected["schedule_reuse"]
        assert [max(1, int(shares[layer] * len(positions))) for layer in (2, 6, 9, 11)] == counts
        reused = reused_by_layer(positions, shares, (2, 6, 9, 11))
        aside: np.ndarray = np.array([], dtype=np.int64)
        for layer in range(32):
            aside = reused.get(layer, aside)
            if layer in layers:
                assert np.setdiff1d(np.arange(277), aside).tolist() == layers[layer].tolist()

    def test_the_whole_plan(self, expected):
        """From two pictures and two figures of the attention to positions by layer."""
        entropy = entropies(expected["schedule_attn"])
        policy = VlaCachePolicy()
        plan = policy.plan(
            expected["prev_image"], expected["image"], entropy, torch.from_numpy(expected["merged_scores"])
        )
        reusable = expected["reusable_tokens_default"].tolist()
        assert {layer: positions.tolist() for layer, positions in plan.items()} == {2: reusable[:4], 6: reusable[:11]}


def entropies(attention: np.ndarray) -> torch.Tensor:
    rows = torch.from_numpy(attention)[:, 0].mean(dim=1)  # [L, T, T]
    rows = rows / rows.sum(dim=-1, keepdim=True)
    return -(rows * (rows + 1e-10).log()).sum(-1).mean(-1)


@pytest.mark.parametrize(("growth", "name"), [(0.55, "schedule_reuse"), (None, "schedule_reuse_nogrowth")])
def test_layer_schedule_matches_the_original(expected, growth, name):
    shares = reuse_shares(entropies(expected["schedule_attn"]), growth)
    np.testing.assert_allclose(shares, expected[name], atol=2e-5)


def test_a_still_camera_has_static_patches_only():
    picture = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    similarity = patch_similarity(picture, picture)
    assert static_patches(similarity, 256, 0.999).shape == (256,)
    assert static_patches(similarity, 0, 0.999).shape == (0,)


def test_black_patches_are_not_similar_to_anything():
    black = np.zeros((28, 28, 3), np.uint8)
    assert patch_similarity(black, black).tolist() == [0.0] * 4


def test_nothing_reusable_reuses_nothing():
    assert reused_by_layer(np.array([], np.int64), np.ones(32, np.float32), (2, 6)) == {}


def test_the_set_only_grows_and_layers_beyond_the_decoder_are_left_out():
    positions = np.arange(1, 11)
    shares = np.array([0, 0, 0.5, 0, 0, 0, 0.3, 0, 0, 0.9], np.float32)
    reused = reused_by_layer(positions, shares, (2, 6, 9, 11))
    assert {layer: len(chosen) for layer, chosen in reused.items()} == {2: 5, 9: 9}
    assert reused[9][:5].tolist() == reused[2].tolist()


def test_a_share_of_nothing_still_reuses_one_token():
    reused = reused_by_layer(np.arange(1, 5), np.zeros(4, np.float32), (2,))
    assert {layer: chosen.tolist() for layer, chosen in reused.items()} == {2: [1]}


def test_the_relevance_layer_is_the_last_of_the_first_half_unless_given():
    assert VlaCachePolicy().relevance_layer_of(32) == 15
    assert [VlaCachePolicy().relevance_layer_of(n) for n in (1, 2, 4, 8)] == [0, 0, 1, 3]
    assert VlaCachePolicy(relevance_layer=2).relevance_layer_of(4) == 2
    with pytest.raises(ValueError, match="relevance_layer is 4; the decoder has layers 0 to 3"):
        VlaCachePolicy(relevance_layer=4).relevance_layer_of(4)


def test_pictures_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="multiples of 14"):
        patch_similarity(np.zeros((28, 30, 3), np.uint8), np.zeros((28, 30, 3), np.uint8))
    with pytest.raises(ValueError, match=r"\(28, 28, 3\) and \(14, 28, 3\)"):
        patch_similarity(np.zeros((28, 28, 3), np.uint8), np.zeros((14, 28, 3), np.uint8))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"similarity_threshold": 1.5}, "similarity_threshold is 1.5"),
        ({"static_tokens": -1}, "static_tokens is -1"),
        ({"reuse_layers": ()}, "reuse_layers is ()"),
        ({"reuse_layers": (6, 2)}, "ascending"),
        ({"reuse_growth": 2.0}, "reuse_growth is 2.0"),
    ],
)
def test_bad_values_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message.replace("()", r"\(\)")):
        VlaCachePolicy(**wrong)
