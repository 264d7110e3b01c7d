# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The bench on a tiny network: rows, files, checks that can fail; and what doctor says. Times are not asserted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sqap_vla import cli
from sqap_vla.cogact.random_checkpoint import demo_config, write_random_checkpoint
from sqap_vla.evaluation import bench, doctor
from sqap_vla.evaluation.bench_models import quantized_copy, random_model, weight_bytes, with_layers
from sqap_vla.evaluation.bench_rows import EAGER, GRAPH, rows_for
from sqap_vla.quantization.linear import QuantizedLinear
from sqap_vla.quantization.policy import preset
from sqap_vla.quantization.quantize import quantize_model
from sqap_vla.runtime.methods import METHODS

CPU = torch.device("cpu")
# The last of them is in the dtype that this CPU is fastest in: its name is of float32 or bfloat16.
DENSE = [row.name for row in rows_for(CPU) if row.method == "dense" and not row.quantized][-1]
FIELDS = {
    "name", "device", "llm_ms_p50", "total_ms_p50", "total_ms_p95", "total_ms_p99", "vision_ms_p50", "select_ms",
    "head_ms_p50", "speedup_vs_eager", "speedup_vs_graph", "peak_memory_gb", "bops_percent", "cold_start_ms",
}  # fmt: skip


@pytest.fixture
def stale(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine whose first answer is its answer for ever."""
    infer, answers = bench.Engine.infer, {}
    monkeypatch.setattr(bench.Engine, "infer", lambda self, seen: answers.setdefault(id(self), infer(self, seen)))


def run(out: Path, *arguments: str) -> tuple[int, dict]:
    status = cli.main(["bench", "--device", "cpu", "--rounds", "2", "--warm-up", "1", "--out", str(out), *arguments])
    file = out / "bench.json"
    return status, json.loads(file.read_text()) if file.is_file() else {}


def test_rows_are_measured_and_written(tmp_path: Path, capsys: pytest.CaptureFixture):
    names = [DENSE, "efficientvla", "random", "SQAP"]
    status, content = run(tmp_path, "--size", "demo", "--layers", "4", "--rows", ",".join(names), "--batches", "2")
    assert status == 0
    rows = {row["name"]: row for row in content["rows"]}
    assert sorted(rows) == sorted(names)
    for row in rows.values():
        assert row.keys() >= FIELDS and row["total_ms_p50"] > 0 and row["device"] == "cpu"
    assert rows["SQAP"]["batch_ms"].keys() == {"2"} and rows["SQAP"]["tokens_kept"] == 154
    assert rows["SQAP"]["weights_gb"] < rows[DENSE]["weights_gb"]
    assert rows[DENSE]["bops_percent"] == 100 > rows["SQAP"]["bops_percent"]
    assert content["checks"] and all(check["passed"] for check in content["checks"])
    assert "demo network, 4 decoder layers" in capsys.readouterr().out
    assert "4 decoder layers" in (tmp_path / "bench.md").read_text()
    with Image.open(tmp_path / "bench.png") as picture:
        assert picture.width > 800


def test_a_checkpoint_can_be_measured_and_small_networks_skip_what_does_not_fit(tmp_path: Path):
    checkpoint = write_random_checkpoint(tmp_path / "checkpoint", with_layers(demo_config(), 2))
    status, content = run(tmp_path / "out", "--checkpoint", str(checkpoint), "--rows", f"{DENSE},SQAP")
    assert status == 0
    dense, sqap = content["rows"]
    assert dense["skipped"] is None and "prune_layer is 3; the decoder has 2 layers" in sqap["skipped"]


def test_stale_values_fail_the_bench(tmp_path: Path, stale: None):
    status, content = run(tmp_path, "--size", "demo", "--layers", "2", "--rows", DENSE)
    assert status == 1
    assert [check["name"] for check in content["checks"] if not check["passed"]] == [f"{DENSE}: no stale values"]
    assert "**FAILED**" in (tmp_path / "bench.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rows", "no such"], "rows no such are not known; there are "),
        (["--rounds", "0"], "each must be at least 1"),
        (["--layers", "0"], "layers is 0"),
        (["--checkpoint", "x", "--layers", "3"], "leave them out with --checkpoint"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(tmp_path, capsys, arguments, message):
    assert run(tmp_path, *arguments)[0] == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_gpu_has_the_rows_that_are_promised():
    rows = rows_for(torch.device("cuda"))
    names = [row.name for row in rows]
    assert names[:3] == [EAGER, GRAPH, "graph SQAP pruning"] and names[-2:] == ["W4A4 dense", "SQAP"]
    assert {row.method for row in rows} == set(METHODS)
    assert [row.captured for row in rows] == [False] + [True] * (len(rows) - 1)


def test_the_quantized_copy_is_the_quantized_model():
    config = with_layers(demo_config(), 2)
    model = random_model(config, torch.float32, CPU)
    copy = quantized_copy(model, preset("default"), torch.float32)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    towers = [each.vision_backbone.dino_featurizer.pos_embed.data_ptr() for each in (copy, model)]
    assert towers[0] == towers[1], "what does not change is shared"
    assert 0 < weight_bytes(copy, shared_with=model) < weight_bytes(copy) < weight_bytes(model)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    quantize_model(model, preset("default"))
    expected = model.state_dict()
    for name, tensor in copy.state_dict().items():
        assert torch.equal(tensor, expected[name]), name
    assert sum(isinstance(module, QuantizedLinear) for module in copy.modules()) == 14


class TestDoctor:
    def test_it_names_devices_backends_and_the_choice(self, capsys):
        assert cli.main(["doctor", "--tokens", "16"]) == 0
        text = capsys.readouterr().out
        assert "cpu: " in text and "-> w4a4 by " in text and "GiB compressed" in text
        assert "Triton compiles for GPUs, not for cpu" in text

    def test_it_warns_where_compression_is_slower_or_nothing_runs_or_fits(self):
        def finding(ms: float | None, memory_gib: float = 80.0) -> doctor.DeviceFinding:
            backends = (doctor.BackendFinding("int8", "" if ms else "absent", ms),)
            return doctor.DeviceFinding("cuda", memory_gib, {"bfloat16": 2.0}, backends, "int8" if ms else None)

        assert finding(1.0).warnings == () and finding(1.0).speedup == 2.0
        assert "SLOWER than the dense one here (0.50x" in finding(4.0).warnings[0]
        assert "only the dense model" in finding(None).warnings[0]
        assert "does not fit, the compressed one does" in finding(1.0, 8.0).warnings[0]
        assert "not even the compressed" in finding(1.0, 4.0).warnings[0]

    def test_sizes_are_those_of_the_network(self):
        need = doctor.dense_gib()
        np.testing.assert_allclose([need["bfloat16"], need["w4a4"]], [14.1, 5.0], atol=0.1)
