# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Untrained checkpoints in the official directory layout, for the demo and for tests.

Weights are random with fan-in scaling, so activations keep a sane size at any width and depth. The action
head is made to answer roughly the noise it is shown: then samples fall in about [-1, 1] and move a robot
gently, where a plainly random head would saturate every action. What comes out means nothing. A word-level
tokenizer goes with it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tokenizers
import torch
from tokenizers import models, pre_tokenizers
from torch import Tensor

from sqap_vla.cogact.checkpoint import SUPPORTED_BASE_VLMS
from sqap_vla.cogact.config import CogActConfig, DecoderConfig, HeadConfig, VisionTowerConfig
from sqap_vla.cogact.layout import MODULES, unused_shapes, used_shapes
from sqap_vla.cogact.prompt import EMPTY_TOKEN, build_prompt
from sqap_vla.cogact.sizes import sizes_of

SPECIAL_TOKENS = ("<unk>", "<s>", "</s>", EMPTY_TOKEN)
HEAD = "action_model.net."
WORDS = (
    "a above and apple at away back banana basket behind below beside block blue bottle bottom bowl box "
    "brown can carrot close closed coke counter cube cubes cup cylinder down drawer drop eggplant far "
    "first fork from front gently grasp green gripper handle in inside into knife large last left lid "
    "lift lower middle move near next object of off on onto open orange out over pan pepper pick pink "
    "place plate pot pull purple push put raise red release right rotate second shelf sink small spatula "
    "sponge spoon stack stop surface table then third top toward towel turn under up upright white with "
    "wooden yellow yogurt"
)
# 99th percentiles of dx dy dz [m], droll dpitch dyaw [rad], of the order of real motions, not measured.
DEMO_STATISTICS = {
    "tabletop": [0.03, 0.03, 0.03, 0.10, 0.10, 0.15],
    "bridge_orig": [0.03, 0.04, 0.035, 0.08, 0.08, 0.20],
    "fractal20220817_data": [0.20, 0.15, 0.22, 0.45, 0.40, 0.44],
}


def demo_config() -> CogActConfig:
    """2.7 M parameters: every mechanism of the full network, and layers enough for pruning to save some."""
    return CogActConfig(
        dino=VisionTowerConfig(
            embed_dim=64,
            depth=4,
            num_heads=4,
            mlp_hidden=256,
            register_tokens=4,
            class_token=True,
            layer_scale=True,
        ),
        siglip=VisionTowerConfig(embed_dim=72, depth=4, num_heads=4, mlp_hidden=269),
        decoder=DecoderConfig(
            vocab_size=192, hidden_size=128, intermediate_size=344, num_layers=8, num_heads=4, num_kv_heads=4
        ),
        head=HeadConfig(depth=4, hidden_size=96, num_heads=4, token_size=128),
    )


def write_random_checkpoint(
    directory: str | Path, config: CogActConfig | None = None, seed: int = 0, step: int = 0
) -> Path:
    """Write a whole directory: the JSON files, tokenizer.json and checkpoints/step-NNNNNN.pt.

    config: `demo_config()` by default; its vocabulary must hold the tokenizer's words. The same config and
    seed give the same weights. Returns the directory. Raises ValueError if the vocabulary is too small,
    OSError if it cannot be written.
    """
    config = demo_config() if config is None else config
    tokenizer = word_level_tokenizer()
    if tokenizer.get_vocab_size() > config.decoder.vocab_size:
        raise ValueError(
            f"the decoder has {config.decoder.vocab_size} embeddings and the tokenizer "
            f"{tokenizer.get_vocab_size()} words; give the decoder at least as many"
        )
    directory = Path(directory)
    (directory / "checkpoints").mkdir(parents=True, exist_ok=True)
    _write_json(
        directory / "config.json",
        {
            "vla": {"type": "prism-dinosiglip-224px+oxe+diffusion", "base_vlm": SUPPORTED_BASE_VLMS[0]},
            "run_id": f"random-seed-{seed}",
            "action_dim": config.head.action_dim,
            "future_action_window_size": config.head.chunk_steps - 1,
            "past_action_window_size": 0,
        },
    )
    _write_json(directory / "dataset_statistics.json", demo_statistics())
    _write_json(directory / "tiny_sizes.json", sizes_of(config))
    tokenizer.save(str(directory / "tokenizer.json"))
    modules: dict[str, dict[str, Tensor]] = {module: {} for module in MODULES}
    for name, tensor in random_tensors(config, seed).items():
        module, _, key = name.partition(".")
        modules[module][key] = tensor
    torch.save({"model": modules}, directory / "checkpoints" / f"step-{step:06d}.pt")
    return directory


