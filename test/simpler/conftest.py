# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""SIMPLER's server with the environment that stands in for SIMPLER, as the process it is."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
PROGRAM = HERE.parents[1] / "src" / "sqap_vla" / "simpler"


def start_server(path: Path, *arguments: str) -> subprocess.Popen:
    """The program as SIMPLER's interpreter runs it, which knows nothing of sqap_vla."""
    environment = os.environ | {"PYTHONPATH": str(HERE / "stand_in")}
    return subprocess.Popen([sys.executable, str(PROGRAM), "--socket", str(path), *arguments], env=environment)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("simpler") / "socket"
    process = start_server(path)
    yield path
    process.terminate()
    assert process.wait(20) == 0
    assert not path.exists()
