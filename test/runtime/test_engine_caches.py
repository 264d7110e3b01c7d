# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Methods that carry something over: tokens from frame to frame, layers left out, the action head's features."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sqap_vla.cogact.checkpoint import LoadedCheckpoint, load_checkpoint
from sqap_vla.cogact.normalization import statistics_for
from sqap_vla.cogact.prompt import Tokenizer
from sqap_vla.cogact.random_checkpoint import write_random_checkpoint
from sqap_vla.runtime.engine import Engine
from sqap_vla.runtime.method import make_method
from sqap_vla.runtime.types import ActionChunk, Observation

LAYERS = 8
STEP_NS = 200_000_000


def frame(index: int, instruction: str = "pick up the red cube", moved: int | None = None) -> Observation:
    """A noisy table on which one box moves."""
    rgb = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    left = 10 * (index if moved is None else moved)
    rgb[100:140, left : left + 40] = (200, 30, 30)
    return Observation(rgb=rgb, stamp_ns=(index + 1) * STEP_NS, instruction=instruction)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_checkpoint(tmp_path_factory.mktemp("checkpoint"), seed=3)


@pytest.fixture(scope="module")
def loaded(directory: Path) -> LoadedCheckpoint:
    return load_checkpoint(directory)


@pytest.fixture(scope="module")
def engine_for(loaded: LoadedCheckpoint, directory: Path) -> Callable[..., Engine]:
    def make(name: str, **method) -> Engine:
        statistics = statistics_for(loaded.statistics, "tabletop")
        return Engine(loaded.model, Tokenizer.from_path(directory), statistics, make_method(name, **method), step_s=0.2)

    return make


def reused(chunk: ActionChunk) -> bool:
    return len(set(chunk.computed_tokens)) > 1


class TestVlaCache:
    def test_a_still_scene_computes_fewer_tokens_from_the_second_frame_on(self, engine_for):
        engine = engine_for("vla_cache", relevant_tokens=0)
        chunks = [engine.infer(frame(index)) for index in range(3)]
        tokens = chunks[0].computed_tokens[0]
        assert chunks[0].computed_tokens == (tokens,) * LAYERS
        for chunk in chunks[1:]:
            counts = chunk.computed_tokens
            assert counts[:2] == (tokens, tokens) and list(counts) == sorted(counts, reverse=True)
            assert tokens - 130 <= counts[-1] < tokens and len(chunk.selection.kept) == 256

    def test_a_frame_that_repeats_gives_the_dense_chunk(self, engine_for):
        engine, dense = engine_for("vla_cache", relevant_tokens=0), engine_for("dense")
        for index in range(2):
            chunk = engine.infer(frame(index, moved=0))
            np.testing.assert_allclose(chunk.actions, dense.infer(frame(index, moved=0)).actions, atol=1e-5)
        assert reused(chunk)

    def test_relevant_patches_and_moving_ones_are_computed(self, engine_for):
        engine = engine_for("vla_cache", relevant_tokens=256)
        assert not any(reused(engine.infer(frame(index))) for index in range(2))
        moving = engine_for("vla_cache", relevant_tokens=0)
        moving.infer(frame(0))
        other = np.random.default_rng(9).integers(0, 256, (224, 224, 3), dtype=np.uint8)
        assert not reused(moving.infer(Observation(other, 2 * STEP_NS, "pick up the red cube")))

    @pytest.mark.parametrize("change", ["instruction", "gap", "reset", "warm_up", "same stamp"])
    def test_it_starts_over(self, engine_for, change):
        engine = engine_for("vla_cache", relevant_tokens=0, max_frame_gap_s=0.5)
        engine.infer(frame(0))
        second = frame(1)
        if change == "instruction":
            second = frame(1, "open the top drawer")
        elif change == "gap":
            second = frame(4)
        elif change == "same stamp":
            second = frame(0)
        elif change == "reset":
            engine.reset()
        else:
            engine.warm_up(64, 48, runs=1)
        fresh = engine_for("vla_cache").infer(second)
        chunk = engine.infer(second)
        assert not reused(chunk)
        np.testing.assert_array_equal(chunk.actions, fresh.actions)
        assert reused(engine.infer(frame(6 if change == "gap" else 2, second.instruction)))

    def test_frames_of_a_cameras_own_size_may_be_resized_on_the_device(self, engine_for):
        """As on CUDA, where the host asks for the resized picture, to compare it with the next."""
        one, other = engine_for("vla_cache", relevant_tokens=0), engine_for("vla_cache", relevant_tokens=0)
        other._resizes_on_device = True
        rgb = np.random.default_rng(1).integers(0, 256, (3, 240, 320, 3), dtype=np.uint8)
        rgb[1, 60:] = rgb[0, 60:]  # most of the picture stays
        for index, picture in enumerate(rgb):
            observation = Observation(picture, (index + 1) * STEP_NS, "pick up the red cube")
            expected, chunk = one.infer(observation), other.infer(observation)
            assert reused(expected) == (index == 1) and chunk.computed_tokens == expected.computed_tokens
            np.testing.assert_array_equal(chunk.actions, expected.actions)

    def test_an_episode_is_the_same_each_time(self, engine_for):
        one, other = engine_for("vla_cache"), engine_for("vla_cache")
        first = [one.infer(frame(index)).actions for index in range(4)]
        one.reset()
        for engine in (one, other):
            for index, actions in enumerate(first):
                np.testing.assert_array_equal(engine.infer(frame(index)).actions, actions)

    def test_a_layer_that_is_not_there_is_refused(self, engine_for):
        with pytest.raises(ValueError, match="relevance_layer is 15; the decoder has layers 0 to 7"):
            engine_for("vla_cache", relevance_layer=15)


