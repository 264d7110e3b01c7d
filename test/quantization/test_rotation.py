# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Rotations change no output: on the reference checkpoint, at other head counts, and at Llama-2's widths."""

from __future__ import annotations

import copy
import gc
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from sqap_vla.cogact.checkpoint import load_checkpoint
from sqap_vla.cogact.config import CogActConfig, DecoderConfig, HeadConfig
from sqap_vla.cogact.layout import build_on_meta
from sqap_vla.cogact.llama import Pruning
from sqap_vla.cogact.model import CogAct
from sqap_vla.cogact.random_checkpoint import demo_config, random_tensors
from sqap_vla.quantization.online import InputRotation, RotatedLinear, SharedInput
from sqap_vla.quantization.rotation import (
    Rotation,
    folded_gain,
    input_rotation,
    residual_rotation,
    rotate_model,
    rotate_modules,
    rotate_tensor,
)

REFERENCE = Path(__file__).parents[1] / "reference"
ATOL = 1e-4
ROTATIONS = [Rotation("none"), Rotation("qk_input"), Rotation("qk_input", fold_norms=False), Rotation("full", seed=3)]
LAYER = "llm_backbone.llm.model.layers.0."


def name_of(rotation: Rotation) -> str:
    return f"{rotation.kind.value}-{'folded' if rotation.fold_norms else 'norms_kept'}"


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def tiny() -> CogAct:
    return load_checkpoint(REFERENCE / "f_cogact_tiny").model


@pytest.fixture(scope="module")
def frame() -> dict[str, np.ndarray]:
    with np.load(REFERENCE / "e_vlm.npz") as file:
        return {key: file[key] for key in file.files}


def random_model(decoder: DecoderConfig) -> CogAct:
    base = demo_config()
    head = HeadConfig(depth=1, hidden_size=32, num_heads=2, token_size=decoder.hidden_size)
    config = CogActConfig(base.dino, base.siglip, decoder, head)
    model = build_on_meta(config)
    tensors = random_tensors(config, seed=0)
    model.load_state_dict({name: tensors[name] for name in model.state_dict()}, assign=True)
    return model.requires_grad_(False)


def rotated(model: CogAct, rotation: Rotation) -> CogAct:
    model = copy.deepcopy(model)
    rotate_model(model, rotation)
    return model


def cognition(model: CogAct, visual: Tensor, pruning: Pruning | None = None) -> Tensor:
    return model.cognition(visual, [[1, 5, 9, 7, 2]], pruning).cognition


