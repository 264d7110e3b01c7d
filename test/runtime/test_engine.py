# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The engine on a small random network: what a chunk depends on, what is kept, what happens without geometry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sqap_vla.cogact.checkpoint import LoadedCheckpoint, load_checkpoint
from sqap_vla.cogact.normalization import statistics_for
from sqap_vla.cogact.prompt import Tokenizer
from sqap_vla.cogact.random_checkpoint import write_random_checkpoint
from sqap_vla.pruning.projection import CameraModel
from sqap_vla.pruning.ring import BEHIND_CAMERA, NO_CAMERA_INFO, NO_CAMERA_TRANSFORM, OUTSIDE_IMAGE
from sqap_vla.pruning.selection import Reason
from sqap_vla.runtime.engine import Engine
from sqap_vla.runtime.method import make_method
from sqap_vla.runtime.types import ActionChunk, Observation

WIDTH, HEIGHT = 64, 48
CAMERA = CameraModel(np.array([[60.0, 0, 32], [0, 60, 24], [0, 0, 1]]), "", (), WIDTH, HEIGHT)
STAMP_NS = 1_700_000_000_123_456_789


def camera_T_ee(x: float = 0.0, z: float = 1.0) -> np.ndarray:
    pose = np.eye(4)
    pose[:3, 3] = (x, 0.0, z)
    return pose


RGB = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
SEEN = Observation(
    rgb=RGB,
    stamp_ns=STAMP_NS,
    instruction="pick up the red cube",
    camera=CAMERA,
    camera_T_ee=camera_T_ee(),
    base_T_ee=np.eye(4),
)
WITHOUT = {
    NO_CAMERA_INFO: replace(SEEN, camera=None),
    NO_CAMERA_TRANSFORM: replace(SEEN, camera_T_ee=None),
    BEHIND_CAMERA: replace(SEEN, camera_T_ee=camera_T_ee(z=-1.0)),
    OUTSIDE_IMAGE: replace(SEEN, camera_T_ee=camera_T_ee(x=5.0)),
}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_checkpoint(tmp_path_factory.mktemp("checkpoint"), seed=3)


@pytest.fixture(scope="module")
def loaded(directory: Path) -> LoadedCheckpoint:
    return load_checkpoint(directory)


@pytest.fixture(scope="module")
def engine_for(loaded: LoadedCheckpoint, directory: Path) -> Callable[..., Engine]:
    """Engine of a method; keywords with a name of the engine's go there, the others to the method."""

    def make(
        name: str = "sqap", *, seed: int = 0, ddim_steps: int = 4, unnorm_key: str = "tabletop", **method
    ) -> Engine:
        return Engine(
            loaded.model,
            Tokenizer.from_path(directory),
            statistics_for(loaded.statistics, unnorm_key),
            make_method(name, **method),
            step_s=0.2,
            seed=seed,
            ddim_steps=ddim_steps,
        )

    return make


def counts(chunk: ActionChunk) -> tuple[int, int, int, int]:
    kept = chunk.selection.counts()
    return tuple(kept[reason] for reason in (Reason.RING, Reason.ATTENTION, Reason.FPS, Reason.OTHER))


def same(one: ActionChunk, other: ActionChunk) -> bool:
    return np.array_equal(one.actions, other.actions) and one.selection.kept.tolist() == other.selection.kept.tolist()


def test_a_chunk_carries_what_it_was_made_of(engine_for: Callable[..., Engine]):
    chunk = engine_for().infer(SEEN)
    assert chunk.actions.shape == (16, 7) and chunk.actions.dtype == np.float64 and np.isfinite(chunk.actions).all()
    assert (chunk.stamp_ns, chunk.step_s, chunk.fallback) == (STAMP_NS, 0.2, "")
    assert chunk.base_T_ee is SEEN.base_T_ee
    assert set(chunk.actions[:, 6]) <= {0.0, 1.0}
    assert chunk.ring.pixel == pytest.approx((32.0, 24.0)) and chunk.ring.centers == ((8, 8),)
    stages = (chunk.times.preprocess_ms, chunk.times.vision_ms, chunk.times.llm_ms, chunk.times.head_ms)
    assert min(stages) > 0 and sum(stages) <= chunk.times.total_ms


