# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Where a measurement was taken: versions and hardware, for reports. Latency means nothing without them."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import cv2
import numpy as np
import torch

PACKAGES = ("sqap_vla", "rosbags", "transformers")


def versions() -> dict[str, str]:
    """Versions by name; packages that run from a source tree without being installed say so."""
    found = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "opencv": cv2.__version__,
    }
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed (source tree)"
    return found


def hardware() -> str:
    """One line: processor and its usable cores, memory, GPU where torch sees one, operating system."""
    parts = [f"{cpu_model()}, {len(os.sched_getaffinity(0))} cores", f"{_memory_bytes() / 2**30:.0f} GiB"]
    if torch.cuda.is_available():
        parts.append(torch.cuda.get_device_name())
    return "; ".join([*parts, f"{platform.system()} {platform.release()} {platform.machine()}"])


def clocks() -> list[str]:
    """Clock rates as they are now, a line for each processor; what cannot be found out is left out."""
    lines = []
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        pairs = (line.partition(":") for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines())
        rates = [float(value) for key, _, value in pairs if key.strip() == "cpu MHz"]
        if rates:
            lines.append(f"CPU clock {min(rates):.0f} to {max(rates):.0f} MHz, load {os.getloadavg()[0]:.1f}")
    if torch.cuda.is_available() and (tool := shutil.which("nvidia-smi")):
        fields = "clocks.sm,clocks.max.sm,clocks.mem,power.draw,power.limit,temperature.gpu,driver_version"
        command = [tool, f"--query-gpu={fields}", "--format=csv,noheader"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        lines += [f"GPU ({fields}): {line.strip()}" for line in done.stdout.splitlines() if not done.returncode]
    return lines


def cpu_model(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's name as Linux knows it.

    x86 has 'model name'; boards such as Jetson name themselves in the device tree.
    """
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name" and value.strip():
                return value.strip()
    board = Path("/proc/device-tree/model")
    if board.is_file():
        return board.read_text(encoding="utf-8", errors="replace").strip("\x00 \n")
    return platform.processor() or platform.machine()


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
