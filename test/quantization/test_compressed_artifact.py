# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""A compressed artifact holds exactly what quantizing in memory gives, and runs at its own precision only."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from sqap_vla.cogact.checkpoint import load_checkpoint
from sqap_vla.cogact.model import CogAct
from sqap_vla.quantization.artifact import load_artifact, open_model, prepare_artifact, write_artifact
from sqap_vla.quantization.frames import CalibrationFrames
from sqap_vla.quantization.linear import QuantizedLinear
from sqap_vla.quantization.manifest import ArtifactError
from sqap_vla.quantization.options import QuantizationOptions
from sqap_vla.quantization.order import Recipe
from sqap_vla.quantization.policy import PrecisionPolicy, QuantizationConfig, preset
from sqap_vla.quantization.quantize import quantize_model
from sqap_vla.quantization.rotation import Rotation

F32 = torch.float32
MIXED = QuantizationConfig(
    PrecisionPolicy.parse(["vision_backbone.siglip_featurizer.*.proj=w8a8", "*.layers.0.*=bf16"], "w4a8"),
    Rotation("qk_input", fold_norms=False),
)


@pytest.fixture(scope="session")
def frames() -> CalibrationFrames:
    """Five, with prompts of two lengths."""
    random = np.random.default_rng(0)
    pictures = [random.integers(0, 255, (40, 60, 3), np.uint8) for _ in range(5)]
    return CalibrationFrames.of(pictures, [[1, 9, 8, 7, 3, 2]] * 3 + [[1, 5, 3, 2]] * 2)


def answer(model: CogAct, frames: CalibrationFrames) -> Tensor:
    with torch.inference_mode():
        return model.cognition(model.encode_images(frames.dino, frames.siglip), frames.input_ids).cognition


@pytest.mark.parametrize(
    "config",
    [
        preset("default"),
        preset("default", group_size=8),
        preset("paper"),
        preset("calibrated"),
        preset("default", granularity="channel"),
        MIXED,
    ],
    ids=str,
)
def test_it_is_what_quantizing_in_memory_gives(
    config: QuantizationConfig, checkpoint: Path, frames: CalibrationFrames, tmp_path: Path
):
    calibrated = frames if config.needs_calibration else None
    manifest = write_artifact(checkpoint, tmp_path / "a", Recipe(F32, config, calibrated), max_shard_bytes=30_000)
    assert manifest.quantization_config == config and bool(manifest.calibration) == config.needs_calibration
    loaded = load_artifact(tmp_path / "a").model
    model = load_checkpoint(checkpoint).model
    quantize_model(model, config, (lambda: frames.run(model)) if calibrated else None)
    ours, theirs = loaded.state_dict(), model.state_dict()
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        if name.endswith("embed_tokens.weight"):
            assert torch.equal(ours[name], tensor.bfloat16()), "the table is kept in 16 bits"
        elif config.needs_calibration:  # kernels differ with the alignment of mapped weights, and so do sums
            torch.testing.assert_close(ours[name].float(), tensor.float(), rtol=1e-4, atol=1e-5, msg=name)
        else:
            assert torch.equal(ours[name], tensor), name
    model.decoder.embed_tokens.weight.data = ours["llm_backbone.llm.model.embed_tokens.weight"].float()
    torch.testing.assert_close(answer(loaded, frames), answer(model, frames))


def test_four_bits_take_a_fraction_of_the_bytes(large_checkpoint: tuple[Path, int, int], tmp_path: Path):
    path, total_bytes, _ = large_checkpoint
    manifest = write_artifact(path, tmp_path / "a", Recipe(F32, preset("default")))
    assert manifest.size_bytes < total_bytes / 6, "an eighth, scales and what is not quantized"


MEASURE = """
import sys, torch
from sqap_vla.quantization.artifact import load_artifact, write_artifact
from sqap_vla.quantization.order import Recipe
from sqap_vla.quantization.policy import preset

def anonymous_bytes():
    lines = dict(line.split(":") for line in open("/proc/self/status") if ":" in line)
    return sum(int(lines[key].split()[0]) * 1024 for key in ("RssAnon", "RssShmem"))

def note(progress=None):
    peak[0] = max(peak[0], anonymous_bytes())

recipe = Recipe(torch.float32, preset("default"))
write_artifact(sys.argv[3], sys.argv[2] + "-first", recipe)  # torch imports much on first use
load_artifact(sys.argv[2] + "-first")
start, peak = anonymous_bytes(), [0]
write_artifact(sys.argv[1], sys.argv[2], recipe, progress=note)
converting = peak[0] - start
start = anonymous_bytes()
loaded = load_artifact(sys.argv[2])
print(converting, anonymous_bytes() - start)
"""


def test_memory_of_converting_and_loading(
    checkpoint: Path, large_checkpoint: tuple[Path, int, int], tmp_path: Path, run_python
):
    """Converting holds a few copies of the largest layer, loading none at all."""
    path, total_bytes, largest_bytes = large_checkpoint
    converting, loading = map(int, run_python(MEASURE, path, tmp_path / "a", checkpoint).split())
    assert converting < 5 * largest_bytes + 40e6 < total_bytes
    assert loading < largest_bytes / 2