def test_actions_are_in_the_units_of_the_robot_that_is_named(
    engine_for: Callable[..., Engine], loaded: LoadedCheckpoint
):
    for key in ("tabletop", "fractal20220817_data"):
        statistics = loaded.statistics[key]
        actions = engine_for(unnorm_key=key).infer(SEEN).actions
        assert (actions[:, :6] >= np.array(statistics.q01)[:6] - 1e-12).all()
        assert (actions[:, :6] <= np.array(statistics.q99)[:6] + 1e-12).all()


@pytest.mark.parametrize(
    "method, expected",
    [("dense", 256), ("random", 154), ("fastv", 56), ("vla_cache", 256), ("efficientvla", 112), ("sqap", 154)],
)
def test_each_method_keeps_its_budget(engine_for: Callable[..., Engine], method: str, expected: int):
    selection = engine_for(method).infer(SEEN).selection
    kept = selection.kept.tolist()
    assert len(kept) == len(selection.reason) == expected
    assert kept == sorted(set(kept)) and kept[0] >= 0 and kept[-1] < 256


def test_the_reasons_of_each_method(engine_for: Callable[..., Engine]):
    assert counts(engine_for("dense").infer(SEEN)) == (0, 0, 0, 256)
    assert counts(engine_for("random").infer(SEEN)) == (0, 0, 0, 154)
    assert counts(engine_for("fastv").infer(SEEN)) == (0, 56, 0, 0)
    assert counts(engine_for("efficientvla").infer(SEEN)) == (0, 4 + 54, 0, 54)
    ring, attention, spread, other = counts(engine_for("sqap").infer(SEEN))
    assert ring == 25 and other == 0
    assert 0 < attention <= 38 and ring + attention + spread == 154


def test_the_ring_is_kept_whole_under_its_own_reason(engine_for: Callable[..., Engine]):
    chunk = engine_for("sqap").infer(SEEN)
    protected = np.flatnonzero(chunk.ring.mask).tolist()
    assert chunk.selection.by_reason(Reason.RING).tolist() == protected
    rows, columns = np.divmod(protected, 16)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (6, 10, 6, 10)


@pytest.mark.parametrize("reason", WITHOUT)
def test_without_geometry_ring_off_prunes_and_says_why(engine_for: Callable[..., Engine], reason: str):
    chunk = engine_for("sqap", no_geometry="ring_off").infer(WITHOUT[reason])
    assert chunk.fallback == reason
    ring, attention, spread, other = counts(chunk)
    assert (ring, other) == (0, 0) and attention == 38 and attention + spread == 154


@pytest.mark.parametrize("reason", WITHOUT)
def test_without_geometry_dense_keeps_everything_and_says_why(engine_for: Callable[..., Engine], reason: str):
    chunk = engine_for("sqap", no_geometry="dense").infer(WITHOUT[reason])
    assert chunk.fallback == reason and len(chunk.selection.kept) == 256
    np.testing.assert_array_equal(chunk.actions, engine_for("dense").infer(SEEN).actions)


@pytest.mark.parametrize("method", ["dense", "random", "fastv", "vla_cache", "efficientvla"])
def test_a_method_without_ring_misses_no_geometry(engine_for: Callable[..., Engine], method: str):
    engine = engine_for(method)
    chunk = engine.infer(WITHOUT[NO_CAMERA_INFO])
    assert chunk.fallback == "" and same(chunk, engine.infer(SEEN))


@pytest.mark.parametrize("method", ["dense", "random", "fastv", "efficientvla", "sqap"])
def test_a_chunk_depends_on_seed_stamp_and_observation_alone(engine_for: Callable[..., Engine], method: str):
    engine = engine_for(method)
    first = engine.infer(SEEN)
    engine.warm_up(WIDTH, HEIGHT)
    engine.infer(replace(SEEN, instruction="open the top drawer", stamp_ns=STAMP_NS + 1))
    assert same(engine.infer(SEEN), first), "nothing is carried over from one frame to the next"
    assert same(engine_for(method).infer(SEEN), first), "nor from one engine to the next"
    assert not np.array_equal(engine_for(method, seed=1).infer(SEEN).actions, first.actions)
    assert not np.array_equal(engine.infer(replace(SEEN, stamp_ns=STAMP_NS + 1)).actions, first.actions)
    other_task = engine.infer(replace(SEEN, instruction="open the top drawer"))
    assert not np.array_equal(other_task.actions, first.actions)


