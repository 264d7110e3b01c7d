# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

from sqap_vla.cogact.checkpoint import load_statistics
from sqap_vla.cogact.errors import CheckpointError
from sqap_vla.cogact.normalization import ActionStatistics, clip_actions, statistics_for, statistics_from_dict


@pytest.fixture(scope="module")
def expected(arrays):
    return arrays("b_unnormalize")


@pytest.mark.parametrize("key", ["bridge_orig", "fractal20220817_data"])
def test_actions_match_bit_for_bit(expected, key):
    statistics = ActionStatistics(expected[f"{key}_q01"], expected[f"{key}_q99"], expected["mask"])
    actions = statistics.unnormalize(expected["samples"])
    assert actions.dtype == np.float64
    np.testing.assert_array_equal(actions, expected[f"{key}_actions"])


def test_without_a_mask_the_gripper_is_scaled_too(expected):
    statistics = ActionStatistics.from_dict(
        {"q01": expected["bridge_orig_q01"].tolist(), "q99": expected["bridge_orig_q99"].tolist()}
    )
    np.testing.assert_array_equal(statistics.unnormalize(expected["samples"]), expected["bridge_orig_nomask_actions"])


def test_clipping_matches_and_leaves_its_input_alone(expected):
    samples = expected["samples"].copy()
    np.testing.assert_array_equal(clip_actions(samples), expected["normalized"])
    np.testing.assert_array_equal(samples, expected["samples"])


def test_the_gripper_opens_at_exactly_one_half():
    samples = np.zeros((3, 7), np.float32)
    samples[:, 6] = np.nextafter(np.float32(0.5), np.float32(0)), 0.5, 7.0
    np.testing.assert_array_equal(clip_actions(samples)[:, 6], [0, 1, 1])


def test_an_unknown_key_names_the_known_ones(reference):
    statistics = load_statistics(reference / "f_cogact_tiny")
    with pytest.raises(CheckpointError) as error:
        statistics_for(statistics, "bridge")
    assert str(error.value) == (
        "unnorm_key 'bridge' is not in dataset_statistics.json; it has: bridge_orig, fractal20220817_data"
    )
    with pytest.raises(CheckpointError, match="unnorm_key None"):
        statistics_for(statistics, None)


def test_a_single_data_set_needs_no_key():
    entry = {"action": {"q01": [0.0] * 7, "q99": [1.0] * 7}}
    statistics = statistics_from_dict({"only": entry})
    assert statistics_for(statistics, None) is statistics["only"]


@pytest.mark.parametrize(
    "entry",
    [
        {},
        [],
        {"action": {}},
        {"action": {"q01": [0.0] * 7}},
        {"action": {"q01": [0.0] * 6, "q99": [1.0] * 7}},
        {"action": {"q01": [0.0] * 6, "q99": [1.0] * 6}},
        {"action": {"q01": ["x"] * 7, "q99": [1.0] * 7}},
        {"action": {"q01": [float("nan")] * 7, "q99": [1.0] * 7}},
        {"action": {"q01": [0.0] * 7, "q99": [1.0] * 7, "mask": [True]}},
    ],
)
def test_a_broken_entry_is_named(entry):
    with pytest.raises(CheckpointError, match="entry 'robot' is not usable"):
        statistics_from_dict({"robot": entry})