class TestPrecision:
    @pytest.fixture(scope="class")
    def w4a8(self, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
        out = tmp_path_factory.mktemp("artifact") / "w4a8"
        write_artifact(checkpoint, out, Recipe(F32, QuantizationOptions(precision="w4a8").on(None)), checkpoint)
        return out

    def test_an_artifact_runs_at_its_own_whatever_the_method_s_default(self, w4a8: Path):
        for default in (None, preset("default")):
            layers = open_model(w4a8, quantization=default).model.modules()
            assert {m.spec.precision.value for m in layers if isinstance(m, QuantizedLinear)} == {"w4a8"}

    @pytest.mark.parametrize("asked", [{}, {"precision": "w4a8"}, {"rotation": "full", "granularity": "token"}])
    def test_asking_for_what_it_is_changes_nothing(self, w4a8: Path, asked):
        open_model(w4a8, asked=QuantizationOptions(**asked))
        prepare_artifact(w4a8, asked=QuantizationOptions(**asked))

    @pytest.mark.parametrize(
        ("asked", "wanted"),
        [
            ({"precision": "w4a4"}, "w4a4 full token"),
            ({"precision": "bf16"}, "not quantized"),
            ({"rotation": "none"}, "w4a8 none token"),
            ({"group_size": 8}, "w4a8 full token group 8"),
            ({"rules": ("*.down_proj=w8a8",)}, "1 rules"),
        ],
    )
    def test_asking_for_another_is_refused(self, w4a8: Path, asked, wanted):
        for use in (open_model, prepare_artifact):
            with pytest.raises(ArtifactError, match=f"is w4a8 full token, asked for is .*{wanted}.*its own precision"):
                use(w4a8, asked=QuantizationOptions(**asked))

    def test_a_float_artifact_is_no_quantized_one(self, made: Path):
        with pytest.raises(ArtifactError, match="is not quantized, asked for is w4a4 full token"):
            open_model(made, asked=QuantizationOptions(precision="w4a4"))
        model = open_model(made, quantization=preset("default")).model
        assert not any(isinstance(module, QuantizedLinear) for module in model.modules())

    def test_a_checkpoint_is_compressed_into_the_cache_once(self, checkpoint: Path, tmp_path: Path, monkeypatch):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        told: list[str] = []
        first = open_model(checkpoint, quantization=preset("default"), progress=lambda p: told.append(p.stage))
        assert "writing weights" in told and any(isinstance(m, QuantizedLinear) for m in first.model.modules())
        del told[:]
        asked = QuantizationOptions(precision="w4a4")
        second = open_model(checkpoint, asked=asked, progress=lambda p: told.append(p.stage))
        assert second.directory == first.directory and "writing weights" not in told
        third = open_model(checkpoint, quantization=preset("default"), asked=QuantizationOptions(precision="w8a8"))
        assert third.directory != first.directory
        plain = open_model(checkpoint, quantization=preset("default"), asked=QuantizationOptions(precision="bf16"))
        assert plain.directory == checkpoint

    def test_what_needs_frames_says_so(self, checkpoint: Path, tmp_path: Path, frames: CalibrationFrames):
        with pytest.raises(ArtifactError, match="needs calibration frames; make the artifact with sqap-vla compress"):
            prepare_artifact(checkpoint, tmp_path / "a", asked=QuantizationOptions(preset="calibrated"))
        with pytest.raises(ArtifactError, match="frames are given, and quantization w4a4 full token needs none"):
            prepare_artifact(checkpoint, tmp_path / "a", quantization=preset("default"), frames=frames)
        assert not (tmp_path / "a").exists()

    def test_a_quantization_that_does_not_fit_writes_nothing(self, checkpoint: Path, tmp_path: Path):
        with pytest.raises(ArtifactError, match="does not fit this network: .*32 inputs do not divide into groups"):
            prepare_artifact(checkpoint, tmp_path / "a", asked=QuantizationOptions(precision="w4a4", group_size=128))
        with pytest.raises(ArtifactError, match="matches no linear layer"):
            prepare_artifact(checkpoint, tmp_path / "a", asked=QuantizationOptions(rules=("*.down=w4a4",)))
        assert not (tmp_path / "a").exists()


def test_weights_that_are_not_finite_end_the_conversion(checkpoint: Path, tmp_path: Path):
    source = shutil.copytree(checkpoint, tmp_path / "broken")
    (weights,) = (source / "checkpoints").glob("*.pt")
    content = torch.load(weights, weights_only=True)
    content["model"]["llm_backbone"]["llm.model.layers.1.mlp.up_proj.weight"][3, 3] = torch.nan
    torch.save(content, weights)
    with pytest.raises(ArtifactError, match=r"layers.1.mlp.up_proj: the weight has NaN"):
        write_artifact(source, tmp_path / "a", Recipe(F32, preset("default")))
    assert {path.name for path in (tmp_path / "a").iterdir()} == {".lock"}
