# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""A StepRecord as JSON text and back: what the policy node publishes on ~/debug/step and live replay records.

Python writes floats so that they read back to the same float64, so nothing is lost on the way.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from sqap_vla.evaluation.step import StepRecord
from sqap_vla.pruning.ring import Ring
from sqap_vla.pruning.selection import TokenSelection
from sqap_vla.runtime.types import StageTimes


def step_to_json(record: StepRecord) -> str:
    ring = record.ring
    return json.dumps(
        {
            "stamp_ns": int(record.stamp_ns),
            "actions": record.actions.tolist(),
            "kept": record.selection.kept.tolist(),
            "reason": record.selection.reason.tolist(),
            "ring": {
                "mask": np.flatnonzero(ring.mask).tolist(),
                "size": len(ring.mask),
                "centers": [list(c) for c in ring.centers],
                "pixel": None if ring.pixel is None else [float(v) for v in ring.pixel],
                "fallback": ring.fallback,
            },
            "image_size": list(record.image_size),
            "instruction": record.instruction,
            "fallback": record.fallback,
            "times": None if record.times is None else asdict(record.times),
        }
    )


def step_from_json(text: str) -> StepRecord:
    """Raises ValueError for text that step_to_json does not write."""
    try:
        data: dict[str, Any] = json.loads(text)
        ring = data["ring"]
        mask = np.zeros(ring["size"], dtype=bool)
        mask[ring["mask"]] = True
        return StepRecord(
            stamp_ns=data["stamp_ns"],
            actions=np.array(data["actions"], np.float64),
            selection=TokenSelection(
                torch.tensor(data["kept"], dtype=torch.int64), torch.tensor(data["reason"], dtype=torch.uint8)
            ),
            ring=Ring(
                mask=mask,
                centers=tuple(tuple(c) for c in ring["centers"]),
                pixel=None if ring["pixel"] is None else tuple(ring["pixel"]),
                fallback=ring["fallback"],
            ),
            image_size=tuple(data["image_size"]),
            instruction=data["instruction"],
            fallback=data["fallback"],
            times=None if data["times"] is None else StageTimes(**data["times"]),
        )
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f"not a step report: {type(error).__name__} {error}") from error
