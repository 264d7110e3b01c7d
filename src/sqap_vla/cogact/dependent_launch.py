# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Whether one kernel may start while the one before it ends (CUDA's programmatic dependent launch).

A frame is hundreds of kernels of some microseconds each, and between two of them a GPU idles for about one. A kernel
that is launched with `launch_pdl=True` starts as soon as every program of the one before has said
`gdc_launch_dependents` (or ended): it loads what is constant, then `gdc_wait`s until all earlier kernels' results are
there.

Every kernel so launched must wait, in every program, before it reads what an earlier kernel writes and before it writes
anything; only then does its end say that all before it have ended.
"""

from __future__ import annotations

import functools
import os

import torch


@functools.lru_cache(maxsize=16)
def launches_early(device: torch.device) -> bool:
    """True on Hopper and later; Triton's interpreter knows nothing of it."""
    if device.type != "cuda" or torch.version.hip is not None or os.environ.get("TRITON_INTERPRET") == "1":
        return False
    return torch.cuda.get_device_capability(device) >= (9, 0)


def launch_options(device: torch.device) -> dict[str, bool]:
    """For a kernel with the constant EARLY, which says that it may wait."""
    return {"EARLY": True, "launch_pdl": True} if launches_early(device) else {"EARLY": False}
