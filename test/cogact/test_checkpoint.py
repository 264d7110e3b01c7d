# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The official layout is read whole: every key, every value, the right step."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from checkpoint_editing import edit_json, edit_weights, weights_of

from sqap_vla.cogact.checkpoint import CheckpointError, find_weights, fingerprint, load_checkpoint
from sqap_vla.cogact.config import official_config
from sqap_vla.cogact.layout import unused_shapes, used_shapes


def table(path: Path) -> dict[str, tuple[int, ...]]:
    """A key table, module -> key -> shape, by `module.key`; shapes are lists or strings such as '3x4'."""
    modules = json.loads(path.read_text())
    return {
        f"{module.split()[0]}.{key}": tuple(map(int, shape.split("x") if isinstance(shape, str) else shape))
        for module, keys in modules.items()
        if isinstance(keys, dict)
        for key, shape in keys.items()
    }


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
    for name in (
        "step-000900-epoch-01-loss=0.5.pt",
        "step-1000-epoch-02-loss=0.4.pt",
        "latest-checkpoint.pt",
    ):
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
