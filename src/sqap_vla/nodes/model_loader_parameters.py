# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Every parameter of the model loader.

They may be set at any time and take effect with the next configure or reload.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqap_vla.nodes.parameters import parameter


@dataclass(frozen=True)
class ModelLoaderParameters:
    """Where `checkpoint` is an artifact directory, tokenizer and artifact_dir have no effect."""

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
        "'': ~/.cache/sqap_vla/artifacts/<fingerprint>-<dtype> ($XDG_CACHE_HOME is heeded).",
    )
    dtype: str = parameter(
        "auto",
        "Type of vision and language model; auto: bfloat16 on cuda, float32 on cpu, an artifact's own.",
        choices=("auto", "float32", "bfloat16"),
    )
    unnorm_key: str = parameter("", "Entry of dataset_statistics.json that must be there; '': not checked.")
