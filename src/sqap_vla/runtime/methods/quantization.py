# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The decoder's quantization, as options that every method has. What is not asked for is the method's own default for a
checkpoint, and what an artifact was made with for an artifact.
"""

from __future__ import annotations

from typing import Annotated

from sqap_vla.quantization.options import QuantizationOptions
from sqap_vla.quantization.policy import PRESETS
from sqap_vla.quantization.quantizer import Granularity, Precision
from sqap_vla.quantization.rotation import RotationKind
from sqap_vla.runtime.methods.options import Option

_ARTIFACT = "An artifact has its own."
PrecisionName = Annotated[
    str | None,
    Option(
        f"Bits of weights and activations in the decoder; bf16: not quantized. Unset: the method's own. {_ARTIFACT}",
        choices=tuple(precision.value for precision in Precision),
    ),
]
Preset = Annotated[str | None, Option("Quantization recipe to begin with; unset: default.", choices=tuple(PRESETS))]
RotationName = Annotated[
    str | None,
    Option(
        "Hadamard rotation of what is quantized; unset: the preset's.",
        choices=tuple(kind.value for kind in RotationKind),
    ),
]
GranularityName = Annotated[
    str | None,
    Option("What shares an activation scale; unset: the preset's.", choices=tuple(each.value for each in Granularity)),
]
GroupSize = Annotated[
    int | None, Option("Inputs that share a weight scale; 0: a whole output channel; unset: the preset's.", 0, 65536)
]
Rules = Annotated[
    tuple[str, ...],
    Option(
        "Precision of single layers, the first that matches, as *.down_proj=w4a8; names: sqap-vla inspect --layers."
    ),
]


def quantization_options(
    *,
    precision: PrecisionName = None,
    quantization_preset: Preset = None,
    rotation: RotationName = None,
    granularity: GranularityName = None,
    group_size: GroupSize = None,
    precision_rules: Rules = (),
) -> QuantizationOptions:
    """Raises ValueError for values that do not exist."""
    return QuantizationOptions(
        quantization_preset, precision, rotation, granularity, group_size, tuple(precision_rules)
    )
