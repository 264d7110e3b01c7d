# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""What of a rotation is left to do while the model runs: modules that take the place of the decoder's own.

Linears keep their names, so the decoder calls them as before, one by one, with whatever tokens it has at that place.
q_proj and k_proj read one tensor, and so do v_proj, and gate_proj and up_proj: a `SharedInput` lets the first of them
prepare it (rotate, quantize) for the others.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sqap_vla.quantization.hadamard import inverse_transform, transform

Prepared = TypeVar("Prepared")


@dataclass(frozen=True)
class InputRotation:
    """T_size on one axis of an input of width size * stride: the Kronecker product of T_size and I_stride.

    stride 1 is the whole input; size = heads, stride = head width is across heads, within none.
    """

    size: int
    stride: int = 1

    def __call__(self, x: Tensor) -> Tensor:
        """[..., size * stride] -> the same, in float32 at least."""
        wide = x if x.dtype == torch.float64 else x.float()
        if self.stride == 1:
            return transform(wide)
        across = wide.unflatten(-1, (self.size, self.stride)).transpose(-1, -2)  # [..., stride, size]
        return transform(across).transpose(-1, -2).flatten(-2)


@dataclass(frozen=True)
class ResidualRotation:
    """Q = T_n diag(signs): what the residual stream is multiplied by. Signs are random, of a seed.

    The signs matter: a mean that all channels share would otherwise become one large channel, since the first row of
    T_n is constant.
    """

    size: int
    seed: int

    def __call__(self, x: Tensor) -> Tensor:
        """Q x along the last axis."""
        return transform(x * self._signs(x))

    def undo(self, x: Tensor) -> Tensor:
        """Q^t x along the last axis."""
        return inverse_transform(x) * self._signs(x)

    def _signs(self, like: Tensor) -> Tensor:
        return _random_signs(self.size, self.seed, like.dtype, like.device)


@functools.lru_cache(maxsize=16)
def _random_signs(size: int, seed: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """+-1 [size]; the same everywhere, as torch's CPU generator is."""
    with torch.inference_mode(False):  # it outlives the call, and may be used outside of inference mode later
        signs = torch.randint(0, 2, (size,), generator=torch.Generator().manual_seed(seed)) * 2 - 1
        return signs.to(device=device, dtype=dtype)


class SharedInput(Generic[Prepared]):
    """Remembers what the last input was made into, as long as that input lives.

    Layers that read the same tensor and prepare it in the same way hold one of these. The input is known by identity,
    and must not be changed in place between them. Copies and pickles start empty, sharing kept.
    """

    def __init__(self) -> None:
        self._last: tuple[weakref.ref[Tensor], Prepared] | None = None

    def prepare(self, x: Tensor, make: Callable[[Tensor], Prepared]) -> Prepared:
        last = self._last  # one read: another thread may write in between
        if last is not None and last[0]() is x:
            return last[1]
        prepared = make(x)
        self._last = (weakref.ref(x, self._forget), prepared)
        return prepared

    def _forget(self, reference: weakref.ref[Tensor]) -> None:
        if self._last is not None and self._last[0] is reference:
            self._last = None

    def __reduce__(self) -> tuple[Any, ...]:
        return SharedInput, ()


class RotatedLinear(nn.Linear):
    """A float linear whose input is rotated first. Its weight has the rotation folded in, and is loaded, not made."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        rotation: InputRotation,
        shared: SharedInput[Tensor],
        bias: bool = False,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(in_features, out_features, bias, device, dtype)
        self.rotation = rotation
        self.shared = shared

    def rotated(self, x: Tensor) -> Tensor:
        """The input as the weight sees it, in the input's dtype."""
        return self.shared.prepare(x, lambda fresh: self.rotation(fresh).to(fresh.dtype))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(self.rotated(x), self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, {self.rotation}"


class UnrotatingNorm(nn.Module):
    """The decoder's final RMSNorm over a rotated residual stream: normalises, rotates back, applies the gain.

    A rotation leaves the root mean square as it is, but not the gain, so this one gain is not folded.
    """

    def __init__(self, weight: nn.Parameter, eps: float, rotation: ResidualRotation) -> None:
        super().__init__()
        self.weight = weight
        self.eps = eps
        self.rotation = rotation

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return self.rotation.undo(wide).to(x.dtype) * self.weight
