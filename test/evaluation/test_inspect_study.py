# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The paper's two observations on a network with known outliers, and what the rotation is expected to bring."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sqap_vla.cogact.config import DecoderConfig, HeadConfig
from sqap_vla.cogact.layout import build_on_meta
from sqap_vla.cogact.model import CogAct
from sqap_vla.cogact.preprocess import preprocess
from sqap_vla.cogact.random_checkpoint import demo_config, random_tensors
from sqap_vla.evaluation.inspect_report import study_content, write_study
from sqap_vla.evaluation.inspect_study import ROTATIONS, Study, StudyFrame, Variant, all_variants, run_study
from sqap_vla.quantization.outliers import add_outliers
from sqap_vla.quantization.quantizer import Granularity, Precision
from sqap_vla.runtime.calibration import calibration_pictures

TOKEN = Granularity.TOKEN
PROMPT = [1, 5, 9, 7, 30, 31, 2]


def network(width: int, inner: int, layers: int) -> CogAct:
    decoder = DecoderConfig(192, width, inner, layers, 4, 4)
    config = replace(demo_config(), decoder=decoder, head=HeadConfig(2, 32, 2, token_size=width))
    model = build_on_meta(config)
    tensors = random_tensors(config, seed=0)
    model.load_state_dict({name: tensors[name] for name in model.state_dict()}, assign=True)
    return model.requires_grad_(False)


def frames_of(model: CogAct, count: int) -> list[StudyFrame]:
    noise = torch.randn(1, 16, 7, generator=torch.Generator().manual_seed(0))
    pictures = calibration_pictures()[:count]
    features = [model.vision_backbone(*(tower[None] for tower in preprocess(picture))) for picture in pictures]
    return [StudyFrame(*pair, noise) for pair in zip(pictures, [PROMPT] * count, features, strict=True)]


def with_outliers(width: int, inner: int, layers: int, variants: list[Variant], count: int = 2) -> Study:
    with torch.inference_mode():
        model = network(width, inner, layers)
        frames = frames_of(model, count + 1)
        visual = model.projector(torch.cat([frame.features for frame in frames]))
        add_outliers(model, visual, [PROMPT] * len(frames))
        return run_study(model, frames[:count], frames[count:], layer=layers - 1, k=38, variants=variants)


@pytest.fixture(scope="module")
def wide() -> Study:
    """Wide enough for the errors of many channels to average, few layers."""
    variants = [Variant(name, granularity) for name in ROTATIONS for granularity in (TOKEN, Granularity.TENSOR)]
    more = [Variant("full", TOKEN, calibrated=True), Variant("full", TOKEN, Precision.W8A8)]
    return with_outliers(512, 1376, 2, [*variants, *more])


@pytest.fixture(scope="module")
def small() -> Study:
    return with_outliers(48, 112, 2, all_variants(), count=1)


class TestWhatIsExpected:
    @pytest.mark.parametrize("without", ["none", "none, norms folded"])
    def test_full_rotation_brings_eight_db_in_four_bits(self, wide, without):
        """With one scale for a tensor, as in the paper. Folding the norms alone, which it needs, brings nothing."""
        before, full = (wide.result(Variant(name, Granularity.TENSOR)) for name in (without, "full"))
        assert full.cognition_sqnr_db > before.cognition_sqnr_db + 8

    @pytest.mark.parametrize("without", ["none", "none, norms folded"])
    def test_by_token_calibration_is_needed_for_eight(self, wide, without):
        """A scale for each token copes better with outliers; what is left is then the weights' rounding."""
        before, full = (wide.result(Variant(name, TOKEN)) for name in (without, "full"))
        calibrated = wide.result(Variant("full", TOKEN, calibrated=True))
        assert full.cognition_sqnr_db > before.cognition_sqnr_db + 6
        assert calibrated.cognition_sqnr_db > before.cognition_sqnr_db + 8

    def test_eight_bits_with_rotation_keep_the_actions(self, wide):
        """The actions of an untrained head hardly depend on the cognition feature, so that must agree as well."""
        result = wide.result(Variant("full", TOKEN, Precision.W8A8))
        assert result.worst_action_cosine > 0.999
        assert result.cognition_cosine > 0.999


