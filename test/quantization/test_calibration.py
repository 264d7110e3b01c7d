# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""What calibration notes of the inputs, checked against inputs that are known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sqap_vla.quantization.calibration import input_group, input_statistics
from sqap_vla.quantization.online import InputRotation, RotatedLinear, SharedInput


class Attention(nn.Module):
    """Reads one tensor three times, q_proj its last token only, as the decoder's last layer does."""

    def __init__(self) -> None:
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(4, 2, bias=False) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.q_proj(x[:, -1:]) + self.k_proj(x) + self.v_proj(x)


FRAMES = (
    torch.tensor([[[1.0, 0, -2, 0], [3.0, 0, 0, 0]]]),  # [1, 2, 4]
    torch.tensor([[[-5.0, 0, 0, 1], [1.0, 0, 0, 0], [0.0, 4, 0, 0]]]),
)
NAMES = ("q_proj", "k_proj", "v_proj")


@pytest.fixture
def attention() -> Attention:
    return Attention().requires_grad_(False)


def statistics(model: nn.Module, names=NAMES, frames=FRAMES):
    return input_statistics(model, names, lambda: [model(frame) for frame in frames])


def test_largest_of_all_tokens_of_all_frames(attention):
    found = statistics(attention)
    assert found["k_proj"].magnitude.tolist() == [5, 4, 2, 1]


def test_layers_that_read_one_tensor_have_one_range_and_their_own_mean(attention):
    """The query of the last layer sees the last token, or all of them where tokens are reused."""
    found = statistics(attention)
    assert torch.equal(found["q_proj"].magnitude, found["v_proj"].magnitude)
    assert found["v_proj"].mean.tolist() == pytest.approx([0, 0.8, -0.4, 0.2])
    assert found["q_proj"].mean.tolist() == pytest.approx([1.5, 2, 0, 0])


def test_the_mean_is_over_tokens_and_not_over_frames(attention):
    frames = (torch.ones(1, 9, 4), torch.zeros(1, 1, 4))
    assert statistics(attention, frames=frames)["k_proj"].mean.tolist() == pytest.approx([0.9] * 4)


def test_a_rotated_layer_is_asked_for_what_it_reads_behind_its_rotation(attention):
    rotation = InputRotation(4)
    attention.q_proj, attention.k_proj = (
        RotatedLinear(4, 2, rotation, SharedInput()).requires_grad_(False) for _ in range(2)
    )
    found = statistics(attention, frames=FRAMES[:1])
    assert torch.equal(found["k_proj"].magnitude, rotation(FRAMES[0][0]).abs().amax(0))
    assert found["v_proj"].magnitude.tolist() == [3, 0, 2, 0]  # not rotated, so a range of its own


def test_half_precision_sums_are_exact(attention):
    frame = torch.full((1, 4096, 4), 1.0 + 2**-7, dtype=torch.bfloat16)
    assert statistics(attention.bfloat16(), frames=(frame,))["v_proj"].mean.tolist() == [1.0 + 2**-7] * 4


def test_frames_without_tokens_change_nothing(attention):
    found = statistics(attention, ("k_proj",), (torch.zeros(1, 0, 4), *FRAMES))
    assert found["k_proj"].magnitude.tolist() == [5, 4, 2, 1]
    with pytest.raises(ValueError, match="never ran 1 layers"):
        statistics(attention, ("k_proj",), (torch.zeros(1, 0, 4),))


def test_layers_that_never_ran_are_named(attention):
    attention.other = nn.Linear(4, 2)
    with pytest.raises(ValueError, match="never ran 1 layers, other among them"):
        statistics(attention, (*NAMES, "other"))


def test_nothing_listens_any_more_whatever_happens(attention):
    def broken() -> None:
        raise RuntimeError("no more frames")

    with pytest.raises(RuntimeError, match="no more frames"):
        input_statistics(attention, NAMES, broken)
    assert not attention.q_proj._forward_pre_hooks


def test_groups_are_those_of_one_parent():
    assert input_group("a.self_attn.q_proj") == input_group("a.self_attn.v_proj")
    assert input_group("a.mlp.gate_proj") == input_group("a.mlp.up_proj")
    assert len({input_group(f"{a}.{b}") for a in "ab" for b in ("q_proj", "o_proj", "up_proj", "down_proj")}) == 8
