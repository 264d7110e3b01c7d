# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""`sqap-vla inspect --layers`: bytes that can be counted by hand, errors that follow the precision."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sqap_vla.cli import main
from sqap_vla.cogact.checkpoint import load_checkpoint
from sqap_vla.cogact.random_checkpoint import write_random_checkpoint
from sqap_vla.evaluation.inspect_layers import LayerCost, format_layers, layer_costs, stored_layers
from sqap_vla.quantization.frames import CalibrationFrames
from sqap_vla.quantization.policy import PrecisionPolicy, preset
from sqap_vla.quantization.quantize import quantize_model
from sqap_vla.runtime.calibration import calibration_pictures

REFERENCE = Path(__file__).parents[1] / "reference" / "f_cogact_tiny"
POLICY = PrecisionPolicy.parse(["*.layers.0.*=w8a8", "*.down_proj=w4a8", "vision_backbone.*.fc1=w8a8"])


def frames():
    return CalibrationFrames.of(calibration_pictures()[:1], [[1, 5, 9, 2]])


def costs(**changes) -> dict[str, LayerCost]:
    model = load_checkpoint(REFERENCE).model
    rows = layer_costs(model, preset("default", policy=POLICY, **changes), frames().run)
    return {row.name.replace("llm_backbone.llm.model.layers.", "decoder "): row for row in rows}


@pytest.fixture(scope="module")
def rows() -> dict[str, LayerCost]:
    return costs()


def test_every_linear_has_a_row_with_its_precision(rows):
    model = load_checkpoint(REFERENCE).model
    assert len(rows) == sum(isinstance(module, torch.nn.Linear) for module in model.modules())
    assert rows["decoder 0.self_attn.q_proj"].precision == "w8a8"
    assert rows["decoder 1.mlp.down_proj"].precision == "w4a8"
    assert rows["decoder 1.mlp.up_proj"].precision == "w4a4"
    assert rows["projector.projector.0"].precision == "float32"
    assert any(name.startswith("vision_backbone") and row.precision == "w8a8" for name, row in rows.items())


def test_bytes_are_those_of_integers_and_scales(rows):
    for row in rows.values():
        outputs, inputs = row.shape
        assert row.float_bytes == 2 * outputs * inputs
        if row.name.startswith("llm_backbone"):
            assert row.size_bytes == outputs * inputs * int(row.precision[1]) // 8 + 4 * outputs


def test_more_bits_less_error(rows):
    q = [rows[f"decoder {layer}.self_attn.k_proj"] for layer in (0, 1)]  # w8a8, w4a4
    assert 14 < q[1].weight_sqnr_db < 24 < 36 < q[0].weight_sqnr_db
    assert 8 < q[1].output_sqnr_db < 24 < 30 < q[0].output_sqnr_db


def test_layers_that_are_not_quantized_have_no_error(rows):
    assert rows["projector.projector.0"].weight_sqnr_db is None
    assert rows["projector.projector.0"].output_sqnr_db is None


@pytest.mark.parametrize("changes", [{"granularity": "channel"}, {"bias_correction": True}])
def test_what_needs_calibration_is_calibrated_on_the_same_frames(rows, changes):
    name = "decoder 1.self_attn.k_proj"
    calibrated = costs(**changes)[name]
    assert calibrated.size_bytes > rows[name].size_bytes  # channel scales, a bias
    assert calibrated.output_sqnr_db > 8 and 14 < calibrated.weight_sqnr_db < 24


def test_a_quantized_model_tells_its_bytes_and_no_errors(rows):
    model = load_checkpoint(REFERENCE).model
    quantize_model(model, preset("default", policy=POLICY))
    stored = {row.name: row for row in stored_layers(model)}
    assert {name: row.size_bytes for name, row in stored.items()} == {r.name: r.size_bytes for r in rows.values()}
    assert all(row.output_sqnr_db is None for row in stored.values())
    assert "rotation" in format_layers(list(rows.values()), preset("default"))
    assert "all" in format_layers(list(stored.values()))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_checkpoint(tmp_path_factory.mktemp("inspect") / "checkpoint")


class TestCommand:
    def test_the_table_is_printed(self, checkpoint, capsys):
        arguments = ["inspect", "--layers", "--checkpoint", str(checkpoint), "--rule", "*.down_proj=w8a8"]
        assert main(arguments) == 0
        lines = {line.split()[1]: line.split() for line in capsys.readouterr().out.splitlines() if "decoder" in line}
        assert lines["0.mlp.down_proj"][5] == "w8a8" and lines["0.mlp.up_proj"][5] == "w4a4"
        assert all(float(word) > 8 for line in lines.values() for word in line[-2:])

    def test_an_artifact_tells_what_it_stores(self, checkpoint, tmp_path, capsys):
        assert main(["compress", str(checkpoint), str(tmp_path / "artifact"), "--precision", "w4a8"]) == 0
        capsys.readouterr()
        assert main(["inspect", "--layers", "--checkpoint", str(tmp_path / "artifact")]) == 0
        lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("decoder")]
        assert len(lines) == 7 * 8 and all(line[5] == "w4a8" and line[-2:] == ["-", "-"] for line in lines)
        assert main(["inspect", "--layers", "--checkpoint", str(tmp_path / "artifact"), "--precision", "w8a8"]) == 1
        assert "an artifact runs at its own precision" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ([], "no checkpoint was named"),
            (["--checkpoint", "nowhere"], "nowhere"),
            (["--rule", "*.down_prj=w8a8"], "matches no linear layer"),
            (["--rule", "w8a8"], "has no '='"),
        ],
    )
    def test_what_is_wrong_is_said_in_one_line(self, checkpoint, capsys, arguments, message):
        given = ["--checkpoint", str(checkpoint)] if "--rule" in arguments else []
        assert main(["inspect", "--layers", *given, *arguments]) == 1
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
