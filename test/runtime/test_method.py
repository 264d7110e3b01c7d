# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Methods are values: defaults, derived values, refusals."""
from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from sqap_vla.pruning.random_drop import RandomDropSelector
from sqap_vla.pruning.ring import NO_CAMERA_INFO, Ring, empty_ring
from sqap_vla.pruning.sqap import SqapSelector
from sqap_vla.runtime.method import make_method

RING = Ring(mask=np.ones(256, dtype=bool), centers=((8, 8),), pixel=(1.0, 1.0), fallback="")
NO_RING = empty_ring(NO_CAMERA_INFO)


def test_defaults_of_sqap():
    method = make_method("sqap")
    assert method.selector == SqapSelector(attention_share=0.25)
    assert (method.ratio, method.budget(), method.prune_layer, method.score_layer) == (0.4, 154, 3, 2)
    assert (method.ring_radius_tokens, method.no_geometry) == (2, "ring_off")
    assert method.ee_points_m == ((0, 0, 0),)
    assert method.uses_ring


def test_random_and_dense():
    random, dense = make_method("random", ratio=0.5), make_method("dense", ratio=0.5)
    assert random.selector == RandomDropSelector() and random.budget() == 128
    assert dense.selector is None and dense.budget() == 256
    assert not random.uses_ring and not dense.uses_ring


def test_the_score_layer_follows_the_prune_layer_unless_given():
    assert make_method("sqap", prune_layer=6).score_layer == 5
    assert make_method("sqap", prune_layer=6, score_layer=1).score_layer == 1


@pytest.mark.parametrize(("name", "no_geometry", "with_ring", "without_ring"), [
    ("dense", "ring_off", False, False), ("sqap", "ring_off", True, True), ("sqap", "dense", True, False),
    ("random", "dense", True, True),  # it never looks at the ring
])
def test_when_tokens_are_dropped(name, no_geometry, with_ring, without_ring):
    method = make_method(name, no_geometry=no_geometry)
    assert (method.prunes(RING), method.prunes(NO_RING)) == (with_ring, without_ring)


def test_fallback_is_told_only_by_a_method_that_uses_the_ring():
    assert make_method("sqap").fallback(NO_RING) == NO_CAMERA_INFO
    assert make_method("sqap").fallback(RING) == ""
    assert make_method("random").fallback(NO_RING) == make_method("dense").fallback(NO_RING) == ""


@pytest.mark.parametrize("name", ["dense", "random", "sqap"])
@pytest.mark.parametrize(("wrong", "message"), [
    ({"ratio": 1.0}, "ratio is 1.0"), ({"prune_layer": 0}, "prune_layer is 0"),
    ({"score_layer": 3}, r"score_layer is 3; it must be in \[0, 2\]"),
    ({"score_layer": -1}, "score_layer is -1"), ({"ring_radius_tokens": -1}, "ring_radius_tokens is -1"),
    ({"attention_share": 2.0}, "attention_share is 2.0"),
    ({"ee_points_m": ()}, "at least one"), ({"ee_points_m": ((0, 0),)}, "ee_points_m"),
    ({"ee_points_m": ((0, 0, np.nan),)}, "finite"), ({"no_geometry": "stop"}, "known are ring_off, dense"),
])
def test_bad_values_are_refused_whatever_the_method(name, wrong, message):
    with pytest.raises(ValueError, match=message):
        make_method(name, **wrong)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match="'fastvlm' is not known; known are dense, random, sqap"):
        make_method("fastvlm")


def test_methods_are_frozen_and_comparable():
    assert make_method("sqap") == make_method("sqap") != make_method("random")
    with pytest.raises(dataclasses.FrozenInstanceError):
        make_method("sqap").ratio = 0.1
