# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Stages on fixed buffers: nothing of an earlier frame stays, padding changes nothing, the device is asked nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from sqap_vla.cogact.checkpoint import load_checkpoint
from sqap_vla.cogact.model import CogAct
from sqap_vla.cogact.random_checkpoint import write_random_checkpoint
from sqap_vla.quantization.policy import preset
from sqap_vla.quantization.quantize import quantize_model
from sqap_vla.runtime.method import make_method
from sqap_vla.runtime.pipeline import Frame, Pipeline, Result

STEPS = 2
# Operators that wait for the device, or whose shapes only it knows; and tensors made of host values.
WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "_unique2", "bincount", "lift_fresh", "equal")


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_checkpoint(tmp_path_factory.mktemp("checkpoint"), seed=3)


@pytest.fixture(scope="module")
def model(directory: Path) -> CogAct:
    return load_checkpoint(directory).model


@pytest.fixture(scope="module")
def quantized(directory: Path) -> CogAct:
    model = load_checkpoint(directory).model
    quantize_model(model, preset("default"))
    return model


@dataclass(frozen=True)
class Row:
    """A row of a batch with its picture."""

    picture: np.ndarray
    rest: Frame

    def change(self, **values) -> Row:
        return replace(self, picture=values.pop("picture", self.picture), rest=replace(self.rest, **values))


def frame(seed: int = 0, prompt: int = 9, ring: int = 100) -> Row:
    random = np.random.default_rng(seed)
    mask = np.zeros(256, bool)
    mask[ring : ring + 5] = True
    picture = random.integers(0, 256, (224, 224, 3), dtype=np.uint8)
    ids = [1, *random.integers(4, 100, prompt - 1).tolist()]
    noise = torch.randn(16, 7, generator=torch.Generator().manual_seed(seed))
    return Row(picture, Frame(ids, mask, seed, noise))


@torch.inference_mode()
def run(pipeline: Pipeline, *rows: Row, pruned: bool = True) -> Result:
    pipeline.upload_pictures([row.picture for row in rows])
    pipeline.vision()
    pipeline.upload([row.rest for row in rows], pruned)
    pipeline.llm()
    pipeline.head()
    return pipeline.download()


@torch.inference_mode()
def pipeline(model: CogAct, name: str = "sqap", batch: int = 1, length_step: int = 1) -> Pipeline:
    return Pipeline(model, make_method(name), batch, STEPS, 1.5, length_step)


def kept(result: Result) -> list[list[int]]:
    return [selection.kept.tolist() for selection in result.selections]


@pytest.mark.parametrize("name", ["dense", "random", "fastv", "efficientvla", "sqap"])
def test_nothing_of_an_earlier_frame_stays(model, name):
    used = pipeline(model, name)
    steps = [(frame(0), True), (frame(1), True), (frame(2, prompt=14), False), (frame(3), True), (frame(0), False)]
    for each, pruned in steps:  # a longer and a shorter prompt, with and without pruning
        result, fresh = run(used, each, pruned=pruned), run(pipeline(model, name), each, pruned=pruned)
        np.testing.assert_array_equal(result.samples, fresh.samples)
        assert kept(result) == kept(fresh) and result.computed == fresh.computed


def test_nothing_of_a_longer_prompt_stays_in_the_padding(model):
    """Scales of a whole tensor would see it, attention does not."""
    used = pipeline(model, length_step=32)
    run(used, frame(0, prompt=40))
    run(used, frame(1, prompt=9))
    assert not used._text.device["ids"][:, 9:32].any()


def test_prompts_are_uploaded_when_they_change(model, monkeypatch):
    used, sent = pipeline(model), []
    upload = used._text.upload
    monkeypatch.setattr(used._text, "upload", lambda: (sent.append(1), upload()))
    first = run(used, frame(0)).samples
    run(used, frame(1).change(ids=frame(0).rest.ids))
    assert len(sent) == 1
    run(used, frame(0, prompt=14))
    assert len(sent) == 2
    with pytest.raises(ValueError, match="token ids reach"):
        used.upload([frame(0).change(ids=[1, 999]).rest], pruned=True)
    np.testing.assert_array_equal(run(used, frame(0)).samples, first)
    assert len(sent) == 3