def demo_statistics() -> dict[str, Any]:
    """A dataset_statistics.json with symmetric percentiles for the tabletop, WidowX and Google robot."""
    mask = [True] * 6 + [False]
    return {
        key: {"action": {"q01": [-limit for limit in limits] + [0.0], "q99": [*limits, 1.0], "mask": mask}}
        for key, limits in DEMO_STATISTICS.items()
    }


def word_level_tokenizer() -> tokenizers.Tokenizer:
    """One token for each known word or punctuation mark, <unk> for the rest."""
    prompt_words = pre_tokenizers.Whitespace().pre_tokenize_str(build_prompt("pick"))
    words = sorted({*WORDS.split(), *".,", *(word for word, _ in prompt_words)})
    vocabulary = {token: index for index, token in enumerate((*SPECIAL_TOKENS, *words))}
    tokenizer = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    return tokenizer


def random_tensors(config: CogActConfig, seed: int) -> dict[str, Tensor]:
    """Every tensor of an official checkpoint, unused ones too, float32, by `module.key`."""
    generator = torch.Generator().manual_seed(seed)
    shapes = used_shapes(config) | unused_shapes(config)
    tensors = {name: random_tensor(name, shape, generator) for name, shape in shapes.items()}
    answer_the_noise(tensors)
    return tensors


def random_tensor(name: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """The tensor `name` of a random checkpoint, float32, on the generator's device."""
    normal = torch.randn(shape, generator=generator, device=generator.device)
    leaf = name.rpartition(".")[2]
    if leaf in ("pos_embed", "cls_token", "reg_token", "latent", "uncondition") or "embed_tokens" in name:
        return 0.5 * normal
    if leaf == "gamma":
        return 0.6 + 0.1 * normal
    if leaf == "bias":
        return 0.05 * normal
    if len(shape) == 1:
        return 1.0 + 0.1 * normal  # norm gains
    return normal / math.sqrt(math.prod(shape[1:]))  # fan-in


def answer_the_noise(tensors: Mapping[str, Tensor]) -> None:
    """Let the head pass its input through: epsilon = x + a small function of x, timestep and cognition. In place, of
    tensors named as in `random_tensors`.

    x enters in the first channels, the position table gives every token the same spread (so that the final
    LayerNorm hardly rescales x), the blocks add little, and the final linear reads the first channels back.
    """
    net = {name.removeprefix(HEAD): tensor.detach() for name, tensor in tensors.items() if name.startswith(HEAD)}
    dim, action_dim = net["x_embedder.linear.weight"].shape
    spread = torch.ones(dim, device=net["positional_embedding"].device)
    spread[1::2] = -1.0
    net["x_embedder.linear.weight"].copy_(torch.eye(dim, action_dim))
    net["x_embedder.linear.bias"].zero_()
    net["positional_embedding"].mul_(0.02).add_(spread)
    net["final_layer.linear.weight"].copy_(torch.eye(action_dim, dim))
    net["final_layer.linear.bias"].copy_(-spread[:action_dim])
    for name, tensor in net.items():
        if name.endswith(("attn.proj.weight", "mlp.fc2.weight")):
            tensor.mul_(0.1)
        if name.startswith("blocks.") and name.endswith("bias"):
            tensor.zero_()  # a constant push would add up over the sampler's steps


def _write_json(file: Path, content: dict[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
