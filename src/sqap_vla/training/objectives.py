# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""What training asks of the network.

The policy's own objective is CogACT's: the head predicts the noise in the chunk, given the cognition feature. From it
alone a small network learns nothing for a long time, since the feature is of use only once it finds the object that
the text names *and* the hand. So the simulator's truth is asked for on the way, by heads that are thrown away after
training: of every visual token, which keypoint it shows and where exactly; of the last token's attention, that one
head looks at the named object, one at the hand, one at the goal; of the cognition feature, where they are and,
directly, the chunk.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sqap_vla.cogact.diffusion import DIFFUSION_STEPS, cosine_schedule
from sqap_vla.cogact.model import CogAct
from sqap_vla.sim import INSTRUCTIONS, parse_instruction
from sqap_vla.sim.scene import CUBE_COLORS
from sqap_vla.sim.tasks import DrawerTask, MoveNearTask, PlaceTask
from sqap_vla.training.frames import KEYPOINTS
from sqap_vla.training.packed import PackedOutput

HAND, HANDLE = KEYPOINTS.index("hand"), KEYPOINTS.index("handle")
CUBES = len(CUBE_COLORS)
GRID, PATCH_PX = 16, 14
HEAT_SIGMA = 0.75  # patches
POINT_CENTRE_M, POINT_SCALE_M = (0.36, -0.05, 0.08), 0.12
# Normalised actions are in [-1, 1] between minus and plus this: the expert's pace, so nothing is cut off.
ACTION_LIMITS = (0.03, 0.03, 0.03, 0.2, 0.2, 0.2)
_YAW_SYMMETRY = 4  # a cube looks the same after a quarter turn
_PATCH_OUTPUTS = 5 + 10 + 3 * CUBES + 10 + 1
_COGNITION_OUTPUTS = 3 + 3 + 3 + 3 + 3 + 3 + 4


def _roles() -> Tensor:
    """For each instruction the keypoints of object, hand and goal, int64 [I, 3]."""
    rows = []
    for text in INSTRUCTIONS:
        task = parse_instruction(text)
        named = HANDLE if isinstance(task, DrawerTask) else CUBE_COLORS.index(task.color)
        goal = named
        if isinstance(task, MoveNearTask):
            goal = CUBE_COLORS.index(task.goal)
        elif isinstance(task, PlaceTask):
            goal = HANDLE
        rows.append((named, HAND, goal))
    return torch.tensor(rows)


@functools.lru_cache(maxsize=8)
def roles_on(device: torch.device) -> Tensor:
    """Read-only."""
    return _roles().to(device)


@dataclass(frozen=True)
class LossWeights:
    patch: float = 1.0
    attention: float = 0.15
    cognition: float = 1.0
    chunk: float = 1.0
    diffusion: float = 1.0


class Teachers(nn.Module):
    """The heads that exist in training only."""

    def __init__(self, width: int, chunk_steps: int = 16, action_dim: int = 7) -> None:
        super().__init__()
        self.patch = nn.Linear(width, _PATCH_OUTPUTS)
        self.cognition = nn.Sequential(nn.Linear(width, 256), nn.GELU(), nn.Linear(256, _COGNITION_OUTPUTS))
        self.chunk = nn.Sequential(nn.Linear(width, 256), nn.GELU(), nn.Linear(256, chunk_steps * action_dim))


