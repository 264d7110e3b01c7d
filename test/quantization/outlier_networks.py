# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Small untrained networks, and what they read of the calibration pictures."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sqap_vla.cogact.config import DecoderConfig, HeadConfig
from sqap_vla.cogact.layout import build_on_meta
from sqap_vla.cogact.model import CogAct
from sqap_vla.cogact.preprocess import preprocess
from sqap_vla.cogact.random_checkpoint import demo_config, random_tensors
from sqap_vla.runtime.calibration import calibration_pictures

PROMPT = [1, 5, 9, 7, 30, 31, 2]


def random_network(decoder: DecoderConfig, seed: int = 0) -> CogAct:
    config = replace(demo_config(), decoder=decoder, head=HeadConfig(2, 32, 2, token_size=decoder.hidden_size))
    model = build_on_meta(config)
    tensors = random_tensors(config, seed)
    model.load_state_dict({name: tensors[name] for name in model.state_dict()}, assign=True)
    return model.requires_grad_(False)


@dataclass(frozen=True)
class Run:
    """What came of a frame. inputs: what the decoder's linears read, rotated where they rotate it, by name."""

    cognition: Tensor
    actions: Tensor
    inputs: dict[str, Tensor]


def picture_features(model: CogAct) -> Tensor:
    """Of one calibration picture, before the projector [1, 256, D_dino + D_siglip]."""
    return model.vision_backbone(*(tower[None] for tower in preprocess(calibration_pictures()[0])))


def run(model: CogAct, features: Tensor) -> Run:
    inputs: dict[str, Tensor] = {}

    def listen(name: str):
        def hook(layer: torch.nn.Module, arguments: tuple[Tensor]) -> None:
            x = layer.rotated(arguments[0]) if hasattr(layer, "rotated") else arguments[0]
            inputs[name] = x.flatten(0, -2)

        return hook

    linears = {name: module for name, module in model.decoder.named_modules() if name.endswith("_proj")}
    handles = [module.register_forward_pre_hook(listen(name)) for name, module in linears.items()]
    cognition = model.cognition(model.projector(features), [PROMPT]).cognition
    for handle in handles:
        handle.remove()
    noise = torch.randn(1, 16, 7, generator=torch.Generator().manual_seed(0))
    return Run(cognition, model.sample_actions(cognition, noise), inputs)
