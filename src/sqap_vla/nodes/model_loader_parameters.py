# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Every parameter of the model loader.

They may be set at any time and take effect with the next configure or reload.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqap_vla.nodes.method_parameters import QuantizationParameters, quantization_of
from sqap_vla.nodes.parameters import parameter
from sqap_vla.quantization.options import QuantizationOptions


@dataclass(frozen=True)
class ModelLoaderParameters(QuantizationParameters):
    """Where `checkpoint` is an artifact directory, tokenizer and artifact_dir have no effect. Where nothing is asked of
    the quantization, a checkpoint is made into the w4a4 that method sqap runs in."""

    checkpoint: str = parameter(
        "", "CogACT checkpoint directory, or an artifact directory, which is verified and announced."
    )
    tokenizer: str = parameter(
        "",
        "Hugging Face tokenizer that is copied into the artifact: a tokenizer.json or a directory. "
        "'': the one beside the checkpoint, where there is one.",
    )
    artifact_dir: str = parameter(
        "",
        "Directory the artifact is written to. "
        "'': ~/.cache/sqap_vla/artifacts/<fingerprint>-<recipe> ($XDG_CACHE_HOME is heeded).",
    )
    dtype: str = parameter(
        "auto",
        "Type of what is not quantized; auto: bfloat16 on cuda, float32 on cpu, an artifact's own.",
        choices=("auto", "float32", "bfloat16"),
    )
    unnorm_key: str = parameter("", "Entry of dataset_statistics.json that must be there; '': not checked.")

    def __post_init__(self) -> None:
        self.make_quantization()

    def make_quantization(self) -> QuantizationOptions:
        """Raises ValueError."""
        return quantization_of(self)
