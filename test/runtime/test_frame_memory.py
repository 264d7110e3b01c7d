# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""What is carried from one frame to the next, and when it is forgotten."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from torch import Tensor

from sqap_vla.cogact.config import DecoderConfig
from sqap_vla.cogact.llama import LlamaDecoder
from sqap_vla.cogact.token_reuse import TokenReuse
from sqap_vla.runtime.frame_memory import FrameMemory

PICTURE = np.zeros((28, 28, 3), np.uint8)
TASK = "pick up the cube"


@dataclass
class Policy:
    """Reuses token 1 from layer 1 on, and notes what it was shown."""

    seen: list[tuple[np.ndarray, np.ndarray, Tensor, Tensor]] = field(default_factory=list)

    def relevance_layer_of(self, num_layers: int) -> int:
        return num_layers - 1

    def plan(self, previous, picture, entropy, relevance, first_visual=1) -> dict[int, Tensor]:
        self.seen.append((previous, picture, entropy, relevance))
        return {1: torch.tensor([1])}


@pytest.fixture(scope="module")
def decoder() -> LlamaDecoder:
    torch.manual_seed(0)
    return LlamaDecoder(DecoderConfig(10, 16, 24, 2, 2, 2)).eval()


@pytest.fixture
def memory() -> FrameMemory:
    return FrameMemory(Policy(), num_layers=2, max_gap_s=1.0)


@torch.inference_mode()
def run(decoder: LlamaDecoder, memory: FrameMemory, stamp_s: float, task: str = TASK, picture=PICTURE, between=None):
    """Tokens that each layer computed of a frame."""
    reuse = memory.begin(task, round(1e9 * stamp_s), picture)
    assert isinstance(reuse, TokenReuse)
    computed = decoder(torch.ones(1, 7, 16), torch.tensor([6]), slice(1, 5), reuse=reuse).computed
    if between is not None:
        between()
    memory.end(reuse)
    return computed


WHOLE, REUSED = (7, 7), (7, 6)


def test_the_second_frame_takes_from_the_first(decoder, memory):
    assert [run(decoder, memory, stamp) for stamp in (1.0, 1.3, 1.6)] == [WHOLE, REUSED, REUSED]


def test_the_policy_sees_both_pictures_and_the_attention_of_the_frame_before(decoder, memory):
    other = PICTURE + 1
    run(decoder, memory, 1.0)
    run(decoder, memory, 1.2, picture=other)
    [(previous, picture, entropy, relevance)] = memory._policy.seen
    assert previous is PICTURE and picture is other
    assert entropy.shape == (2,) and relevance.shape == (4,)


@pytest.mark.parametrize(
    ("stamp_s", "task", "expected"),
    [
        (2.0, TASK, REUSED),
        (2.001, TASK, WHOLE),
        (1.0, TASK, WHOLE),
        (0.9, TASK, WHOLE),
        (1.2, "open the drawer", WHOLE),
    ],
    ids=["the longest gap", "a longer gap", "the same stamp", "an older stamp", "another instruction"],
)
def test_what_follows_and_what_does_not(decoder, memory, stamp_s, task, expected):
    run(decoder, memory, 1.0)
    assert run(decoder, memory, stamp_s, task) == expected


def test_a_reset_forgets(decoder, memory):
    run(decoder, memory, 1.0)
    assert memory.num_bytes == 2 * 2 * 7 * 16 * 4  # keys and values, layers, tokens, width, float32
    memory.reset()
    assert memory.num_bytes == 0
    assert run(decoder, memory, 1.2) == WHOLE


def test_a_frame_under_way_during_a_reset_is_not_kept(decoder, memory):
    run(decoder, memory, 1.0, between=memory.reset)
    assert run(decoder, memory, 1.2) == WHOLE


def test_a_frame_after_a_gap_starts_anew_and_is_kept(decoder, memory):
    assert [run(decoder, memory, stamp) for stamp in (1.0, 5.0, 5.2)] == [WHOLE, WHOLE, REUSED]