def test_frames_of_a_cameras_own_size_may_be_resized_on_the_device(engine_for: Callable[..., Engine]):
    one, other = engine_for("sqap"), engine_for("sqap")
    other._resizes_on_device = True  # as on CUDA
    sizes = ((480, 640), (240, 320), (48, 64), (224, 224), (480, 640))  # one of them is smaller than the network's
    frames = [
        Observation(np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8), index, "go")
        for index, (height, width) in enumerate(sizes)
    ]
    for frame in frames:
        assert same(one.infer(frame), other.infer(frame))
    for ours, theirs in zip(one.predict_batch(frames), other.predict_batch(frames), strict=True):
        assert same(ours, theirs)


def test_the_random_draw_changes_with_seed_and_stamp(engine_for: Callable[..., Engine]):
    kept = [
        engine_for("random", seed=seed).infer(replace(SEEN, stamp_ns=stamp)).selection.kept.tolist()
        for seed, stamp in ((0, 1), (0, 2), (1, 1))
    ]
    assert kept[0] != kept[1] and kept[0] != kept[2]


def test_warming_up_needs_no_geometry_and_leaves_no_trace(engine_for: Callable[..., Engine]):
    engine = engine_for("sqap")
    engine.warm_up(runs=1)
    assert same(engine.infer(SEEN), engine_for("sqap").infer(SEEN))


def test_further_points_get_a_ring_too(engine_for: Callable[..., Engine]):
    chunk = engine_for("sqap", ee_points_m=((0.0, 0.0, 0.0), (0.4, 0.0, 0.0))).infer(SEEN)
    assert chunk.ring.centers == ((8, 8), (14, 8))
    assert counts(chunk)[0] == 25 + 20  # the second one is cut by the border
    assert chunk.ring.pixel == pytest.approx((32.0, 24.0)), "the first point is the end-effector"


@pytest.mark.parametrize(
    "wrong", [np.zeros((48, 64, 3), np.float32), np.zeros((48, 64), np.uint8)], ids=["f32", "grey"]
)
def test_a_picture_of_another_kind_is_refused_and_the_next_one_answered(engine_for: Callable[..., Engine], wrong):
    engine = engine_for("sqap")
    with pytest.raises(ValueError, match="must be uint8"):
        engine.infer(replace(SEEN, rgb=wrong))
    assert np.isfinite(engine.infer(SEEN).actions).all()


def test_a_layer_that_the_network_does_not_have_is_refused(engine_for: Callable[..., Engine]):
    with pytest.raises(ValueError, match="prune_layer is 8; the decoder has 8 layers"):
        engine_for("sqap", prune_layer=8)
    engine_for("dense", prune_layer=8)


class TestBatch:
    def test_each_chunk_is_the_one_that_infer_gives(self, engine_for: Callable[..., Engine]):
        engine = engine_for("sqap", no_geometry="dense")
        observations = [
            SEEN,
            WITHOUT[NO_CAMERA_INFO],  # not pruned, so it runs apart
            replace(SEEN, instruction="open the top drawer", stamp_ns=STAMP_NS + 1),
            replace(SEEN, camera_T_ee=camera_T_ee(x=0.2)),
        ]
        chunks = engine.predict_batch(observations)
        for observation, chunk in zip(observations, chunks, strict=True):
            alone = engine.infer(observation)
            assert chunk.stamp_ns == observation.stamp_ns and chunk.fallback == alone.fallback
            assert chunk.selection.kept.tolist() == alone.selection.kept.tolist()
            np.testing.assert_allclose(chunk.actions, alone.actions, atol=1e-5)

    def test_nothing_and_reuse_are_refused(self, engine_for: Callable[..., Engine]):
        with pytest.raises(ValueError, match="no observations"):
            engine_for("dense").predict_batch([])
        with pytest.raises(ValueError, match="'vla_cache' follows one camera"):
            engine_for("vla_cache").predict_batch([SEEN])
