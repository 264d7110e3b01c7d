# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Outliers are there, folding the norms leaves them there, a rotation does not; and nothing else has changed."""

from __future__ import annotations

import copy

import pytest
import torch
from outlier_networks import PROMPT, picture_features, random_network, run

from sqap_vla.cogact.attention_record import recorded_attention
from sqap_vla.cogact.config import DecoderConfig
from sqap_vla.quantization.metrics import kurtosis, outlier_ratio
from sqap_vla.quantization.outliers import OutlierSpec, add_outliers
from sqap_vla.quantization.rotation import Rotation, rotate_model

ATOL = 1e-4
READERS = ("self_attn.k_proj", "self_attn.o_proj", "mlp.up_proj", "mlp.down_proj")
LAYERS = 3


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.inference_mode():
        yield


def made(heads: int, kv_heads: int):
    """The network as it was, what it reads, the one with outliers, and what was done."""
    model = random_network(DecoderConfig(192, 128, 344, LAYERS, heads, kv_heads))
    features = picture_features(model)
    changed = copy.deepcopy(model)
    outliers = add_outliers(changed, changed.projector(features), [PROMPT])
    return model, features, changed, outliers


@pytest.fixture(scope="module")
def networks():
    with torch.inference_mode():
        return made(4, 4)


ROTATIONS = {
    "folded": Rotation("none"),
    "qk_input": Rotation("qk_input", fold_norms=False),
    "full": Rotation("full"),
}


@pytest.fixture(scope="module")
def inputs(networks) -> dict[str, dict[str, torch.Tensor]]:
    """What the linears read: before, after, and after under each rotation."""
    model, features, changed, _ = networks
    with torch.inference_mode():
        read = {"before": run(model, features).inputs, "after": run(changed, features).inputs}
        for name, rotation in ROTATIONS.items():
            rotated = copy.deepcopy(changed)
            rotate_model(rotated, rotation)
            read[name] = run(rotated, features).inputs
    return read


def mean_of_layers(figure, inputs: dict[str, torch.Tensor], reader: str) -> float:
    # The last layer's o_proj and MLP see one token.
    return sum(figure(inputs[f"layers.{index}.{reader}"]) for index in range(LAYERS - 1)) / (LAYERS - 1)


@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (4, 2)])
def test_the_network_computes_what_it_did(heads, kv_heads):
    model, features, changed, outliers = made(heads, kv_heads)
    before, after = run(model, features), run(changed, features)
    assert (outliers.former_cognition(after.cognition) - before.cognition).abs().max() < ATOL
    assert (after.actions - before.actions).abs().max() < ATOL
    assert (after.cognition - before.cognition).abs().max() > 0.1  # it is in another basis


def test_other_frames_than_those_it_was_made_on_are_unchanged_too(networks):
    model, features, changed, _ = networks
    other = torch.randn(features.shape, generator=torch.Generator().manual_seed(1))
    assert (run(changed, other).actions - run(model, other).actions).abs().max() < ATOL


def test_attention_is_what_it_was(networks):
    model, features, changed, _ = networks
    last = torch.tensor([256 + len(PROMPT) - 1])
    rows = []
    for each in (model, changed):
        with recorded_attention(each.decoder, last) as recorded:
            run(each, features)
        rows.append(torch.stack([recorded[index] for index in range(LAYERS)]))
    assert (rows[0] - rows[1]).abs().max() < 1e-6


@pytest.mark.parametrize(
    ("reader", "least_factor"), [(reader, 1.5 if reader == "mlp.down_proj" else 3) for reader in READERS]
)
def test_a_few_channels_dwarf_the_others(inputs, reader, least_factor):
    """The input of down_proj is a product of two, and so has long tails as it is."""
    before, after = inputs["before"], inputs["after"]
    for figure in (kurtosis, outlier_ratio):
        assert mean_of_layers(figure, after, reader) > least_factor * mean_of_layers(figure, before, reader)
    assert mean_of_layers(outlier_ratio, after, reader) > 12


def test_they_are_the_same_channels_for_all_tokens(networks, inputs):
    """Figure 3a: a small set of fixed channels."""
    outliers = networks[3]
    largest = inputs["folded"]["layers.1.self_attn.k_proj"].abs().argmax(-1)
    assert torch.isin(largest, outliers.channels).double().mean() > 0.95


@pytest.mark.parametrize("reader", READERS)
def test_folding_the_norms_leaves_them_and_the_full_rotation_does_not(inputs, reader):
    assert mean_of_layers(outlier_ratio, inputs["folded"], reader) > 12
    assert mean_of_layers(outlier_ratio, inputs["full"], reader) < 6.5
    assert mean_of_layers(kurtosis, inputs["full"], reader) < 5


def test_rotating_queries_and_keys_alone_flattens_these_alone(inputs):
    assert mean_of_layers(outlier_ratio, inputs["qk_input"], "self_attn.k_proj") < 6.5
    assert mean_of_layers(outlier_ratio, inputs["qk_input"], "mlp.up_proj") > 12


def test_no_channels_and_no_spread_leave_normal_activations(networks):
    model, features, _, _ = networks
    plain = copy.deepcopy(model)
    spec = OutlierSpec(residual_channels=0, mlp_channels=0, value_channels=0, gain_spread=0)
    add_outliers(plain, plain.projector(features), [PROMPT], spec)
    assert mean_of_layers(outlier_ratio, run(plain, features).inputs, "self_attn.k_proj") < 7


def test_what_cannot_be_done_is_refused(networks):
    model, features, _, _ = networks
    visual = model.projector(features)
    with pytest.raises(ValueError, match="200 outlier channels of 128"):
        add_outliers(copy.deepcopy(model), visual, [PROMPT], OutlierSpec(residual_channels=200))
    with pytest.raises(ValueError, match="cancel in float32 alone"):
        add_outliers(copy.deepcopy(model).bfloat16(), visual, [PROMPT])
    dead = copy.deepcopy(model)
    dead.decoder.norm.weight[3] = 0
    with pytest.raises(ValueError, match="it cannot move"):
        add_outliers(dead, visual, [PROMPT])
    with pytest.raises(ValueError, match="must be >= 0"):
        OutlierSpec(mlp_energy=-1)
