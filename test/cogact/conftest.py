# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Reference files and what is built from them. SQAP_REFERENCE names another set in the same layout."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from sqap_vla.cogact.checkpoint import LoadedCheckpoint, load_checkpoint
from sqap_vla.cogact.prompt import Tokenizer
from sqap_vla.cogact.random_checkpoint import write_random_checkpoint

Arrays = dict[str, np.ndarray]


@pytest.fixture(scope="session")
def reference() -> Path:
    return Path(os.environ.get("SQAP_REFERENCE", Path(__file__).parents[1] / "reference"))


@pytest.fixture(scope="session")
def arrays(reference: Path) -> Callable[[str], Arrays]:
    def load(name: str) -> Arrays:
        with np.load(reference / f"{name}.npz") as file:
            return {key: file[key] for key in file.files}

    return load


@pytest.fixture(scope="session")
def tiny(reference: Path) -> LoadedCheckpoint:
    return load_checkpoint(reference / "f_cogact_tiny")


@pytest.fixture(scope="session")
def tokenizer(reference: Path) -> Tokenizer:
    return Tokenizer.from_path(reference / "f_cogact_tiny")


@pytest.fixture(scope="session")
def demo_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read-only: tests that break a checkpoint copy it first."""
    return write_random_checkpoint(tmp_path_factory.mktemp("demo") / "checkpoint")


@pytest.fixture
def directory(demo_directory: Path, tmp_path: Path) -> Path:
    """A checkpoint of this test's own, to break."""
    return shutil.copytree(demo_directory, tmp_path / "checkpoint")


@pytest.fixture(autouse=True)
def no_gradients() -> object:
    with torch.inference_mode():
        yield