class TestUnchangedOutputs:
    @pytest.mark.parametrize("rotation", ROTATIONS, ids=name_of)
    def test_cognition_feature_of_the_reference_checkpoint(self, tiny, frame, rotation):
        """Of the whole network, projector included: its last layer writes into the rotated residual stream."""
        model = rotated(tiny, rotation)
        fused = torch.randn(1, 256, 136, generator=torch.Generator().manual_seed(0))
        before = tiny.cognition(tiny.projector(fused), frame["input_ids"].tolist(), record_hidden=True)
        after = model.cognition(model.projector(fused), frame["input_ids"].tolist(), record_hidden=True)
        assert (after.cognition - before.cognition).abs().max() < ATOL
        residual = residual_rotation(rotation, model.config.decoder)
        for mine, original in zip(after.hidden[:-1], before.hidden[:-1], strict=True):
            restored = residual.undo(mine) if residual else mine
            assert (restored - original).abs().max() < ATOL

    @pytest.mark.parametrize("rotation", ROTATIONS, ids=name_of)
    @pytest.mark.parametrize(("heads", "kv_heads"), [(6, 6), (6, 2), (4, 1)])
    def test_heads_that_are_no_power_of_two_and_shared_keys(self, rotation, heads, kv_heads):
        model = random_model(DecoderConfig(192, 48, 112, 3, heads, kv_heads))
        fused = torch.randn(2, 256, 136, generator=torch.Generator().manual_seed(1))
        other = rotated(model, rotation)
        prompts = [[1, 5, 9, 7, 2], [1, 6, 2]]  # rows of different length: one is padded
        before = model.cognition(model.projector(fused), prompts).cognition
        after = other.cognition(other.projector(fused), prompts).cognition
        assert (after - before).abs().max() < ATOL

    @pytest.mark.parametrize("rotation", ROTATIONS, ids=name_of)
    def test_pruning_sees_the_same_scores_and_keeps_the_same_tokens(self, tiny, rotation):
        seen: list[Tensor] = []

        class Kept:
            kept = torch.arange(0, 256, 2)

        def select(scores: Tensor, features: Tensor | None) -> Kept:
            seen.append(scores)
            return Kept()

        fused = torch.randn(1, 256, 136, generator=torch.Generator().manual_seed(2))
        model = rotated(tiny, rotation)
        pruning = Pruning(prune_layer=2, score_layer=1, select=select)
        outputs = [cognition(each, each.projector(fused), pruning) for each in (tiny, model)]
        assert (outputs[0] - outputs[1]).abs().max() < ATOL
        assert (seen[0] - seen[1]).abs().max() < 1e-6

    def test_actions_of_the_reference_checkpoint(self, tiny):
        model = rotated(tiny, Rotation("full"))
        fused = torch.randn(1, 256, 136, generator=torch.Generator().manual_seed(3))
        noise = torch.randn(1, 16, 7, generator=torch.Generator().manual_seed(4))
        samples = [each.sample_actions(cognition(each, each.projector(fused)), noise) for each in (tiny, model)]
        assert (samples[0] - samples[1]).abs().max() < ATOL


class TestLlamaWidths:
    """One layer of 4096 and 11008, decoder alone, few tokens. Rotated tensor by tensor, as a converter does it."""

    @pytest.mark.parametrize("rotation", [Rotation("qk_input"), Rotation("full")], ids=name_of)
    def test_cognition_feature_at_4096_and_11008(self, rotation):
        torch.manual_seed(0)
        config = DecoderConfig(64, 4096, 11008, 1, 32, 32)
        base = demo_config()
        with torch.device("meta"):
            model = CogAct(
                CogActConfig(base.dino, base.siglip, config, HeadConfig(1, 32, 2, token_size=4096))
            ).requires_grad_(False)
        prefix = "llm_backbone.llm.model."
        names = [name for name in model.state_dict() if name.startswith(prefix)]
        tensors = {}
        for name in names:
            shape = model.get_parameter(name).shape
            tensors[name] = torch.randn(shape) * 0.1 + 1 if len(shape) == 1 else torch.randn(shape) / shape[-1] ** 0.5
        embeds, last = torch.randn(1, 12, 4096), torch.tensor([11])
        model.load_state_dict(tensors, strict=False, assign=True)
        before = model.decoder(embeds, last, slice(1, 9)).cognition

        rotate_modules(model, rotation)
        for name in sorted(tensors, key=lambda name: "layernorm" in name):
            gain = folded_gain(name, rotation)
            tensors[name] = rotate_tensor(name, tensors[name], rotation, config, tensors[gain] if gain else None)
        model.load_state_dict(tensors, strict=False, assign=True)
        residual = residual_rotation(rotation, config)
        after = model.decoder(residual(embeds) if residual else embeds, last, slice(1, 9)).cognition
        assert (after - before).abs().max() < ATOL


