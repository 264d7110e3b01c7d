# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Methods are values: defaults, derived values, refusals."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from sqap_vla.cogact.token_dropping import ScoreQueries
from sqap_vla.pruning.efficientvla import RelevanceDiversitySelector
from sqap_vla.pruning.random_drop import RandomDropSelector
from sqap_vla.pruning.ring import NO_CAMERA_INFO, Ring, empty_ring
from sqap_vla.pruning.sqap import SqapSelector
from sqap_vla.pruning.vla_cache import VlaCachePolicy
from sqap_vla.runtime.method import METHODS, Method, make_method, method_entry

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
    random, dense = (make_method(name, ratio=0.5) for name in ("random", "dense"))
    assert random.selector == RandomDropSelector() and random.budget() == 128
    assert dense.selector is None and dense.budget() == 256
    assert not random.uses_ring and not dense.uses_ring


def test_published_defaults_of_the_baselines():
    random, fastv, vla_cache, efficientvla = map(make_method, ("random", "fastv", "vla_cache", "efficientvla"))
    assert (random.budget(), random.prune_layer) == (154, 3)  # SQAP's, to differ in nothing but the choice
    as_published = make_method("random", **method_entry("random").published)
    assert (as_published.budget(), as_published.prune_layer) == (112, 2)
    assert (fastv.budget(), fastv.prune_layer, fastv.score_layer, fastv.queries) == (56, 2, 1, ScoreQueries.LAST)
    assert vla_cache.reuse == VlaCachePolicy(0.996, 130, 120, (2, 6, 9, 11), None, 0.55)
    assert vla_cache.selector is None and vla_cache.budget() == 256
    assert (efficientvla.budget(), efficientvla.prune_layer, efficientvla.queries) == (112, 2, ScoreQueries.TEXT)
    assert efficientvla.selector == RelevanceDiversitySelector(key_tokens=4, task_share=0.5)
    assert efficientvla.reduction.num_kept(32) == 28 and efficientvla.reduction.mlp_sparsity == 0.25
    assert efficientvla.head_cache_interval == 5
    assert {method.head_cache_interval for method in (random, fastv, vla_cache, make_method("sqap"))} == {1}


@pytest.mark.parametrize("switch", ["use_attention", "use_ring", "use_fps"])
def test_each_part_of_sqap_can_be_left_out(switch):
    assert make_method("sqap", **{switch: False}).selector == SqapSelector(**{switch: False})
    assert not make_method("sqap", use_ring=False).uses_ring


def test_sqap_without_attention_and_points_is_refused():
    with pytest.raises(ValueError, match="use_attention and use_fps are both off"):
        make_method("sqap", use_attention=False, use_fps=False)


def test_the_parameters_of_a_method_are_plain_values():
    assert make_method("dense").parameters() == {}
    assert make_method("random").parameters() == {"ratio": 0.4, "prune_layer": 3}
    for name in METHODS:
        json.dumps(make_method(name).parameters())
    assert make_method("sqap", use_fps=False).parameters()["use_fps"] is False
    assert make_method("vla_cache").parameters()["reuse_layers"] == [2, 6, 9, 11]
    assert make_method("efficientvla").parameters()["head_cache_interval"] == 5


def test_a_method_cannot_drop_and_reuse_tokens():
    with pytest.raises(ValueError, match="either drops tokens or reuses them"):
        Method(selector=RandomDropSelector(), reuse=VlaCachePolicy())


def test_the_score_layer_follows_the_prune_layer_unless_given():
    assert make_method("sqap", prune_layer=6).score_layer == 5
    assert make_method("sqap", prune_layer=6, score_layer=1).score_layer == 1


@pytest.mark.parametrize(
    ("name", "no_geometry", "with_ring", "without_ring"),
    [
        ("dense", "ring_off", False, False),
        ("sqap", "ring_off", True, True),
        ("sqap", "dense", True, False),
        ("random", "dense", True, True),  # it never looks at the ring
    ],
)
def test_when_tokens_are_dropped(name, no_geometry, with_ring, without_ring):
    method = make_method(name, no_geometry=no_geometry)
    assert (method.prunes(RING), method.prunes(NO_RING)) == (with_ring, without_ring)


def test_fallback_is_told_only_by_a_method_that_uses_the_ring():
    assert make_method("sqap").fallback(NO_RING) == NO_CAMERA_INFO
    assert make_method("sqap").fallback(RING) == ""
    assert make_method("random").fallback(NO_RING) == make_method("dense").fallback(NO_RING) == ""


def test_a_score_layer_that_does_not_run_on_all_tokens_is_refused():
    for name in ("fastv", "efficientvla", "sqap"):
        with pytest.raises(ValueError, match=r"score_layer is 4; it must be in \[0, 3\]"):
            make_method(name, prune_layer=4, score_layer=4)
    assert make_method("random", prune_layer=4, score_layer=4).prune_layer == 4, "it ranks nothing"


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"ratio": 1.0}, "ratio is 1.0"),
        ({"prune_layer": 0}, "prune_layer is 0"),
        ({"score_layer": -1}, "score_layer is -1"),
        ({"ring_radius_tokens": -1}, "ring_radius_tokens is -1"),
        ({"attention_share": 2.0}, "attention_share is 2.0"),
        ({"ee_points_m": ()}, "at least one"),
        ({"ee_points_m": ((0, 0),)}, "ee_points_m"),
        ({"ee_points_m": ((0, 0, np.nan),)}, "finite"),
        ({"no_geometry": "stop"}, "known are ring_off, dense"),
    ],
)
def test_bad_values_are_refused_whatever_the_method(name, wrong, message):
    with pytest.raises(ValueError, match=message):
        make_method(name, **wrong)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(
        ValueError, match="'fastvlm' is not known; known are dense, random, fastv, vla_cache, efficientvla, sqap"
    ):
        make_method("fastvlm")


def test_methods_are_frozen_and_comparable():
    assert make_method("sqap") == make_method("sqap") != make_method("random")
    with pytest.raises(dataclasses.FrozenInstanceError):
        make_method("sqap").ratio = 0.1
