# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The official layout is read whole, and every defect of a directory gives one error that names it."""
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

from sqap_vla.cogact.checkpoint import CheckpointError, find_weights, fingerprint, load_checkpoint
from sqap_vla.cogact.config import official_config
from sqap_vla.cogact.layout import unused_shapes, used_shapes

Edit = Callable[[dict], None]


@pytest.fixture
def directory(demo_directory: Path, tmp_path: Path) -> Path:
    """A checkpoint of this test's own, to break."""
    return shutil.copytree(demo_directory, tmp_path / "checkpoint")


def weights_of(directory: Path) -> Path:
    return directory / "checkpoints" / "step-000000.pt"


def edit_weights(directory: Path, edit: Edit) -> None:
    content = torch.load(weights_of(directory), weights_only=True)
    edit(content["model"])
    torch.save(content, weights_of(directory))


def edit_json(file: Path, edit: Edit) -> None:
    content = json.loads(file.read_text())
    edit(content)
    file.write_text(json.dumps(content))


def table(path: Path) -> dict[str, tuple[int, ...]]:
    """A key table, `module -> key -> shape`, as `module.key -> shape`; shapes are lists or strings such as '3x4'."""
    modules = json.loads(path.read_text())
    return {f"{module.split()[0]}.{key}": tuple(map(int, shape.split("x") if isinstance(shape, str) else shape))
            for module, keys in modules.items() if isinstance(keys, dict) for key, shape in keys.items()}


def test_the_full_size_key_table_maps_with_nothing_missing_or_left_over(reference):
    config = official_config("DiT-B")
    used, unused = used_shapes(config), unused_shapes(config)
    assert not used.keys() & unused.keys()
    assert used | unused == table(reference / "f_fullsize_checkpoint_keys.json")


def test_the_tiny_key_table_maps_with_nothing_missing_or_left_over(reference, tiny):
    assert used_shapes(tiny.config) | unused_shapes(tiny.config) == table(reference / "f_tiny_checkpoint_keys.json")


def test_every_tensor_arrives_as_it_is(tiny):
    modules = torch.load(tiny.weights, weights_only=True)["model"]
    state = tiny.model.state_dict()
    assert state
    for name, tensor in state.items():
        module, _, key = name.partition(".")
        torch.testing.assert_close(tensor, modules[module][key], rtol=0, atol=0)
        assert tensor.dtype == torch.float32 and not tensor.requires_grad
    assert not tiny.model.training


def test_loaded_weights_do_not_change_with_the_file(directory):
    model = load_checkpoint(directory).model
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    os.truncate(weights_of(directory), 0)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_the_newest_step_is_chosen_by_number(directory):
    for name in ("step-000900-epoch-01-loss=0.5.pt", "step-1000-epoch-02-loss=0.4.pt", "latest-checkpoint.pt"):
        shutil.copy(weights_of(directory), directory / "checkpoints" / name)
    assert find_weights(directory).name == "step-1000-epoch-02-loss=0.4.pt"
    assert load_checkpoint(directory).step == 1000
    assert load_checkpoint(directory, step=900).step == 900
    with pytest.raises(CheckpointError, match="step 7 is not in .* it has steps: 0, 900, 1000"):
        load_checkpoint(directory, step=7)


def test_a_single_file_may_have_any_name(directory):
    weights_of(directory).rename(directory / "checkpoints" / "CogACT-Base.pt")
    assert load_checkpoint(directory).step is None
    shutil.copy(directory / "checkpoints" / "CogACT-Base.pt", directory / "checkpoints" / "other.pt")
    with pytest.raises(CheckpointError, match="CogACT-Base.pt, other.pt"):
        load_checkpoint(directory)


def test_a_moving_average_of_the_head_is_left_aside(directory):
    edit_weights(directory, lambda model: model.update(ema_diffusion=model["action_model"]))
    load_checkpoint(directory)


def test_unused_tensors_may_be_absent(directory):
    edit_weights(directory, lambda model: model["llm_backbone"].pop("llm.lm_head.weight"))
    load_checkpoint(directory)


def test_the_fingerprint_follows_the_content(directory, demo_directory):
    original = fingerprint(directory)
    assert original == fingerprint(demo_directory)
    edit_weights(directory, lambda model: model["projector"]["projector.0.bias"].add_(1e-3))
    changed = fingerprint(directory)
    assert changed != original
    edit_json(directory / "dataset_statistics.json", lambda content: content.pop("bridge_orig"))
    assert fingerprint(directory) != changed