@pytest.mark.parametrize(
    "change",
    [
        {"picture": frame(5).picture},
        {"ids": frame(5).rest.ids},
        {"noise": frame(5).rest.noise},
        {"ring": frame(0, ring=7).rest.ring},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_input_reaches_the_samples(model, change):
    used = pipeline(model)
    before = run(used, frame()).samples
    assert not np.array_equal(run(used, frame().change(**change)).samples, before)
    np.testing.assert_array_equal(run(used, frame()).samples, before)


def test_a_result_is_not_overwritten_by_the_next_frame(model):
    used = pipeline(model)
    first = run(used, frame(0))
    samples, tokens = first.samples.copy(), kept(first)
    run(used, frame(1))
    np.testing.assert_array_equal(first.samples, samples)
    assert kept(first) == tokens


@pytest.mark.parametrize("name", ["dense", "fastv", "efficientvla", "sqap"])
def test_padding_changes_nothing(model, name):
    for prompt in (9, 31, 32, 33):
        exact = run(pipeline(model, name), frame(prompt=prompt))
        padded = run(pipeline(model, name, length_step=32), frame(prompt=prompt))
        assert kept(padded) == kept(exact)
        np.testing.assert_allclose(padded.samples, exact.samples, atol=2e-5)
        assert padded.computed[0] == 256 + -(-prompt // 32) * 32


def test_padding_changes_nothing_with_integers_either(quantized):
    exact, padded = (run(pipeline(quantized, length_step=step), frame()) for step in (1, 32))
    assert kept(padded) == kept(exact)
    np.testing.assert_allclose(padded.samples, exact.samples, atol=2e-3)  # a rounding that goes the other way


@pytest.mark.parametrize("name", ["dense", "random", "sqap"])
def test_a_batch_is_its_rows(model, name):
    frames = [frame(0), frame(1, prompt=14), frame(2, ring=30)]
    together = run(pipeline(model, name, batch=3), *frames)
    for row, each in enumerate(frames):
        alone = run(pipeline(model, name), each)
        assert kept(together)[row] == kept(alone)[0]
        np.testing.assert_allclose(together.samples[row], alone.samples[0], atol=2e-5)


class AsksNothing(TorchDispatchMode):
    """Fails where an operator could not be part of a CUDA graph."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        assert name not in WAITING, f"{name} cannot be captured"
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ["dense", "random", "fastv", "efficientvla", "sqap"])
@pytest.mark.parametrize("integers", [False, True], ids=["float", "integers"])
def test_the_stages_ask_the_device_nothing(model, quantized, name, integers):
    if integers and name == "efficientvla":
        name = "fastv"  # which reduces float weights only
    used = pipeline(quantized if integers else model, name, length_step=32)
    run(used, frame())  # tables are made and uploaded
    with torch.inference_mode():
        used.upload([frame(1).rest], pruned=True)
    with torch.inference_mode(), AsksNothing():
        used._run_vision()
        used._run_llm(32, name != "dense")
        used._run_head()


def test_that_check_finds_a_question():
    with pytest.raises(AssertionError, match="cannot be captured"), AsksNothing():
        torch.ones(3)[torch.ones(3).sum() > 2].sum()
    with pytest.raises(AssertionError, match="cannot be captured"), AsksNothing():
        torch.tensor([1.0, 2.0])


def test_frames_must_be_as_many_as_rows_and_prompts_fit(model):
    row = frame()
    with pytest.raises(ValueError, match="2 frames for a batch of 1"):
        pipeline(model).upload([row.rest, row.rest], pruned=False)
    with pytest.raises(ValueError, match="2 frames for a batch of 1"):
        pipeline(model).upload_pictures([row.picture, row.picture])
    with pytest.raises(ValueError, match="there is room for 2048"):
        pipeline(model).upload([frame(prompt=2049).rest], pruned=False)