class TestRotateTensor:
    CONFIG = DecoderConfig(192, 48, 112, 3, 6, 2)

    def test_tensors_outside_of_decoder_and_projector_come_back_themselves(self):
        tensor = torch.ones(3)
        for name in (
            "vision_backbone.dino_featurizer.norm.weight",
            "action_model.net.x",
            "projector.projector.2.weight",
        ):
            assert rotate_tensor(name, tensor, Rotation("full"), self.CONFIG) is tensor

    def test_the_argument_is_not_changed(self):
        weight = torch.randn(48, 48)
        before = weight.clone()
        rotate_tensor(f"{LAYER}self_attn.o_proj.weight", weight, Rotation("full"), self.CONFIG)
        assert torch.equal(weight, before)

    def test_a_missing_gain_and_one_too_many_are_refused(self):
        with pytest.raises(ValueError, match=r"q_proj.weight: the gain .*input_layernorm.weight is missing"):
            rotate_tensor(f"{LAYER}self_attn.q_proj.weight", torch.ones(48, 48), Rotation("full"), self.CONFIG)
        with pytest.raises(ValueError, match="not folded"):
            rotate_tensor(
                f"{LAYER}mlp.down_proj.weight", torch.ones(48, 112), Rotation("full"), self.CONFIG, torch.ones(112)
            )

    def test_only_qk_input_is_what_the_paper_rotates(self):
        rotation = Rotation("qk_input", fold_norms=False)
        changed = {
            leaf
            for leaf in ("q_proj", "k_proj", "v_proj", "o_proj")
            if not torch.equal(
                rotate_tensor(f"{LAYER}self_attn.{leaf}.weight", torch.eye(48), rotation, self.CONFIG), torch.eye(48)
            )
        }
        assert changed == {"q_proj", "k_proj"}
        assert input_rotation(f"{LAYER}self_attn.q_proj", rotation, self.CONFIG) == InputRotation(48)
        assert input_rotation(f"{LAYER}mlp.up_proj", rotation, self.CONFIG) is None

    def test_full_without_folding_is_refused(self):
        with pytest.raises(ValueError, match="fold the norms"):
            Rotation("full", fold_norms=False)
        with pytest.raises(ValueError, match="'half'"):
            Rotation("half")

    def test_a_rotated_model_is_not_rotated_again(self, tiny):
        model = rotated(tiny, Rotation("qk_input"))
        with pytest.raises(ValueError, match="rotated already"):
            rotate_model(model, Rotation("full"))

    def test_another_seed_is_another_rotation(self):
        embed = torch.randn(5, 48)
        first, second = (
            rotate_tensor("llm_backbone.llm.model.embed_tokens.weight", embed, Rotation("full", seed=seed), self.CONFIG)
            for seed in (0, 1)
        )
        assert not torch.allclose(first, second)


class TestSharedInput:
    def test_query_and_key_transform_their_input_once(self, tiny, monkeypatch):
        calls: list[int] = []
        original = InputRotation.__call__

        def counting(self: InputRotation, x: Tensor) -> Tensor:
            calls.append(self.size)
            return original(self, x)

        monkeypatch.setattr(InputRotation, "__call__", counting)
        model = rotated(tiny, Rotation("qk_input"))
        layers = len(model.decoder.layers)
        calls.clear()
        cognition(model, torch.randn(1, 256, 96))
        # One for each layer; the last layer's query is of the last token alone, a tensor of its own.
        assert len(calls) == layers + 1

    def test_another_tensor_is_prepared_afresh_and_nothing_outlives_its_input(self):
        shared: SharedInput[Tensor] = SharedInput()
        x = torch.ones(3)
        first = shared.prepare(x, lambda x: x * 2)
        assert shared.prepare(x, lambda x: x * 3) is first
        assert torch.equal(shared.prepare(torch.zeros(3), lambda x: x + 1), torch.ones(3))
        gc.collect()
        assert shared._last is None

    def test_copies_share_among_themselves_only(self, tiny):
        model = rotated(tiny, Rotation("qk_input"))
        for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            mine, theirs = (each.decoder.layers[0].self_attn for each in (model, other))
            assert isinstance(theirs.q_proj, RotatedLinear)
            assert theirs.q_proj.shared is theirs.k_proj.shared
            assert theirs.q_proj.shared is not mine.q_proj.shared