class TestDefects:
    def test_no_directory(self, tmp_path):
        with pytest.raises(CheckpointError, match="nowhere is not a directory; give the one that holds config.json"):
            load_checkpoint(tmp_path / "nowhere")

    @pytest.mark.parametrize("name", ["config.json", "dataset_statistics.json"])
    def test_missing_json(self, directory, name):
        (directory / name).unlink()
        with pytest.raises(CheckpointError, match=f"{name} is missing"):
            load_checkpoint(directory)

    @pytest.mark.parametrize("name", ["config.json", "dataset_statistics.json", "tiny_sizes.json"])
    @pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b"[]", b"3"])
    def test_unreadable_json(self, directory, name, content):
        (directory / name).write_bytes(content)
        with pytest.raises(CheckpointError, match=name):
            load_checkpoint(directory)

    @pytest.mark.parametrize("config", [{}, {"vla": None}, {"vla": {}}, {"vla": {"base_vlm": "siglip-224px+7b"}}])
    def test_another_base_vlm(self, directory, config):
        (directory / "config.json").write_text(json.dumps(config))
        with pytest.raises(CheckpointError, match="supported are prism-dinosiglip-224px"):
            load_checkpoint(directory)

    @pytest.mark.parametrize("folder", [False, True])
    def test_no_weights(self, directory, folder):
        shutil.rmtree(directory / "checkpoints")
        if folder:
            (directory / "checkpoints").mkdir()
        with pytest.raises(CheckpointError, match="holds no .pt file"):
            load_checkpoint(directory)

    @pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.99, 0.9999])
    def test_truncated_weights(self, directory, share):
        weights = weights_of(directory)
        os.truncate(weights, int(share * weights.stat().st_size))
        with pytest.raises(CheckpointError, match=r"cannot be read as a PyTorch checkpoint.*copy or download it again"):
            load_checkpoint(directory)
        with pytest.raises(CheckpointError, match="cannot be read as a PyTorch checkpoint"):
            fingerprint(directory)

    def test_weights_that_are_something_else(self, directory):
        weights_of(directory).write_bytes(np.random.default_rng(0).bytes(10000))
        with pytest.raises(CheckpointError, match="cannot be read as a PyTorch checkpoint"):
            load_checkpoint(directory)

    @pytest.mark.parametrize("seed", range(12))
    def test_a_damaged_index(self, directory, seed):
        """Bytes flipped in the pickle that lists the tensors: an error of ours, or a file that still reads."""
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

    def test_a_pickle_that_would_run_code_does_not(self, directory, tmp_path):
        witness = tmp_path / "executed"
        torch.save({"model": _RunsCode(witness)}, weights_of(directory))
        with pytest.raises(CheckpointError, match="cannot be read as a PyTorch checkpoint of tensors"):
            load_checkpoint(directory)
        assert not witness.exists()

    @pytest.mark.parametrize("content", [{}, [], {"model": None}, {"model": {"projector": 3}}, {"state_dict": {}}])
    def test_no_model_inside(self, directory, content):
        torch.save(content, weights_of(directory))
        with pytest.raises(CheckpointError, match="does not hold a dictionary 'model' of modules"):
            load_checkpoint(directory)

    def test_wrong_modules(self, directory):
        edit_weights(directory, lambda model: model.update(vision=model.pop("vision_backbone")))
        with pytest.raises(CheckpointError, match="modules missing: vision_backbone; not expected: vision;"):
            load_checkpoint(directory)

    def test_wrong_keys(self, directory):
        edit_weights(directory, lambda model: model["projector"].update(extra=model["projector"].pop("projector.0.bias")))
        with pytest.raises(CheckpointError, match=r"missing projector.projector.0.bias; not expected projector.extra; "
                                                  "wrong shapes none"):
            load_checkpoint(directory)

    def test_many_wrong_keys_are_counted(self, directory):
        edit_weights(directory, lambda model: model.update(projector={}, action_model={}))
        with pytest.raises(CheckpointError, match=r"\.\.\. \(\d+ in all\)"):
            load_checkpoint(directory)

    def test_wrong_shapes(self, directory):
        edit_weights(directory, lambda model: model["projector"].update({"projector.2.bias": torch.zeros(7)}))
        with pytest.raises(CheckpointError, match=r"wrong shapes projector.projector.2.bias \[7\] instead of \[128\]"):
            load_checkpoint(directory)

    def test_values_that_are_no_float_tensors(self, directory):
        edit_weights(directory, lambda model: model["projector"].update({"projector.2.bias": torch.zeros(128, dtype=torch.int8)}))
        with pytest.raises(CheckpointError, match="not floating-point tensors: projector.projector.2.bias"):
            load_checkpoint(directory)

    def test_sizes_that_are_not_official_and_not_described(self, directory):
        (directory / "tiny_sizes.json").unlink()
        with pytest.raises(CheckpointError, match="the DINOv2 tower is 64 wide and tiny_sizes.json does not describe it"):
            load_checkpoint(directory)

    @pytest.mark.parametrize(("part", "name", "value", "message"), [
        ("llm", "num_attention_heads", 5, "does not divide by num_heads 5"),
        ("llm", "num_hidden_layers", 9, "missing llm_backbone.llm.model.layers.8"),
        ("llm", "hidden_act", "gelu", "hidden_act is 'gelu'"),
        ("dit", "token_size", 64, "they must be equal"),
        ("dino", "embed_dim", "wide", "embed_dim is 'wide'; it must be a positive whole number"),
        ("siglip", "depth", 2.5, "depth is 2.5; it must be a positive whole number"),
        ("siglip", "img_size", 448, "the grids must be the same"),
    ])
    def test_sizes_that_contradict(self, directory, part, name, value, message):
        edit_json(directory / "tiny_sizes.json", lambda sizes: sizes[part].update({name: value}))
        with pytest.raises(CheckpointError, match=message):
            load_checkpoint(directory)

    def test_a_size_that_is_missing(self, directory):
        edit_json(directory / "tiny_sizes.json", lambda sizes: sizes["dit"].pop("num_heads"))
        with pytest.raises(CheckpointError, match="'num_heads' is missing, so the network's size is unknown"):
            load_checkpoint(directory)


class _RunsCode:
    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return os.mkdir, (str(self.witness),)