@dataclass(frozen=True, eq=False)
class Truth:
    """A batch of B frames with K tasks; fields as in `Frames`."""

    keypoints: Tensor
    points: Tensor
    yaws: Tensor
    hand: Tensor
    drawer: Tensor
    held: Tensor
    tasks: Tensor  # int64 [B, K]
    chunks: Tensor  # normalised, [B, K, 16, 7]

    def each(self, change: Callable[[Tensor], Tensor]) -> Truth:
        """With every field changed."""
        return Truth(**{field.name: change(getattr(self, field.name)) for field in fields(Truth)})

    def to(self, device: torch.device) -> Truth:
        return self.each(lambda values: values.to(device))

    def rows(self, index: Tensor) -> Truth:
        """Some of its frames, int64 [n]."""
        return self.each(lambda values: values[index])

    def room(self, frames: int, device: torch.device) -> Truth:
        """For that many frames like these, not filled."""
        return self.each(lambda values: values.new_empty(frames, *values.shape[1:], device=device))

    def put(self, first: int, part: Truth) -> None:
        """Fills frames from `first` on."""
        for field in fields(Truth):
            values = getattr(part, field.name)
            room = getattr(self, field.name)
            room[first : first + len(values)] = values.to(room.device)

    def heat(self) -> Tensor:
        """How much each patch is the place of each keypoint, 0 to 1, [B, 5, N]; 0 for one that is out of sight."""
        offsets = self.offsets()
        heat = torch.exp(-0.5 * (offsets / HEAT_SIGMA).square().sum(dim=-1))
        return torch.nan_to_num(heat)

    def offsets(self) -> Tensor:
        """From each patch's middle to each keypoint, in patches, [B, 5, N, 2]."""
        axis = torch.arange(GRID, device=self.keypoints.device) * PATCH_PX + 0.5 * (PATCH_PX - 1)
        centres = torch.stack(torch.meshgrid(axis, axis, indexing="ij")[::-1], dim=-1).reshape(-1, 2)  # [N, 2] u, v
        return (self.keypoints[:, :, None] - centres) / PATCH_PX

    def roles(self) -> Tensor:
        """Keypoints of object, hand and goal of each task, int64 [B, K, 3]; of a missing task, those of the first."""
        return roles_on(self.tasks.device)[self.tasks.clamp(min=0)]

    def scaled_points(self) -> Tensor:
        return (self.points - self.points.new_tensor(POINT_CENTRE_M)) / POINT_SCALE_M


def normalize_chunks(chunks: np.ndarray) -> np.ndarray:
    """Actions [..., 7] -> what the head is taught; the gripper stays 0 to 1."""
    limits = np.append(ACTION_LIMITS, 1.0).astype(np.float32)
    return np.clip(chunks / limits, -1.0, 1.0)


def patch_loss(teachers: Teachers, visual: Tensor, truth: Truth) -> Tensor:
    """visual: [B, N, D]."""
    out = teachers.patch(visual)  # [B, N, P]
    heat = truth.heat().transpose(1, 2)  # [B, N, 5]
    found = F.binary_cross_entropy_with_logits(out[..., :5], heat, pos_weight=out.new_tensor(8.0))
    near = heat * (heat > 0.3)
    offsets = out[..., 5:15].unflatten(-1, (5, 2))  # [B, N, 5, 2]
    missed = F.smooth_l1_loss(offsets, truth.offsets().nan_to_num().transpose(1, 2), beta=0.1, reduction="none").mean(
        -1
    )
    loss = found + 3.0 * _weighted(missed, near)
    yaw = _YAW_SYMMETRY * truth.yaws
    cubes = torch.stack([yaw.cos(), yaw.sin(), truth.scaled_points()[:, :CUBES, 2]], dim=-1)  # [B, 3, 3]
    loss = loss + _attributes(out[..., 15:24].unflatten(-1, (CUBES, 3)), cubes, near[..., :CUBES])
    hand = torch.cat([truth.scaled_points()[:, HAND], truth.hand[:, [0, 1, 3, 4, 6, 7, 9]]], dim=-1)[
        :, None
    ]  # [B, 1, 10]
    loss = loss + _attributes(out[..., 24:34].unsqueeze(-2), hand, near[..., HAND : HAND + 1])
    return loss + _attributes(out[..., 34:35].unsqueeze(-2), truth.drawer[:, None, None] / 0.07, near[..., HANDLE:])


def _attributes(predicted: Tensor, target: Tensor, near: Tensor) -> Tensor:
    """predicted: [B, N, k, c]; target: [B, k, c]; near: [B, N, k]."""
    missed = F.smooth_l1_loss(predicted, target[:, None].expand_as(predicted), beta=0.1, reduction="none").mean(-1)
    return _weighted(missed, near)


def _weighted(values: Tensor, weights: Tensor) -> Tensor:
    return (values * weights).sum() / weights.sum().clamp(min=1.0)


def choose_tokens(truth: Truth, count: int, generator: torch.Generator) -> Tensor:
    """Which visual tokens a step is trained on: those that show a keypoint, and others at random, int64 [B, count]."""
    shown = (truth.heat() > 0.1).any(dim=1)  # [B, N]
    order = torch.rand(shown.shape, generator=generator, device=shown.device) + shown
    return order.topk(count, dim=1).indices.sort(dim=1).values