class TestEfficientVla:
    def test_layers_channels_and_tokens_are_left_out(self, engine_for, loaded):
        engine = engine_for("efficientvla")
        counts = engine.infer(frame(0)).computed_tokens
        assert len(counts) == LAYERS * 28 // 32 == len(engine.model.decoder.layers)
        assert [counts[0] - count for count in counts] == [0, 0] + [256 - 112] * 5
        width = loaded.model.config.decoder.intermediate_size
        assert engine.model.config.decoder.intermediate_size == width - round(0.25 * width)
        assert len(loaded.model.decoder.layers) == LAYERS, "other engines on this model keep all of it"

    def test_the_choice_of_layers_depends_on_the_weights_alone(self, engine_for):
        one, other = (engine_for("efficientvla", layers_kept=4) for _ in range(2))
        np.testing.assert_array_equal(one.infer(frame(0)).actions, other.infer(frame(0)).actions)

    def test_layers_can_be_named(self, engine_for, loaded):
        engine = engine_for("efficientvla", layers_dropped=(1, 6), mlp_sparsity=0.0)
        kept = [layer for index, layer in enumerate(loaded.model.decoder.layers) if index not in (1, 6)]
        assert [a is b for a, b in zip(engine.model.decoder.layers, kept, strict=True)] == [True] * 6

    def test_nothing_left_out_is_dense(self, engine_for):
        options = {"layers_kept": LAYERS, "mlp_sparsity": 0.0, "ratio": 0.0, "head_cache_interval": 1}
        chunk = engine_for("efficientvla", **options).infer(frame(0))
        np.testing.assert_allclose(chunk.actions, engine_for("dense").infer(frame(0)).actions, atol=1e-6)

    def test_the_head_is_cached(self, engine_for, monkeypatch):
        for interval, runs in ((1, 10), (5, 2)):
            engine = engine_for("efficientvla", head_cache_interval=interval)
            net, ran = engine.model.action_model.net, []
            run = net.run_blocks
            with monkeypatch.context() as patch:
                patch.setattr(net, "run_blocks", lambda x, ran=ran, run=run: (ran.append(1), run(x))[1])
                engine.infer(frame(0))
            assert len(ran) == runs

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"layers_kept": 9}, "layers_kept is 9; the decoder has 8 layers"),
            ({"layers_dropped": (8,)}, r"layers_dropped is \(8,\); the decoder has layers 0 to 7"),
            ({"layers_dropped": (2, 1)}, "ascending"),
            ({"layers_kept": 4, "layers_dropped": (1,)}, "give one of them"),
            ({"layers_kept": 2}, "prune_layer is 2; the decoder has 2 layers"),
        ],
    )
    def test_layers_that_cannot_be_are_refused(self, engine_for, wrong, message):
        with pytest.raises(ValueError, match=message):
            engine_for("efficientvla", **wrong)