class TestObservations:
    def test_quantization_scatters_attention_and_the_rotation_brings_it_back(self, wide):
        none, qk, full = (wide.result(Variant(name, TOKEN)) for name in ("none", "qk_input", "full"))
        at_k = wide.sizes.index(wide.k)
        assert none.rank_correlation[1] < qk.rank_correlation[1] < full.rank_correlation[1]
        assert full.overlap[1, at_k] > none.overlap[1, at_k] + 0.1

    def test_the_top_k_stay_far_more_often_than_by_chance(self, wide):
        full = wide.result(Variant("full", TOKEN))
        for size in (16, 24, 38):
            assert full.overlap[1, wide.sizes.index(size)] > 3 * size / 256

    def test_a_few_channels_are_large_until_they_are_rotated(self, wide):
        largest = {name: tails.channels[0] for name, tails in wide.tails.items()}
        assert largest["none"].max() > 8 * np.median(largest["none"])
        assert largest["none, norms folded"].max() > 8 * np.median(largest["none, norms folded"])
        for name in ("qk_input", "full"):
            assert largest[name].max() < 3 * np.median(largest[name])
            assert wide.tails[name].mean("self_attn.k_proj").zeros < 0.3
        assert wide.tails["none"].mean("self_attn.k_proj").zeros > 0.8


class TestStudy:
    def test_there_is_a_row_for_every_rotation_and_granularity(self, small):
        assert [result.variant for result in small.results] == all_variants()
        four_bits = {(v.rotation, v.granularity) for v in all_variants() if v.precision is Precision.W4A4}
        assert four_bits == {(rotation, granularity) for rotation in ROTATIONS for granularity in Granularity}

    def test_shapes(self, small):
        result = small.results[0]
        assert result.overlap.shape == (2, len(small.sizes)) and result.rank_correlation.shape == (2,)
        assert len(result.stream_sqnr_db) == 1 and result.attention.shape == (2, 1, 256)
        assert small.distinct is None  # one frame

    def test_granularities_that_share_their_weights_are_those_of_a_conversion_of_their_own(self, small):
        variants = [Variant("full", Granularity.TENSOR)]
        alone = with_outliers(48, 112, 2, variants, count=1).results[0]
        assert alone.cognition_sqnr_db == small.result(variants[0]).cognition_sqnr_db

    def test_more_bits_are_nearer(self, small):
        figures = [small.result(Variant("full", TOKEN, precision)) for precision in ("w4a4", "w8a8")]
        assert figures[0].cognition_sqnr_db + 10 < figures[1].cognition_sqnr_db

    def test_the_model_stays_as_it_is(self):
        with torch.inference_mode():
            model = network(48, 112, 2)
            frames = frames_of(model, 1)
            before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
            run_study(model, frames, frames, 0, 4, [Variant("full", TOKEN)])
        assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())

    @pytest.mark.parametrize(("layer", "k"), [(2, 38), (-1, 38), (0, 0), (0, 257)])
    def test_layers_and_numbers_that_do_not_exist_are_refused(self, layer, k):
        model = network(48, 112, 2)
        with torch.inference_mode():
            frames = frames_of(model, 1)
        with pytest.raises(ValueError, match="of 2, k"):
            run_study(model, frames, frames, layer, k, [])
        with pytest.raises(ValueError, match="0 frames"):
            run_study(model, [], frames, 0, 1, [])


class TestReport:
    def test_report_and_pictures_say_the_same(self, small, tmp_path: Path):
        report = write_study(tmp_path / "out", small, {"checkpoint": "tiny"}).read_text()
        content = json.loads((tmp_path / "out" / "report.json").read_text())
        assert content["about"] == {"checkpoint": "tiny"}
        assert len(content["variants"]) == len(all_variants())
        for row in content["variants"]:
            assert f"| {row['name']} | {row['cognition_sqnr_db']:.1f} | {row['cognition_cosine']:.4f}" in report
        for name in ("attention", "channels", "agreement"):
            assert f"({name}.png)" in report
            with Image.open(tmp_path / "out" / f"{name}.png") as picture:
                assert min(picture.size) > 300 and np.asarray(picture.convert("L")).std() > 10

    def test_figures_that_are_not_finite_are_null(self, small):
        broken = replace(small.results[0], cognition_sqnr_db=math.inf, stream_sqnr_db=[math.nan])
        content = study_content(replace(small, results=[broken]))
        assert content["variants"][0]["cognition_sqnr_db"] is None
        assert content["variants"][0]["stream_sqnr_db"] == [None]
