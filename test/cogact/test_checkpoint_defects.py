# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Every defect of a checkpoint directory gives one error that names it; no code in it runs."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoint_editing import edit_json, edit_weights, weights_of

from sqap_vla.cogact.checkpoint import CheckpointError, fingerprint, load_checkpoint


def test_no_directory(tmp_path):
    with pytest.raises(CheckpointError, match="nowhere is not a directory; give the one that holds config.json"):
        load_checkpoint(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["config.json", "dataset_statistics.json"])
def test_missing_json(directory, name):
    (directory / name).unlink()
    with pytest.raises(CheckpointError, match=f"{name} is missing"):
        load_checkpoint(directory)


@pytest.mark.parametrize("name", ["config.json", "dataset_statistics.json", "tiny_sizes.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b"[]", b"3"])
def test_unreadable_json(directory, name, content):
    (directory / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=name):
        load_checkpoint(directory)


@pytest.mark.parametrize("config", [{}, {"vla": None}, {"vla": {}}, {"vla": {"base_vlm": "siglip-224px+7b"}}])
def test_another_base_vlm(directory, config):
    (directory / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="supported are prism-dinosiglip-224px"):
        load_checkpoint(directory)


@pytest.mark.parametrize("folder", [False, True])
def test_no_weights(directory, folder):
    shutil.rmtree(directory / "checkpoints")
    if folder:
        (directory / "checkpoints").mkdir()
    with pytest.raises(CheckpointError, match="holds no .pt file"):
        load_checkpoint(directory)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.99, 0.9999])
def test_truncated_weights(directory, share):
    weights = weights_of(directory)
    os.truncate(weights, int(share * weights.stat().st_size))
    with pytest.raises(CheckpointError, match=r"cannot be read as a PyTorch checkpoint.*copy or download it again"):
        load_checkpoint(directory)
    with pytest.raises(CheckpointError, match="cannot be read as a PyTorch checkpoint"):
        fingerprint(directory)


def test_weights_that_are_something_else(directory):
    weights_of(directory).write_bytes(np.random.default_rng(0).bytes(10000))
    with pytest.raises(CheckpointError, match="cannot be read as a PyTorch checkpoint"):
        load_checkpoint(directory)


@pytest.mark.parametrize("seed", range(12))
def test_a_damaged_index(directory, seed):
    """Bytes flipped in the pickle that lists the tensors: our error, or a file that still reads."""
    weights = weights_of(directory)
    content = bytearray(weights.read_bytes())
    with zipfile.ZipFile(weights) as archive:
        index = next(entry for entry in archive.infolist() if entry.filename.endswith("data.pkl"))
        begin = content.index(archive.read(index))
    random = np.random.default_rng(seed)
    for offset in random.integers(0, min(index.file_size, 4000), size=5):
        content[begin + offset] = random.integers(256)
    weights.write_bytes(content)
    with contextlib.suppress(CheckpointError):
        load_checkpoint(directory)


def test_a_pickle_that_would_run_code_does_not(directory, tmp_path):
    witness = tmp_path / "executed"
    torch.save({"model": _RunsCode(witness)}, weights_of(directory))
    with pytest.raises(CheckpointError, match="cannot be read as a PyTorch checkpoint of tensors"):
        load_checkpoint(directory)
    assert not witness.exists()


@pytest.mark.parametrize("content", [{}, [], {"model": None}, {"model": {"projector": 3}}, {"state_dict": {}}])
def test_no_model_inside(directory, content):
    torch.save(content, weights_of(directory))
    with pytest.raises(CheckpointError, match="does not hold a dictionary 'model' of modules"):
        load_checkpoint(directory)


def test_wrong_modules(directory):
    edit_weights(directory, lambda model: model.update(vision=model.pop("vision_backbone")))
    with pytest.raises(CheckpointError, match="modules missing: vision_backbone; not expected: vision;"):
        load_checkpoint(directory)


def test_wrong_keys(directory):
    edit_weights(
        directory,
        lambda model: model["projector"].update(extra=model["projector"].pop("projector.0.bias")),
    )
    with pytest.raises(
        CheckpointError,
        match=r"missing projector.projector.0.bias; not expected projector.extra; "
        "wrong shapes none",
    ):
        load_checkpoint(directory)


def test_many_wrong_keys_are_counted(directory):
    edit_weights(directory, lambda model: model.update(projector={}, action_model={}))
    with pytest.raises(CheckpointError, match=r"\.\.\. \(\d+ in all\)"):
        load_checkpoint(directory)


def test_wrong_shapes(directory):
    edit_weights(directory, lambda model: model["projector"].update({"projector.2.bias": torch.zeros(7)}))
    with pytest.raises(CheckpointError, match=r"wrong shapes projector.projector.2.bias \[7\] instead of \[128\]"):
        load_checkpoint(directory)


def test_values_that_are_no_float_tensors(directory):
    edit_weights(
        directory,
        lambda model: model["projector"].update({"projector.2.bias": torch.zeros(128, dtype=torch.int8)}),
    )
    with pytest.raises(CheckpointError, match="not floating-point tensors: projector.projector.2.bias"):
        load_checkpoint(directory)


def test_sizes_that_are_not_official_and_not_described(directory):
    (directory / "tiny_sizes.json").unlink()
    with pytest.raises(CheckpointError, match="the DINOv2 tower is 64 wide and tiny_sizes.json does not describe it"):
        load_checkpoint(directory)


@pytest.mark.parametrize(
    ("part", "name", "value", "message"),
    [
        ("llm", "num_attention_heads", 5, "does not divide by num_heads 5"),
        ("llm", "num_hidden_layers", 9, "missing llm_backbone.llm.model.layers.8"),
        ("llm", "hidden_act", "gelu", "hidden_act is 'gelu'"),
        ("dit", "token_size", 64, "they must be equal"),
        ("dino", "embed_dim", "wide", "embed_dim is 'wide'; it must be a whole number of at least 1"),
        ("siglip", "depth", 2.5, "depth is 2.5; it must be a whole number of at least 1"),
        ("siglip", "img_size", 448, "the grids must be the same"),
    ],
)
def test_sizes_that_contradict(directory, part, name, value, message):
    edit_json(directory / "tiny_sizes.json", lambda sizes: sizes[part].update({name: value}))
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(directory)


def test_a_size_that_is_missing(directory):
    edit_json(directory / "tiny_sizes.json", lambda sizes: sizes["dit"].pop("num_heads"))
    with pytest.raises(CheckpointError, match="'num_heads' is missing, so the network's size is unknown"):
        load_checkpoint(directory)


class _RunsCode:
    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return os.mkdir, (str(self.witness),)
