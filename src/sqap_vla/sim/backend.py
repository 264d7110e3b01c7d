# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Chooses MuJoCo's off-screen OpenGL backend before mujoco is imported, and names what it misses.

The variable MUJOCO_GL, where set, holds (egl | osmesa | glfw); otherwise EGL, which needs neither a display
nor a GPU.
"""

from __future__ import annotations

import os

REMEDY = (
    "install the OpenGL libraries ('apt-get install libegl1 libegl-mesa0 libgl1-mesa-dri' on Debian and "
    "Ubuntu), or set MUJOCO_GL to a backend that is there: osmesa (package libosmesa6) or glfw (a display)"
)


class RenderingError(RuntimeError):
    """The camera image cannot be rendered; the message names the remedy."""


os.environ.setdefault("MUJOCO_GL", "egl")
try:
    import mujoco  # noqa: F401
except (AttributeError, OSError) as error:  # PyOpenGL holds None where the shared library is missing
    raise RenderingError(f"MUJOCO_GL={os.environ['MUJOCO_GL']} cannot be loaded ({error}); {REMEDY}") from error
