# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Which tensors an official CogACT checkpoint holds, and which of them inference uses.

The .pt file holds {"model": {module: {key: tensor}}} with the modules vision_backbone, projector,
llm_backbone, action_model. Here a tensor's name is `module.key`, the name of the parameter in `CogAct`.
Tensors that inference never reads are known by name and shape (`unused_shapes`) and are not loaded:
  - each vision tower's last block and final norm (features are taken before them), SigLIP's attention pool;
  - llm.lm_head (the cognition feature is a hidden state, no token is generated);
  - the head's history embedder (never called, past_action_window_size is 0).

Source: training/strategies/fsdp.py (save_checkpoint), the keys of the official classes.
"""

from __future__ import annotations

import torch

from sqap_vla.cogact.config import CogActConfig, VisionTowerConfig
from sqap_vla.cogact.model import CogAct
from sqap_vla.cogact.vision import VisionBlock

Shapes = dict[str, tuple[int, ...]]

MODULES = ("vision_backbone", "projector", "llm_backbone", "action_model")
UNUSED_MODULES = ("ema_diffusion",)  # a moving average of action_model, written by training with use_ema


def build_on_meta(config: CogActConfig) -> CogAct:
    """The network without memory behind its parameters, in eval mode."""
    with torch.device("meta"):
        return CogAct(config).eval().requires_grad_(False)


def used_shapes(config: CogActConfig) -> Shapes:
    """Name and shape of every tensor that inference reads."""
    return _shapes(build_on_meta(config))


def unused_shapes(config: CogActConfig) -> Shapes:
    """Name and shape of every other tensor of an official checkpoint."""
    head, decoder = config.head, config.decoder
    return {
        **_unused_tower_shapes("vision_backbone.dino_featurizer.", config.dino),
        **_unused_tower_shapes("vision_backbone.siglip_featurizer.", config.siglip),
        **_attention_pool_shapes("vision_backbone.siglip_featurizer.attn_pool.", config.siglip),
        "llm_backbone.llm.lm_head.weight": (decoder.vocab_size, decoder.hidden_size),
        "action_model.net.history_embedder.linear.weight": (head.hidden_size, head.action_dim),
        "action_model.net.history_embedder.linear.bias": (head.hidden_size,),
    }


def _unused_tower_shapes(prefix: str, tower: VisionTowerConfig) -> Shapes:
    with torch.device("meta"):
        last_block = _shapes(VisionBlock(tower))
    return {
        **{f"{prefix}blocks.{tower.depth - 1}.{name}": shape for name, shape in last_block.items()},
        f"{prefix}norm.weight": (tower.embed_dim,),
        f"{prefix}norm.bias": (tower.embed_dim,),
    }


def _attention_pool_shapes(prefix: str, tower: VisionTowerConfig) -> Shapes:
    """timm's AttentionPoolLatent with one latent."""
    dim, hidden = tower.embed_dim, tower.mlp_hidden
    shapes: Shapes = {
        "latent": (1, 1, dim),
        "q.weight": (dim, dim),
        "q.bias": (dim,),
        "kv.weight": (2 * dim, dim),
        "kv.bias": (2 * dim,),
        "proj.weight": (dim, dim),
        "proj.bias": (dim,),
        "norm.weight": (dim,),
        "norm.bias": (dim,),
        "mlp.fc1.weight": (hidden, dim),
        "mlp.fc1.bias": (hidden,),
        "mlp.fc2.weight": (dim, hidden),
        "mlp.fc2.bias": (dim,),
    }
    return {prefix + name: shape for name, shape in shapes.items()}


def _shapes(module: torch.nn.Module) -> Shapes:
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
