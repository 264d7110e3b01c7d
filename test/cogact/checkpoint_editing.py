# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Ways to break a checkpoint directory."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch

Edit = Callable[[dict], None]


def weights_of(directory: Path) -> Path:
    return directory / "checkpoints" / "step-000000.pt"


def edit_weights(directory: Path, edit: Edit) -> None:
    content = torch.load(weights_of(directory), weights_only=True)
    edit(content["model"])
    torch.save(content, weights_of(directory))


def edit_json(file: Path, edit: Edit) -> None:
    content = json.loads(file.read_text())
    edit(content)
    file.write_text(json.dumps(content))
