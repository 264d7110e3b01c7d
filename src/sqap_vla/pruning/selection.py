# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Which visual tokens stay in the language model, and why: the contract between a pruning method and the
decoder.

The decoder takes a TokenSelector as an argument and knows none of them. A selector works on the device of its
inputs, in fixed shapes and without a host round trip, so that it can run inside the prefill and be captured
in a CUDA graph.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

import torch
from torch import Tensor


class Reason(IntEnum):
    """Why a token was kept. The order is the precedence where several hold."""

    RING = 0  # next to the projected end-effector
    ATTENTION = 1  # among the highest attention scores
    FPS = 2  # spatially even sample of the rest
    OTHER = 3  # kept for none of these reasons


@dataclass(frozen=True, eq=False)
class TokenSelection:
    """Kept visual tokens, each once.

    kept: int64 [n], ascending token indices. reason: uint8 [n], the Reason of each, on the same device.
    Raises ValueError for other dtypes or shapes. Order and uniqueness are the selector's duty: checking them
    here would wait for the device.
    """

    kept: Tensor
    reason: Tensor

    def __post_init__(self) -> None:
        kept, reason = self.kept, self.reason
        if kept.dtype != torch.int64 or kept.ndim != 1:
            raise ValueError(f"kept is {kept.dtype} {tuple(kept.shape)}; it must be int64 [n]")
        if reason.dtype != torch.uint8 or reason.shape != kept.shape or reason.device != kept.device:
            raise ValueError(
                f"reason is {reason.dtype} {tuple(reason.shape)} on {reason.device}; it must be "
                f"uint8 {tuple(kept.shape)} on {kept.device}, one per kept token"
            )

    def cpu(self) -> TokenSelection:
        """The same selection in host memory, for logs and pictures."""
        return TokenSelection(self.kept.cpu(), self.reason.cpu())

    def by_reason(self, reason: Reason) -> Tensor:
        """int64 [m]: the kept tokens with this reason, ascending. Waits for the device."""
        return self.kept[self.reason == reason]

    def counts(self) -> dict[Reason, int]:
        """Number of kept tokens per reason, in the order of precedence; the sum is n. Waits for the
        device."""
        per_reason = torch.bincount(self.reason.long(), minlength=len(Reason)).tolist()
        return dict(zip(Reason, per_reason, strict=True))


class TokenSelector(Protocol):
    """A pruning method. Its result depends on its arguments alone.

    The flags say what it looks at; whoever calls it leaves out what it does not need. Derive from this class to
    inherit the defaults. A selector that is not `on_host` must not use its seed: captured in a CUDA graph, it would
    draw the same for ever.
    """

    needs_scores: bool = False  # attention to the visual tokens
    needs_features: bool = False  # the visual tokens themselves
    needs_ring: bool = False  # the robot's geometry
    on_host: bool = False  # draws from its seed; then it is called before the decoder runs, and sees no scores

    def select(
        self, scores: Tensor | None, ring: Tensor, budget: int, seed: int, features: Tensor | None = None
    ) -> TokenSelection:
        """Choose exactly `budget` tokens.

        scores: float [N], higher is more important, or None. ring: bool [N], tokens to protect, at most
        `budget` of them. seed: the only source of randomness. features: [N, D], the visual tokens as they enter
        the decoder, or None. Raises ValueError for wrong shapes, a budget outside [1, N], or something missing
        that it needs.
        """


def budget_from_ratio(ratio: float, n: int = 256) -> int:
    """Tokens kept when `ratio` of n is dropped: n - round(ratio * n), half to even. Raises ValueError if none
    would stay."""
    if not 0 <= ratio < 1:  # false for NaN too
        raise ValueError(f"pruning ratio is {ratio}; it must be in [0, 1), e.g. 0.4 to drop 40 %")
    budget = n - round(ratio * n)
    if budget < 1:
        raise ValueError(f"pruning ratio {ratio} leaves none of {n} tokens; use at most {1 - 1 / n:.4f}")
    return budget


def keep_all(n: int, device: torch.device | str) -> TokenSelection:
    """The selection of a dense model: all n tokens, reason OTHER."""
    return TokenSelection(
        torch.arange(n, device=device), torch.full((n,), Reason.OTHER, dtype=torch.uint8, device=device)
    )


def rank_descending(scores: Tensor) -> Tensor:
    """int64 [N]: 0 for the highest score. NaN counts as -inf; equal scores rank by index.

    Counted over all pairs: of a few hundred numbers that takes a GPU less time than sorting them.
    """
    numbers, index = torch.where(scores.isnan(), -torch.inf, scores), torch.arange(len(scores), device=scores.device)
    higher, equal = numbers > numbers[:, None], numbers == numbers[:, None]  # [N, N]: of column and row
    return (higher | (equal & (index < index[:, None]))).sum(1)


def lowest(keys: Tensor, count: int) -> Tensor:
    """Indices of the `count` lowest of distinct keys [N], in ascending order; counted, too."""
    stays = (keys < keys[:, None]).sum(1) < count  # [N]
    place = torch.where(stays, stays.cumsum(0) - 1, count)  # the others share one place, which is cut off
    index = torch.arange(len(keys), device=keys.device)
    return torch.empty(count + 1, dtype=index.dtype, device=keys.device).scatter_(0, place, index)[:count]


def check_select_arguments(scores: Tensor | None, ring: Tensor, budget: int, needs_scores: bool) -> None:
    """What every selector demands of its arguments, without waiting for the device. Raises ValueError."""
    if ring.dtype != torch.bool or ring.ndim != 1:
        raise ValueError(f"ring is {ring.dtype} {tuple(ring.shape)}; it must be bool [N]")
    if not 1 <= budget <= len(ring):
        raise ValueError(f"budget is {budget} of {len(ring)} tokens; it must be in [1, {len(ring)}]")
    if not needs_scores:
        return
    if scores is None:
        raise ValueError("scores is None; this selector ranks tokens by attention and needs them")
    if scores.shape != ring.shape or not scores.is_floating_point():
        raise ValueError(
            f"scores is {scores.dtype} {tuple(scores.shape)}; it must be floating point {tuple(ring.shape)}"
        )
