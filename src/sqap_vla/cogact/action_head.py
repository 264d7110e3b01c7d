# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""DiT action head: noisy action chunk + timestep + cognition feature -> the noise in it.

One conditioning token (timestep + cognition) is put before the 16 action tokens and dropped after the last
layer; there is no adaLN, so timestep and condition enter only through that token. Runs in float32. Parameter
names are the checkpoint's.
Source: action_model/models.py (modified from facebookresearch/DiT), action_model/action_model.py.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from sqap_vla.cogact.config import HeadConfig
from sqap_vla.cogact.diffusion import DdimStep, ddim_schedule, ddim_trajectory
from sqap_vla.cogact.layers import Mlp, SelfAttention

NORM_EPS = 1e-6
FREQUENCY_DIM = 256


class ActionModel(nn.Module):
    """The DiT and its sampler."""

    def __init__(self, config: HeadConfig) -> None:
        super().__init__()
        self.net = DiT(config)

    def sample(
        self, cognition: Tensor, noise: Tensor, ddim_steps: int, cfg_scale: float, cache_interval: int = 1
    ) -> Tensor:
        """Normalised action chunks [B, T, C], not clipped. Arguments as `trajectory`."""
        return self.sampler(ddim_steps, cfg_scale, cache_interval).sample(cognition, noise)

    def trajectory(
        self, cognition: Tensor, noise: Tensor, ddim_steps: int, cfg_scale: float, cache_interval: int = 1
    ) -> list[DdimStep]:
        """Every DDIM step.

        cognition: float32 [B, token_size]. noise: float32 [B, T, C]. cfg_scale: weight s of classifier-free
        guidance u + s (c - u); up to 1 there is no guidance and the unconditional half is not run (as in
        predict_action). cache_interval: N; attention and MLP of the blocks run in the first of every N steps, and
        the N - 1 after it add the same again (EfficientVLA, arXiv 2506.10100, eqs. 8 to 11); 1 runs them in all.
        Raises ValueError for an interval below 1.
        """
        return self.sampler(ddim_steps, cfg_scale, cache_interval).trajectory(cognition, noise)

    def sampler(self, ddim_steps: int, cfg_scale: float, cache_interval: int = 1) -> Sampler:
        """What does not change from chunk to chunk, computed once, of the weights as they are now."""
        return Sampler(self.net, ddim_steps, cfg_scale, cache_interval)


class Sampler:
    """DDIM with guidance over a DiT whose timestep embeddings and unconditional half are computed. It holds no buffers
    of a call: the same sampler may be captured in a CUDA graph. See ActionModel.trajectory for the arguments.
    """

    def __init__(self, net: DiT, ddim_steps: int, cfg_scale: float, cache_interval: int = 1) -> None:
        check_cache_interval(cache_interval)
        self.net, self.schedule = net, ddim_schedule(ddim_steps)
        self.cfg_scale, self.cache_interval = cfg_scale, cache_interval
        device = net.positional_embedding.device
        with torch.no_grad():
            self._timesteps = net.t_embedder(torch.as_tensor(self.schedule.timesteps, device=device))  # [S, D]
            self._unconditional = net.z_embedder(net.z_embedder.uncondition)  # [1, D]

    def sample(self, cognition: Tensor, noise: Tensor) -> Tensor:
        """As `trajectory`: its end, [B, T, C]."""
        return self.trajectory(cognition, noise)[-1].sample

    def trajectory(self, cognition: Tensor, noise: Tensor) -> list[DdimStep]:
        """cognition: float32 [B, token_size]. noise: float32 [B, T, C]."""
        net, schedule, cfg_scale, cache_interval = self.net, self.schedule, self.cfg_scale, self.cache_interval
        guided = cfg_scale > 1.0
        z_emb = net.z_embedder(cognition[:, None])  # [B, 1, D]
        if guided:
            z_emb = torch.cat([z_emb, self._unconditional.expand_as(z_emb)])  # [2B, 1, D]
        t_emb = self._timesteps

        added: Tensor | None = None  # what the blocks added to their input when they last ran

        def predict_noise(x: Tensor, level: int) -> Tensor:
            nonlocal added
            embedded = net.embed(torch.cat([x, x]) if guided else x, t_emb[level] + z_emb)
            step = len(schedule.timesteps) - 1 - level
            if step % cache_interval == 0:
                hidden = net.run_blocks(embedded)
                added = hidden - embedded
            else:
                hidden = embedded + added
            noise = net.project(hidden)
            if not guided:
                return noise
            conditional, unconditional = noise.chunk(2)  # [B, T, C] each
            return unconditional + cfg_scale * (conditional - unconditional)

        return list(ddim_trajectory(predict_noise, noise, schedule))