def attention_loss(output: PackedOutput, truth: Truth, kept: Tensor | None) -> Tensor:
    """Minus the logarithm of the attention that head 0, 1, 2 gives object, hand, goal, over the layers.

    kept: as `packed_cognition` has it.
    """
    heat = truth.heat()  # [B, 5, N]
    if kept is not None:
        heat = heat.gather(2, kept[:, None].expand(-1, heat.shape[1], -1))  # [B, 5, n]
    wanted = heat[_rows_of(heat)[..., None], truth.roles()]  # [B, K, 3, N]
    visible = (wanted.amax(dim=-1) > 0.3) & (truth.tasks >= 0)[..., None]  # [B, K, 3]
    loss = truth.points.new_zeros(())
    for rows in output.attention.values():
        given = (rows[:, :, :3] * wanted).sum(dim=-1)  # [B, K, 3]
        loss = loss - ((given + 1e-4).log() * visible).sum() / visible.sum().clamp(min=1)
    return loss / max(len(output.attention), 1)


def cognition_loss(teachers: Teachers, cognition: Tensor, truth: Truth) -> Tensor:
    """cognition: [B, K, D]."""
    points, roles = truth.scaled_points(), truth.roles()
    rows = _rows_of(points)
    named, hand, goal = (points[rows, roles[..., i]] for i in range(3))  # [B, K, 3]
    rotation = truth.hand[:, None, [0, 3]].expand(-1, roles.shape[1], -1)
    grip = truth.hand[:, None, 9:].expand(-1, roles.shape[1], -1)
    holds = truth.held.float()[rows, _held_index(roles[..., 0]).clamp(max=CUBES)]  # [B, K]
    target = torch.cat(
        [named, hand, goal, 2 * (named - hand), 2 * (goal - hand), goal - named, rotation, grip, holds[..., None]],
        dim=-1,
    )
    missed = F.smooth_l1_loss(teachers.cognition(cognition), target, beta=0.1, reduction="none").mean(-1)
    return _weighted(missed, (truth.tasks >= 0).float())


def _rows_of(values: Tensor) -> Tensor:
    """0 to B - 1, [B, 1]: picks each row's own."""
    return torch.arange(len(values), device=values.device)[:, None]


def _held_index(named: Tensor) -> Tensor:
    """Keypoint of the object -> column of `held`: the handle's comes after the cubes'."""
    return torch.where(named == HANDLE, CUBES, named)


def chunk_loss(teachers: Teachers, cognition: Tensor, truth: Truth) -> Tensor:
    predicted = teachers.chunk(cognition).view_as(truth.chunks)
    missed = F.smooth_l1_loss(predicted, truth.chunks, beta=0.1, reduction="none").mean(-1)  # [B, K, 16]
    return _weighted((missed * row_weights(missed.device)).mean(-1), (truth.tasks >= 0).float())


def row_weights(device: torch.device) -> Tensor:
    """Rows that are executed count more than those that a newer chunk replaces, [16]; their mean is 1."""
    return torch.linspace(1.6, 0.4, 16, device=device)


def diffusion_loss(model: CogAct, cognition: Tensor, truth: Truth, repeats: int, generator: torch.Generator) -> Tensor:
    """CogACT's: `repeats` noise levels for each feature, and in a tenth of them no feature at all."""
    net, device = model.action_model.net, cognition.device
    known = (truth.tasks >= 0).flatten().repeat(repeats).float()  # [R]
    x0 = truth.chunks.flatten(0, 1).repeat(repeats, 1, 1)  # [R, 16, 7]
    z = cognition.flatten(0, 1).repeat(repeats, 1)[:, None]  # [R, 1, D]
    blank = torch.rand(len(z), 1, 1, generator=generator, device=device) < 0.1
    z = torch.where(blank, net.z_embedder.uncondition, z)
    noise = torch.randn(x0.shape, generator=generator, device=device)
    level = torch.randint(0, DIFFUSION_STEPS, (len(x0),), generator=generator, device=device)
    predicted = net(cosine_schedule().add_noise(x0, level, noise), level, z)
    return _weighted(((predicted - noise).square().mean(-1) * row_weights(device)).mean(-1), known)
