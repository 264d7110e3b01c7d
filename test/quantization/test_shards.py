# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Shards are plain safetensors, planned to a size, read back as views; a damaged one raises ArtifactError."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from sqap_vla.quantization.manifest import ArtifactError
from sqap_vla.quantization.shards import TensorSpec, map_tensors, plan_shards, write_shard

TENSORS = {
    "a.weight": torch.arange(15.0).reshape(3, 5).bfloat16(),
    "odd": torch.tensor([1.5], dtype=torch.bfloat16),
    "scalar": torch.tensor(3.0),
    "empty": torch.zeros(0, 4),
    "head.weight": torch.randn(7, 3),
}
SPECS = [TensorSpec(name, tensor.dtype, tuple(tensor.shape)) for name, tensor in TENSORS.items()]
EXPECTED = {spec.name: spec for spec in SPECS}


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    write_shard(path, plan_shards(SPECS, 10**9)[0], TENSORS.__getitem__, lambda size_bytes: None)
    return path


def test_the_library_reads_what_is_written_tensor_by_tensor(shard: Path):
    loaded = load_file(shard)
    assert {name: tensor.dtype for name, tensor in loaded.items()} == {
        name: tensor.dtype for name, tensor in TENSORS.items()
    }
    assert all(torch.equal(loaded[name], tensor) for name, tensor in TENSORS.items())


def test_every_tensor_is_aligned_to_its_element(shard: Path):
    for name, tensor in map_tensors(shard.parent, [shard.name], EXPECTED):
        assert tensor.data_ptr() % tensor.element_size() == 0, name


def test_the_entry_describes_the_file_on_disk(tmp_path: Path):
    told: list[int] = []
    path = tmp_path / "x.safetensors"
    entry = write_shard(path, SPECS[:1], TENSORS.__getitem__, told.append)
    content = path.read_bytes()
    assert (entry.name, entry.size_bytes) == (path.name, len(content)) and sum(told) == len(content)
    assert entry.sha256 == hashlib.sha256(content).hexdigest()


def test_tensors_are_converted_on_their_way(tmp_path: Path):
    spec = TensorSpec("w", torch.bfloat16, (7, 3))
    write_shard(tmp_path / "w.safetensors", [spec], {"w": TENSORS["head.weight"]}.__getitem__, lambda size_bytes: None)
    assert torch.equal(load_file(tmp_path / "w.safetensors")["w"], TENSORS["head.weight"].bfloat16())


@given(sizes=st.lists(st.integers(0, 50), max_size=30), max_bytes=st.integers(1, 200))
def test_a_plan_keeps_every_tensor_once_and_the_size(sizes: list[int], max_bytes: int):
    specs = [
        TensorSpec(str(index), torch.float32 if index % 2 else torch.bfloat16, (size,))
        for index, size in enumerate(sizes)
    ]
    plan = plan_shards(specs, max_bytes)
    assert sorted(int(spec.name) for shard in plan for spec in shard) == list(range(len(sizes)))
    assert all(len(shard) == 1 or sum(spec.size_bytes for spec in shard) <= max_bytes for shard in plan)


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"more": TensorSpec("more", torch.float32, (1,))}, "lacks 1 tensors of the model, first more"),
        (
            {"odd": TensorSpec("odd", torch.bfloat16, (2,))},
            r"'odd' is BF16 \(1,\); the model has BF16 \(2,\)",
        ),
        ({"odd": TensorSpec("odd", torch.float32, (1,))}, "'odd' is BF16"),
        ({"odd": None}, "holds tensor 'odd', which the model does not have"),
    ],
)
def test_tensors_must_be_exactly_the_models(shard: Path, change: dict[str, TensorSpec | None], reason: str):
    expected = {name: spec for name, spec in {**EXPECTED, **change}.items() if spec is not None}
    with pytest.raises(ArtifactError, match=reason):
        list(map_tensors(shard.parent, [shard.name], expected))


def test_a_tensor_in_two_shards_is_refused(shard: Path):
    with pytest.raises(ArtifactError, match="another shard holds already"):
        list(map_tensors(shard.parent, [shard.name, shard.name], EXPECTED))


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(0, 600), replacement=st.binary(max_size=8), cut=st.integers(0, 200))
def test_changed_bytes_load_or_are_refused(shard: Path, position: int, replacement: bytes, cut: int):
    """Checksums are compared first as a rule; this is what stands behind them."""
    content = shard.read_bytes()
    changed = shard.with_name("changed.safetensors")
    changed.unlink(missing_ok=True)
    changed.write_bytes(content[:position] + replacement + content[position + cut :])
    try:
        loaded = dict(map_tensors(changed.parent, [changed.name], EXPECTED))
    except ArtifactError:
        return
    assert {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in loaded.items()} == {
        name: (spec.dtype, spec.shape) for name, spec in EXPECTED.items()
    }
