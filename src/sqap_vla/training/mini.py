# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""CogACT-Mini: its sizes, its tokenizer and how its weights start.

The tokenizer knows the words of the tabletop's sentences; the question that stands before every instruction is one
token, so that a prompt is a dozen tokens long.
"""

from __future__ import annotations

import math

import tokenizers
import torch
from tokenizers import Regex, models, pre_tokenizers
from torch import Tensor, nn

from sqap_vla.cogact.config import CogActConfig, DecoderConfig, HeadConfig, VisionTowerConfig
from sqap_vla.cogact.model import CogAct
from sqap_vla.cogact.prompt import EMPTY_TOKEN, build_prompt
from sqap_vla.sim import INSTRUCTIONS

SPECIAL_TOKENS = ("<unk>", "<s>", "</s>", EMPTY_TOKEN)
QUESTION = build_prompt("X").split("x?")[0].strip()  # "In: What action should the robot take to"
_PIECES = f"{QUESTION}|\\w+|[^\\w\\s]"


def mini_config() -> CogActConfig:
    """1.7 M parameters. Five decoder layers: two are left where tokens are dropped after the third."""
    return CogActConfig(
        dino=VisionTowerConfig(
            embed_dim=64, depth=3, num_heads=4, mlp_hidden=256, register_tokens=4, class_token=True, layer_scale=True
        ),
        siglip=VisionTowerConfig(embed_dim=64, depth=3, num_heads=4, mlp_hidden=256),
        decoder=DecoderConfig(
            vocab_size=64, hidden_size=128, intermediate_size=256, num_layers=5, num_heads=4, num_kv_heads=4
        ),
        head=HeadConfig(depth=4, hidden_size=96, num_heads=4, token_size=128),
    )


def mini_tokenizer() -> tokenizers.Tokenizer:
    """One token for the question, for each word of the tabletop's sentences, and for each mark; <unk> for the rest."""
    split = pre_tokenizers.Split(Regex(_PIECES), "removed", invert=True)
    prompts = [build_prompt(instruction) for instruction in INSTRUCTIONS]
    words = sorted({word for prompt in prompts for word, _ in split.pre_tokenize_str(prompt)})
    vocabulary = {token: index for index, token in enumerate((*SPECIAL_TOKENS, *words))}
    tokenizer = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = split
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    return tokenizer


def untrained(config: CogActConfig, seed: int) -> CogAct:
    """The network as training starts it: torch's own initialisation, but patches are seen through their lowest spatial
    frequencies, and positions are told apart from the beginning: everything the policy needs to know is where things of
    plain colours are."""
    torch.manual_seed(seed)
    model = CogAct(config)
    for tower in (model.vision_backbone.dino_featurizer, model.vision_backbone.siglip_featurizer):
        side = math.isqrt(tower.pos_embed.shape[1])
        tower.patch_embed.proj.weight.data.copy_(_cosine_patterns(*tower.patch_embed.proj.weight.shape[::3]))
        nn.init.zeros_(tower.patch_embed.proj.bias)
        tower.pos_embed.data.copy_(0.3 * _grid_positions(side, tower.pos_embed.shape[2]))
        for name in ("cls_token", "reg_token"):
            if hasattr(tower, name):
                nn.init.normal_(getattr(tower, name), std=0.1)
    nn.init.normal_(model.decoder.embed_tokens.weight, std=0.3)
    nn.init.normal_(model.action_model.net.positional_embedding, std=0.1)
    return model


def _cosine_patterns(width: int, side: int) -> Tensor:
    """The lowest 2-D cosines of a patch (as in JPEG), in red, green and blue in turn, [width, 3, side, side]."""
    frequencies = sorted(
        ((i, j) for i in range(side) for j in range(side)), key=lambda ij: (ij[0] ** 2 + ij[1] ** 2, ij)
    )
    axis = (torch.arange(side) + 0.5) * math.pi / side
    patterns = torch.zeros(width, 3, side, side)
    for channel in range(width):
        row, column = frequencies[channel // 3]
        wave = torch.cos(row * axis)[:, None] * torch.cos(column * axis)
        patterns[channel, channel % 3] = wave * (1.0 if row + column == 0 else 4.0) / side**2
    return patterns


def _grid_positions(side: int, width: int) -> Tensor:
    """Sines and cosines of row and column, [1, side^2, width]."""
    waves = width // 4
    rates = torch.exp(torch.linspace(math.log(2 * math.pi), math.log(side * math.pi / 2), waves))  # per picture
    axis = (torch.arange(side) + 0.5) / side
    angles = axis[:, None] * rates  # [side, waves]
    one = torch.cat([angles.sin(), angles.cos()], dim=1)  # [side, 2 waves]
    rows, columns = one[:, None].expand(-1, side, -1), one[None].expand(side, -1, -1)
    return torch.cat([rows, columns], dim=2).reshape(1, side * side, 4 * waves)
