# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""What somebody asks for of a quantization, in plain values, on top of what there is already: a method's default, or
what an artifact was made with.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from sqap_vla.quantization.policy import PRESETS, PrecisionPolicy, QuantizationConfig, preset
from sqap_vla.quantization.quantizer import Granularity, Precision
from sqap_vla.quantization.rotation import Rotation, RotationKind


@dataclass(frozen=True)
class QuantizationOptions:
    """None, and () for rules, is: not asked for.

    preset: the recipe to begin with. precision: of the decoder; bf16 without rules is: not quantized. rotation,
    granularity: by name. group_size: of weights; 0 is none. rules: `pattern=precision`, see policy.py. Raises
    ValueError for values that do not exist.
    """

    preset: str | None = None
    precision: str | None = None
    rotation: str | None = None
    granularity: str | None = None
    group_size: int | None = None
    rules: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "rules", tuple(self.rules))
        self.on(PRESETS["default"])  # validates

    def on(self, base: QuantizationConfig | None) -> QuantizationConfig | None:
        """`base` with what is asked for; None is: not quantized.

        Where nothing is quantized, rotation, granularity and group_size alone change nothing.
        """
        if self.preset is not None:
            base = preset(self.preset)
        if base is None and (self.precision is not None or self.rules):
            base = PRESETS["default"]
        if base is None:
            return None
        policy = PrecisionPolicy.parse(self.rules) if self.rules else base.policy
        policy = dataclasses.replace(policy, precision=self.precision or base.policy.precision)
        if policy.precision is Precision.BF16 and not policy.rules:
            return None
        changes: dict[str, Any] = {"policy": policy}
        if self.rotation is not None:
            kind = RotationKind(self.rotation)
            changes["rotation"] = Rotation(kind, fold_norms=kind is RotationKind.FULL, seed=base.rotation.seed)
        if self.granularity is not None:
            changes["granularity"] = Granularity(self.granularity)
        if self.group_size is not None:
            changes["group_size"] = self.group_size or None
        return dataclasses.replace(base, **changes)

    def __str__(self) -> str:
        given = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return ", ".join(f"{name} {value}" for name, value in given.items() if value not in (None, ())) or "nothing"
