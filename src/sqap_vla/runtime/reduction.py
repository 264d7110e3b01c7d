# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Which layers and MLP channels of the decoder a method does without (EfficientVLA, arXiv 2506.10100)."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from sqap_vla.cogact.model import CogAct
from sqap_vla.cogact.prompt import Tokenizer
from sqap_vla.cogact.reduced import layer_importance, least_important, reduced_model
from sqap_vla.runtime.calibration import calibration_embeds

logger = logging.getLogger(__name__)

PUBLISHED_KEPT, PUBLISHED_OF = 28, 32


@dataclass(frozen=True)
class Reduction:
    """layers_kept: how many; None keeps the published share, floor(28/32 of the layers). mlp_sparsity: part of each
    MLP's channels that is dropped. layers_dropped: zero-based layers to drop, ascending; () measures which ones
    change their input least. Raises ValueError for values that contradict each other."""

    layers_kept: int | None = None
    mlp_sparsity: float = 0.25
    layers_dropped: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        dropped = self.layers_dropped
        if list(dropped) != sorted(set(dropped)) or (dropped and dropped[0] < 0):
            raise ValueError(f"layers_dropped is {dropped}; give layers from 0, ascending, each once")
        if dropped and self.layers_kept is not None:
            raise ValueError(
                f"layers_kept is {self.layers_kept} and layers_dropped {dropped}; give one of them: how many, or which"
            )

    def num_kept(self, num_layers: int) -> int:
        """Of `num_layers`. Raises ValueError where that many are not there."""
        if self.layers_dropped:
            return num_layers - len(self.layers_dropped)
        kept = num_layers * PUBLISHED_KEPT // PUBLISHED_OF if self.layers_kept is None else self.layers_kept
        if not 1 <= kept <= num_layers:
            raise ValueError(f"layers_kept is {kept}; the decoder has {num_layers} layers")
        return kept

    def kept_layers(self, model: CogAct, tokenizer: Tokenizer) -> tuple[int, ...]:
        """Zero-based, ascending. Runs the decoder where it has to measure. Raises ValueError as `num_kept`."""
        num_layers = len(model.decoder.layers)
        count = num_layers - self.num_kept(num_layers)
        dropped = self.layers_dropped
        if not dropped and count:
            importance = layer_importance(model.decoder, calibration_embeds(model, tokenizer))
            dropped = least_important(importance, count)
            logger.info("layer importance %s; dropping %s", [round(i, 4) for i in importance.tolist()], dropped)
        if dropped and dropped[-1] >= num_layers:
            raise ValueError(f"layers_dropped is {dropped}; the decoder has layers 0 to {num_layers - 1}")
        return tuple(index for index in range(num_layers) if index not in dropped)

    def apply(self, model: CogAct, tokenizer: Tokenizer) -> CogAct:
        """The reduced model; `model` itself stays as it is."""
        return reduced_model(model, self.kept_layers(model, tokenizer), self.mlp_sparsity)