def check_cache_interval(interval: int) -> None:
    """Raises ValueError for an interval below 1."""
    if interval < 1:
        raise ValueError(f"cache_interval is {interval}; it must be >= 1 (1 caches nothing)")


class DiT(nn.Module):
    def __init__(self, config: HeadConfig) -> None:
        super().__init__()
        dim = config.hidden_size
        self.x_embedder = ActionEmbedder(config.action_dim, dim)
        self.t_embedder = TimestepEmbedder(dim)
        self.z_embedder = ConditionEmbedder(config.token_size, dim)
        self.positional_embedding = nn.Parameter(torch.zeros(config.chunk_steps + 1, dim))
        self.blocks = nn.ModuleList(DiTBlock(dim, config.num_heads) for _ in range(config.depth))
        self.final_layer = FinalLayer(dim, config.action_dim)

    def forward(self, x: Tensor, t: Tensor, z: Tensor) -> Tensor:
        """Noisy chunk x [B, T, C], timesteps t [B] of 0..99, cognition z [B, 1, Z] -> noise [B, T, C]."""
        return self.denoise(x, self.t_embedder(t)[:, None] + self.z_embedder(z))

    def denoise(self, x: Tensor, condition: Tensor) -> Tensor:
        """Noisy chunk x [B, T, C], embedded condition [B, 1, D] -> noise [B, T, C]."""
        return self.project(self.run_blocks(self.embed(x, condition)))

    def run_blocks(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)  # [B, 1 + T, D]
        return x

    def project(self, x: Tensor) -> Tensor:
        """Output of the blocks [B, 1 + T, D] -> noise [B, T, C]."""
        return self.final_layer(x)[:, 1:]

    def embed(self, x: Tensor, condition: Tensor) -> Tensor:
        return torch.cat([condition, self.x_embedder(x)], dim=1) + self.positional_embedding  # [B, 1 + T, D]


class ActionEmbedder(nn.Module):
    def __init__(self, action_dim: int, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(action_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)  # [B, T, D]


class TimestepEmbedder(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(FREQUENCY_DIM, dim), nn.SiLU(), nn.Linear(dim, dim))

    def forward(self, t: Tensor) -> Tensor:
        return self.mlp(timestep_frequencies(t).to(self.mlp[0].weight.dtype))  # [B, D]


class ConditionEmbedder(nn.Module):
    """`uncondition` is the learned stand-in for the cognition feature in classifier-free guidance."""

    def __init__(self, token_size: int, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(token_size, dim)
        self.uncondition = nn.Parameter(torch.zeros(1, token_size))

    def forward(self, z: Tensor) -> Tensor:
        return self.linear(z)  # [B, 1, D]


class DiTBlock(nn.Module):
    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, elementwise_affine=False, eps=NORM_EPS)
        self.attn = SelfAttention(dim, num_heads)
        self.norm2 = nn.LayerNorm(dim, elementwise_affine=False, eps=NORM_EPS)
        self.mlp = Mlp(dim, 4 * dim, approximate="tanh")

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))  # [B, 1 + T, D]
        return x + self.mlp(self.norm2(x))  # [B, 1 + T, D]


class FinalLayer(nn.Module):
    def __init__(self, dim: int, action_dim: int) -> None:
        super().__init__()
        self.norm_final = nn.LayerNorm(dim, elementwise_affine=False, eps=NORM_EPS)
        self.linear = nn.Linear(dim, action_dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.norm_final(x))  # [B, 1 + T, C]


def timestep_frequencies(t: Tensor, dim: int = FREQUENCY_DIM, max_period: float = 10000.0) -> Tensor:
    """Sinusoidal features of timesteps t [B]: [cos | sin], float32 [B, dim]."""
    half = dim // 2
    rates = torch.exp(
        -math.log(max_period) * torch.arange(half, dtype=torch.float32, device=t.device) / half
    )  # [dim / 2]
    angles = t[:, None].float() * rates  # [B, dim / 2]
    return torch.cat([angles.cos(), angles.sin()], dim=-1)
