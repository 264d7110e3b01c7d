# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Rules choose layers' bits in order; a model is quantized as the recipe says, whole or tensor by tensor."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from sqap_vla.cogact.layout import build_on_meta
from sqap_vla.cogact.llama import Pruning
from sqap_vla.cogact.model import CogAct
from sqap_vla.cogact.random_checkpoint import demo_config, random_tensors
from sqap_vla.quantization.linear import QuantizedLinear, quantized_tensors
from sqap_vla.quantization.metrics import sqnr_db
from sqap_vla.quantization.policy import PRESETS, PrecisionPolicy, QuantizationConfig, preset
from sqap_vla.quantization.quantize import layer_specs, quantize_model, quantize_modules
from sqap_vla.quantization.quantizer import Granularity, Precision
from sqap_vla.quantization.rotation import Rotation, RotationKind, folded_gain, rotate_tensor

LAYER = "llm_backbone.llm.model.layers.3"
PROMPT = [[1, 5, 9, 7, 2]]


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def demo() -> CogAct:
    config = demo_config()
    config = replace(config, decoder=replace(config.decoder, num_layers=4))
    model = build_on_meta(config)
    tensors = random_tensors(config, seed=0)
    model.load_state_dict({name: tensors[name] for name in model.state_dict()}, assign=True)
    return model


@pytest.fixture(scope="module")
def fused() -> Tensor:
    return torch.randn(1, 256, 136, generator=torch.Generator().manual_seed(0))


def cognition(model: CogAct, fused: Tensor, pruning: Pruning | None = None) -> Tensor:
    return model.cognition(model.projector(fused), PROMPT, pruning).cognition


def quantized(model: CogAct, config: QuantizationConfig, fused: Tensor | None = None) -> CogAct:
    model = copy.deepcopy(model)
    quantize_model(model, config, (lambda: cognition(model, fused)) if fused is not None else None)
    return model


class TestPolicy:
    def test_by_default_the_decoder_is_w4a4_and_nothing_else_is_quantized(self, demo):
        policy = PrecisionPolicy()
        assert policy.precision_of(f"{LAYER}.self_attn.q_proj") is Precision.W4A4
        for layer in (
            "vision_backbone.dino_featurizer.blocks.0.attn.qkv",
            "projector.projector.4",
            "action_model.net.x",
        ):
            assert policy.precision_of(layer) is Precision.BF16
        specs = layer_specs(demo, QuantizationConfig())
        assert len(specs) == 7 * 4
        assert all(name.startswith("llm_backbone.") for name in specs)

    def test_the_first_rule_that_matches_decides(self):
        policy = PrecisionPolicy.parse(["*.layers.3.*=w8a8", "*.down_proj = w4a8", "action_model.*=w8a8"])
        assert policy.precision_of(f"{LAYER}.mlp.down_proj") is Precision.W8A8
        assert policy.precision_of("llm_backbone.llm.model.layers.4.mlp.down_proj") is Precision.W4A8
        assert policy.precision_of("llm_backbone.llm.model.layers.4.mlp.up_proj") is Precision.W4A4
        assert policy.precision_of("action_model.net.blocks.0.attn.qkv") is Precision.W8A8

    @pytest.mark.parametrize(
        ("rule", "message"),
        [
            ("*.down_proj", r"'\*.down_proj' has no '='"),
            ("*.down_proj=w3a3", "precisions are w4a4, w4a8, w8a8, bf16"),
            ("=w4a4", "empty pattern"),
        ],
    )
    def test_a_rule_of_another_form_is_refused(self, rule, message):
        with pytest.raises(ValueError, match=message):
            PrecisionPolicy.parse([rule])

    def test_a_rule_that_matches_no_layer_is_refused(self, demo):
        config = QuantizationConfig(PrecisionPolicy.parse(["*.down_prj=w8a8"]))
        with pytest.raises(ValueError, match=r"'\*.down_prj' matches no linear layer; .* like vision_backbone"):
            quantize_modules(copy.deepcopy(demo), config)


class TestConfig:
    def test_presets_are_what_is_documented(self):
        assert preset("default").rotation.kind is RotationKind.FULL
        assert preset("default").granularity is Granularity.TOKEN
        assert preset("paper").rotation == Rotation("qk_input", fold_norms=False)
        assert preset("paper").granularity is Granularity.TENSOR
        assert preset("default", group_size=128).group_size == 128
        with pytest.raises(ValueError, match="'quarot'; there are default, calibrated, paper"):
            preset("quarot")

    @pytest.mark.parametrize("config", [*PRESETS.values(), QuantizationConfig(PrecisionPolicy.parse(["*=w8a8"]))])
    def test_json_gives_the_same_config_back(self, config):
        assert QuantizationConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config

    @pytest.mark.parametrize(
        "change", [{"granularity": "row"}, {"group_size": 1}, {"rotation": {}, "bits": 4}, {"policy": 3}]
    )
    def test_json_that_is_none_of_ours_is_refused(self, change):
        with pytest.raises(ValueError):
            QuantizationConfig.from_dict({**preset("default").to_dict(), **change})


