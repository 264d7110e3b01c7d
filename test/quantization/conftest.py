# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Two small checkpoints of one layout and different weights, and a larger one; made once."""

from __future__ import annotations

import dataclasses
import math
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sqap_vla.cogact.config import CogActConfig, DecoderConfig, HeadConfig, VisionTowerConfig
from sqap_vla.cogact.layout import used_shapes
from sqap_vla.cogact.random_checkpoint import write_random_checkpoint
from sqap_vla.quantization.artifact import write_artifact
from sqap_vla.quantization.order import Recipe

TINY = CogActConfig(
    dino=VisionTowerConfig(
        embed_dim=32,
        depth=2,
        num_heads=2,
        mlp_hidden=48,
        register_tokens=4,
        class_token=True,
        layer_scale=True,
    ),
    siglip=VisionTowerConfig(embed_dim=32, depth=2, num_heads=2, mlp_hidden=37),
    decoder=DecoderConfig(
        vocab_size=192, hidden_size=32, intermediate_size=48, num_layers=2, num_heads=2, num_kv_heads=2
    ),
    head=HeadConfig(depth=1, hidden_size=32, num_heads=2, token_size=32),
)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_checkpoint(tmp_path_factory.mktemp("checkpoint") / "first", TINY, seed=1)


@pytest.fixture(scope="session")
def other_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_checkpoint(tmp_path_factory.mktemp("checkpoint") / "second", TINY, seed=2)


@pytest.fixture(scope="session")
def large_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, int]:
    """Large enough to see what memory it takes -> path, bytes of all parameters, of the largest one."""
    config = dataclasses.replace(
        TINY,
        decoder=DecoderConfig(
            vocab_size=192,
            hidden_size=1024,
            intermediate_size=4096,
            num_layers=3,
            num_heads=8,
            num_kv_heads=8,
        ),
        head=dataclasses.replace(TINY.head, token_size=1024),
    )
    path = write_random_checkpoint(tmp_path_factory.mktemp("checkpoint") / "large", config)
    sizes = [4 * math.prod(shape) for shape in used_shapes(config).values()]
    return path, sum(sizes), max(sizes)


@pytest.fixture
def run_python() -> Callable[..., str]:
    """Runs a script in a process of its own, so that its memory is its own, and gives its standard output."""

    def run(script: str, *arguments: object) -> str:
        result = subprocess.run(
            [sys.executable, "-c", script, *map(str, arguments)], capture_output=True, text=True, timeout=300
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    return run


@pytest.fixture
def artifact(checkpoint: Path, tmp_path: Path) -> Path:
    """In float32, without a tokenizer; a test may change it."""
    write_artifact(checkpoint, tmp_path / "artifact", Recipe(torch.float32))
    return tmp_path / "artifact"


@pytest.fixture(scope="session")
def made(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact that tests only read."""
    directory = tmp_path_factory.mktemp("artifact") / "made"
    write_artifact(checkpoint, directory, Recipe(torch.bfloat16), tokenizer=checkpoint, max_shard_bytes=100_000)
    return directory


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    """An artifact that a test may damage."""
    return shutil.copytree(made, tmp_path / "copy")
