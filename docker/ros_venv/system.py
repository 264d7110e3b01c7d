# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""What pip cannot bring: a compiler, CPython's headers and venv module, off-screen OpenGL."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path


class MissingSystemPackages(RuntimeError):
    """Something is missing and could not be installed; the message has the command that does it."""


@dataclass(frozen=True)
class Missing:
    """One thing that is not there: what it is for, and the Debian/Ubuntu packages that bring it."""

    what: str
    packages: tuple[str, ...]


OPENGL = Missing("off-screen OpenGL, for MuJoCo's camera", ("libegl1", "libegl-mesa0", "libgl1-mesa-dri"))
DRI_DIRECTORIES = ("usr/lib/*/dri", "usr/lib64/dri", "usr/lib/dri")


def loadable(*libraries: str) -> bool:
    """Whether the dynamic linker finds every one of the shared libraries."""
    for library in libraries:
        try:
            ctypes.CDLL(library)
        except OSError:
            return False
    return True


def offscreen_gl() -> str:
    """The back end MuJoCo can render with here: 'egl', 'osmesa' or '' for none.

    libEGL.so.1 alone is only a dispatcher; it needs a vendor's driver behind it, and Mesa's loads a DRI
    driver."""
    if loadable("libEGL.so.1"):
        software = any(True for directory in DRI_DIRECTORIES for _ in Path("/").glob(f"{directory}/*_dri.so"))
        if loadable("libEGL_nvidia.so.0") or (loadable("libEGL_mesa.so.0") and software):
            return "egl"
    if loadable("libOSMesa.so.8") or loadable("libOSMesa.so.6"):
        return "osmesa"
    return ""


def missing(compiler: bool) -> list[Missing]:
    """What this interpreter lacks on this machine; `compiler`: whether interface packages must be
    compiled.
    """
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    result = []
    if importlib.util.find_spec("ensurepip") is None or importlib.util.find_spec("venv") is None:
        result.append(Missing("Python's venv module", (f"python{version}-venv",)))
    if compiler:
        if not (shutil.which(os.environ.get("CC", "gcc")) and shutil.which(os.environ.get("CXX", "g++"))):
            result.append(Missing("a C and C++ compiler, for tf2_msgs", ("gcc", "g++", "libc6-dev")))
        if not (Path(sysconfig.get_path("include")) / "Python.h").exists():
            result.append(Missing("CPython's headers, for tf2_msgs", (f"python{version}-dev",)))
    if not offscreen_gl():
        result.append(OPENGL)
    return result


def ensure(compiler: bool, install: bool) -> None:
    """Install what is missing if `install`, root and apt-get allow it; raise MissingSystemPackages with the
    command.

    Without `install` missing OpenGL is only reported: a robot that runs the policy alone never renders.
    """
    lacking = missing(compiler)
    if not lacking:
        return
    packages = [package for item in lacking for package in item.packages]
    command = f"apt-get update && apt-get install -y --no-install-recommends {' '.join(packages)}"
    what = "; ".join(item.what for item in lacking)
    remedy = f"this machine lacks {what}. On Debian or Ubuntu: sudo sh -c '{command}'"
    if not install and lacking == [OPENGL]:
        sys.stderr.write(f"{remedy}\n")
        return
    if not (install and os.geteuid() == 0 and shutil.which("apt-get")):
        raise MissingSystemPackages(remedy)
    sys.stderr.write(f"installing what this machine lacks ({what}): {command}\n")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    if subprocess.run(command, shell=True, env=environment, stdin=subprocess.DEVNULL, check=False).returncode:
        raise MissingSystemPackages(f"installing {what} failed; the command was: {command}")
    importlib.invalidate_caches()
    if still := missing(compiler):
        raise MissingSystemPackages(f"still lacking after '{command}': {'; '.join(item.what for item in still)}")