class TestQuantizeModel:
    @pytest.mark.parametrize("rotation", list(RotationKind))
    @pytest.mark.parametrize("granularity", list(Granularity))
    def test_eight_bits_are_near_the_float_model(self, demo, fused, rotation, granularity):
        config = QuantizationConfig(PrecisionPolicy.parse(["llm_backbone.*=w8a8"]), Rotation(rotation), granularity)
        calibration = fused if granularity is Granularity.CHANNEL else None
        assert sqnr_db(cognition(demo, fused), cognition(quantized(demo, config, calibration), fused)) > 22

    def test_only_what_the_policy_names_is_replaced(self, demo):
        policy = PrecisionPolicy.parse(["*.layers.0.*=bf16", "vision_backbone.*.fc1=w8a8", "*.down_proj=w4a8"])
        model = quantized(demo, QuantizationConfig(policy))
        layers = model.decoder.layers
        assert not any(isinstance(module, QuantizedLinear) for module in layers[0].modules())
        assert layers[1].mlp.down_proj.spec.precision is Precision.W4A8
        assert layers[1].mlp.up_proj.spec.precision is Precision.W4A4
        block = model.vision_backbone.dino_featurizer.blocks[0]
        assert block.mlp.fc1.spec.precision is Precision.W8A8
        assert isinstance(block.mlp.fc2, nn.Linear)
        pictures = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(1))
        assert model.encode_images(pictures, pictures).isfinite().all()

    def test_projections_that_read_one_tensor_quantize_it_once(self, demo):
        layer = quantized(demo, preset("default")).decoder.layers[1]
        attention, mlp = layer.self_attn, layer.mlp
        assert attention.q_proj.shared is attention.k_proj.shared is attention.v_proj.shared
        assert mlp.gate_proj.shared is mlp.up_proj.shared
        assert len({attention.q_proj.shared, attention.o_proj.shared, mlp.up_proj.shared, mlp.down_proj.shared}) == 4

    def test_rotated_and_plain_inputs_are_not_shared(self, demo):
        attention = quantized(demo, preset("paper")).decoder.layers[1].self_attn
        assert attention.q_proj.shared is attention.k_proj.shared
        assert attention.q_proj.shared is not attention.v_proj.shared

    def test_pruning_and_the_short_last_layer_run_as_before(self, demo, fused):
        class Kept:
            kept = torch.arange(0, 256, 2)

        config = QuantizationConfig(PrecisionPolicy.parse(["llm_backbone.*=w8a8"]))
        scores: list[Tensor] = []

        def select(row: Tensor, features: Tensor | None) -> Kept:
            scores.append(row)
            return Kept()

        pruning = Pruning(prune_layer=3, score_layer=2, select=select)
        outputs = [cognition(model, fused, pruning) for model in (demo, quantized(demo, config))]
        assert sqnr_db(*outputs) > 22
        assert sqnr_db(*scores) > 22

    @pytest.mark.parametrize("config", [preset("default"), preset("paper"), preset("default", group_size=8)])
    def test_tensor_by_tensor_gives_the_same_model(self, demo, fused, config):
        """The way of a converter: an empty model, and no tensor but the one at hand."""
        model = build_on_meta(demo.config)
        quantize_modules(model, config)
        specs, source, tensors = layer_specs(demo, config), demo.state_dict(), {}
        for name, tensor in source.items():
            gain = folded_gain(name, config.rotation)
            rotated = rotate_tensor(name, tensor, config.rotation, demo.config.decoder, source[gain] if gain else None)
            layer = name.removesuffix(".weight")
            if layer in specs:
                made = quantized_tensors(rotated, specs[layer])
                tensors.update({f"{layer}.{key}": value for key, value in made.items()})
            else:
                tensors[name] = rotated
        model.load_state_dict(tensors, assign=True)
        assert torch.equal(cognition(model, fused), cognition(quantized(demo, config), fused))

    def test_calibration_frames_are_given_where_they_are_needed(self, demo, fused):
        for config in (preset("default", granularity="channel"), preset("calibrated")):
            with pytest.raises(ValueError, match="calibration frames are not given"):
                quantized(demo, config)
        with pytest.raises(ValueError, match="calibration frames are given for granularity token"):
            quantized(demo, preset("default"), fused)

    def test_bias_correction_helps_on_frames_it_was_not_calibrated_on(self, demo, fused):
        frames = [torch.randn(1, 256, 136, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2, 3)]
        plain, corrected = quantized(demo, preset("default")), quantized(demo, preset("calibrated"), fused)
        gains = [
            sqnr_db(cognition(demo, frame), cognition(corrected, frame))
            - sqnr_db(cognition(demo, frame), cognition(plain, frame))
            for frame in frames
        ]
        assert sum(gains) / len(gains) > 1

    def test_a_layer_that_does_not_fit_is_named(self, demo):
        with pytest.raises(ValueError, match=r"layers.0.mlp.down_proj: 344 inputs do not divide into groups of 128"):
            quantized(demo, preset("default", group_size=128))
