# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Image and instruction to actions, as predict_action and predict_action_batch return them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tolerance import close

from sqap_vla.cogact.checkpoint import load_checkpoint
from sqap_vla.cogact.normalization import clip_actions
from sqap_vla.cogact.preprocess import preprocess

COGNITION_ATOL = 2e-5
SAMPLE_ATOL = 5e-5
ACTION_ATOL = 5e-6
BF16_ATOL = 0.05


@pytest.fixture(scope="module")
def expected(arrays):
    return arrays("f_end_to_end")


def cognition(model, tokenizer, images, instructions):
    pictures = zip(*map(preprocess, images), strict=True)
    visual = model.encode_images(*(torch.stack(tower) for tower in pictures))
    return model.cognition(visual, [tokenizer.encode(instruction) for instruction in instructions]).cognition


@pytest.mark.parametrize(
    ("case", "steps", "cfg_scale", "keys"),
    [
        ("ddim10", 10, 1.5, ["bridge_orig", "fractal20220817_data"]),
        ("ddim5", 5, 1.5, ["bridge_orig", "fractal20220817_data"]),
        ("nocfg_ddim10", 10, 1.0, ["bridge_orig"]),
    ],
)
def test_one_image_to_actions(expected, tiny, tokenizer, case, steps, cfg_scale, keys):
    feature = cognition(tiny.model, tokenizer, [expected["image"]], [str(expected["instruction"])])
    close(feature, expected["cognition"][:, 0], COGNITION_ATOL)
    samples = tiny.model.sample_actions(feature, torch.from_numpy(expected["noise"]), steps, cfg_scale).numpy()
    close(samples, expected[f"{case}_samples_raw"], SAMPLE_ATOL)
    close(clip_actions(samples[0]), expected[f"{case}_normalized"], SAMPLE_ATOL)
    for key in keys:
        close(tiny.statistics[key].unnormalize(samples[0]), expected[f"{case}_{key}_actions"], ACTION_ATOL)


def test_a_batch_to_actions(expected, tiny, tokenizer):
    feature = cognition(
        tiny.model,
        tokenizer,
        [expected["batch_image0"], expected["batch_image1"]],
        map(str, expected["batch_instructions"]),
    )
    close(feature, expected["batch_cognition"][:, 0], COGNITION_ATOL)
    samples = tiny.model.sample_actions(feature, torch.from_numpy(expected["batch_noise"])).numpy()
    close(samples, expected["batch_samples_raw"], SAMPLE_ATOL)
    close(clip_actions(samples), expected["batch_normalized"], SAMPLE_ATOL)
    close(tiny.statistics["bridge_orig"].unnormalize(samples), expected["batch_actions"], ACTION_ATOL)


def test_the_learned_uncondition_is_read(expected, tiny):
    np.testing.assert_array_equal(tiny.model.action_model.net.z_embedder.uncondition, expected["uncondition"][0])


def test_bfloat16_stays_near_the_autocast_reference(expected, reference, tokenizer):
    loaded = load_checkpoint(reference / "f_cogact_tiny", dtype=torch.bfloat16)
    assert {p.dtype for p in loaded.model.action_model.parameters()} == {torch.float32}
    feature = cognition(loaded.model, tokenizer, [expected["image"]], [str(expected["instruction"])])
    assert feature.dtype == torch.bfloat16
    close(feature.float(), expected["bf16autocast_cognition"][:, 0], BF16_ATOL)
    samples = loaded.model.sample_actions(feature, torch.from_numpy(expected["noise"])).numpy()
    close(samples, expected["bf16autocast_ddim10_samples_raw"], BF16_ATOL)
    close(
        loaded.statistics["bridge_orig"].unnormalize(samples[0]),
        expected["bf16autocast_bridge_orig_actions"],
        BF16_ATOL,
    )


def test_prompts_must_fit_the_images_and_the_vocabulary(tiny):
    visual = torch.zeros(1, 256, tiny.config.decoder.hidden_size)
    with pytest.raises(ValueError, match="2 prompts .* for 1 images"):
        tiny.model.cognition(visual, [[1, 2], [1, 2]])
    with pytest.raises(ValueError, match="none empty"):
        tiny.model.cognition(visual, [[]])
    with pytest.raises(ValueError, match="use the tokenizer of this checkpoint"):
        tiny.model.cognition(visual, [[1, tiny.config.decoder.vocab_size]])
