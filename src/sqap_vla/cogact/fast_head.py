# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The action head in few GPU kernels: blocks in float16 products (head_kernels.py), all else in one kernel a step
(head_steps.py). What `Sampler` of action_head.py computes, up to float16's rounding of each product's inputs.
"""

from __future__ import annotations

import importlib
from dataclasses import replace

import torch
from torch import Tensor, nn

from sqap_vla.cogact.action_head import NORM_EPS, DiT, DiTBlock, check_cache_interval
from sqap_vla.cogact.diffusion import ddim_schedule
from sqap_vla.cogact.model import CogAct, sharing_copy

_LARGEST_FLOAT16 = 65504.0


def with_fast_head(model: CogAct) -> CogAct:
    """A model of the same tensors whose head is this one, and which does not hold the float32 weights of the head's
    blocks; `model` itself where there is no CUDA or no Triton, or the kernels do not take its head.

    The model must be where it stays.
    """
    net = model.action_model.net
    if model.device.type != "cuda" or not _has_triton() or not fits(net):
        return model
    other = sharing_copy(model)
    other.action_model = FastHead(net)
    return other


def fits(net: DiT) -> bool:
    """Whether the kernels take this head: float32, heads a power of two wide, all widths in whole tiles, and no weight
    beyond float16."""
    from sqap_vla.cogact import head_kernels as kernels

    dim, tokens = net.positional_embedding.shape[1], net.positional_embedding.shape[0]
    mixer, hidden = net.blocks[0].attn, net.blocks[0].mlp.fc1.out_features
    width = dim // mixer.num_heads
    if net.positional_embedding.dtype != torch.float32 or tokens > kernels.LARGEST_ROWS:
        return False
    if width < 16 or width & (width - 1) or dim % kernels.PROJECT.n:
        return False
    products = ((kernels.QKV, 3 * dim, dim), (kernels.EXPAND, hidden, dim), (kernels.CONTRACT, dim, hidden))
    if any(outputs % tiling.n or inputs % (tiling.k * tiling.splits) for tiling, outputs, inputs in products):
        return False
    return all(float(weight.abs().max()) <= _LARGEST_FLOAT16 for block in net.blocks for weight in block.parameters())


class FastHead(nn.Module):
    """net: a head that `fits`; its weights as they are now."""

    def __init__(self, net: DiT) -> None:
        super().__init__()
        self.t_embedder, self.z_embedder = net.t_embedder, net.z_embedder
        self.x_embedder, self.final_layer = net.x_embedder, net.final_layer
        self.positional_embedding = net.positional_embedding
        self.num_heads = net.blocks[0].attn.num_heads
        self.blocks = nn.ModuleList(HalfBlock(block) for block in net.blocks)

    def sampler(self, ddim_steps: int, cfg_scale: float, cache_interval: int = 1) -> FastSampler:
        """As ActionModel.sampler."""
        return FastSampler(self, ddim_steps, cfg_scale, cache_interval)


class HalfBlock(nn.Module):
    """A block's products: weights in float16, biases in float32."""

    def __init__(self, block: DiTBlock) -> None:
        super().__init__()
        linears = {"qkv": block.attn.qkv, "proj": block.attn.proj, "fc1": block.mlp.fc1, "fc2": block.mlp.fc2}
        for name, linear in linears.items():
            self.register_buffer(f"{name}_weight", linear.weight.detach().half().contiguous(), persistent=False)
            self.register_buffer(f"{name}_bias", linear.bias.detach(), persistent=False)


class FastSampler:
    """DDIM with guidance; see action_head.Sampler, whose arguments and rules these are."""

    def __init__(self, head: FastHead, ddim_steps: int, cfg_scale: float, cache_interval: int = 1) -> None:
        from sqap_vla.cogact import head_kernels, head_steps

        check_cache_interval(cache_interval)
        self._head, self._kernels, self._step = head, head_kernels, head_steps.step
        self._cfg_scale, self._cache_interval = cfg_scale, cache_interval
        schedule = ddim_schedule(ddim_steps)
        levels = range(len(schedule.timesteps))
        self._factors = [head_steps.DdimFactors.of(schedule, level) for level in levels]
        device = head.positional_embedding.device
        with torch.no_grad():
            self._timesteps = head.t_embedder(torch.as_tensor(schedule.timesteps, device=device))  # [S, D]
            self._unconditional = head.z_embedder(head.z_embedder.uncondition)  # [1, D]
        embed, project = head.x_embedder.linear, head.final_layer.linear
        tensors = (embed.weight, embed.bias, head.positional_embedding, project.weight, project.bias)
        self._weights = head_steps.StepWeights(*(tensor.detach() for tensor in tensors), NORM_EPS)
        heads, project = head.num_heads, head_kernels.PROJECT
        splits = max(parts for parts in range(1, project.splits + 1) if heads % parts == 0)
        self._project = replace(project, splits=splits)

    def sample(self, cognition: Tensor, noise: Tensor) -> Tensor:
        """cognition: float32 [B, token_size]. noise: float32 [B, T, C]. Normalised action chunks [B, T, C]."""
        head, guided = self._head, self._cfg_scale > 1.0
        condition = head.z_embedder(cognition)  # [B, D]
        if guided:
            condition = torch.cat([condition, self._unconditional.expand_as(condition)])  # [2B, D]
        x, tokens, dim = noise.clone(), noise.shape[1] + 1, condition.shape[1]
        rows = torch.empty(len(condition), tokens, dim, dtype=torch.float32, device=noise.device)
        normed = torch.empty_like(rows, dtype=torch.float16)
        added: Tensor | None = None  # what the blocks added to their input when they last ran
        factors = None
        for number, level in enumerate(reversed(range(len(self._factors)))):
            self._step(x, rows, normed, self._weights, condition, self._timesteps[level], factors, self._cfg_scale)
            if number % self._cache_interval == 0:
                before = rows.clone() if self._cache_interval > 1 else None
                self._run_blocks(rows.flatten(0, 1), normed.flatten(0, 1), tokens)
                added = None if before is None else rows - before
            else:
                rows += added
            factors = self._factors[level]
        self._step(x, rows, normed, self._weights, condition, None, factors, self._cfg_scale)
        return x

    def _run_blocks(self, rows: Tensor, normed: Tensor, tokens: int) -> None:
        """In place. rows: float32 [M, D]. normed: float16 [M, D], their LayerNorm."""
        kernels = self._kernels
        for block in self._head.blocks:
            qkv = kernels.product(normed, block.qkv_weight, block.qkv_bias, kernels.QKV)
            parts = kernels.attend_and_project(qkv, block.proj_weight, tokens, self._head.num_heads, self._project)
            kernels.gather(rows, normed, parts, block.proj_bias, NORM_EPS)
            hidden = kernels.product(normed, block.fc1_weight, block.fc1_bias, kernels.EXPAND, gelu=True)
            parts = kernels.product(hidden, block.fc2_weight, None, kernels.CONTRACT)
            kernels.gather(rows, normed, parts, block.fc2_bias, NORM_EPS)


def _has_triton() -> bool:
    """It comes with CUDA builds of torch for Linux, and with no other."""
    try:
        importlib.import_module("triton")
    except ImportError:
        return False
    return True
