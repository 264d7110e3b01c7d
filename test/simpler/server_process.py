# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""SIMPLER's server with the package that stands in for SIMPLER, as the process it is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROGRAM = HERE.parents[1] / "src" / "sqap_vla" / "simpler"
PHOTOGRAPHS = (
    "google_coke_can_real_eval_1",
    "google_move_near_real_eval_1",
    "bridge_real_eval_1",
    "bridge_sink",
    *(f"open_drawer_{row}{column}" for row in "abc" for column in "012"),
)


def start_server(path: Path, *arguments: str) -> subprocess.Popen:
    """The program as SIMPLER's interpreter runs it, which knows nothing of sqap_vla."""
    environment = os.environ | {"PYTHONPATH": str(HERE / "stand_in")}
    return subprocess.Popen([sys.executable, str(PROGRAM), "--socket", str(path), *arguments], env=environment)


def write_interpreter(directory: Path, **environment: str) -> Path:
    """An interpreter that SIMPLER "is installed for", with its assets: empty files of the photographs' names."""
    photographs = directory / "assets" / "real_inpainting"
    photographs.mkdir(parents=True, exist_ok=True)
    for name in PHOTOGRAPHS:
        (photographs / f"{name}.png").touch()
    environment |= {"PYTHONPATH": str(HERE / "stand_in"), "MS2_REAL2SIM_ASSET_DIR": str(photographs.parent)}
    exports = "".join(f"export {name}='{value}'\n" for name, value in environment.items())
    interpreter = directory / "python"
    interpreter.write_text(f"#!/bin/sh\n{exports}exec '{sys.executable}' \"$@\"\n")
    interpreter.chmod(0o700)
    return interpreter
