# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""From the head's normalised samples to actions in SI units, by the statistics of one training data set.

Normalised actions are in [-1, 1] between the 1st and the 99th percentile of each dimension. The gripper
(column 6) becomes 0 (closed) or 1 (open) at 0.5 and is left as it is where the mask says so. Dimensions: dx
dy dz [m], droll dpitch dyaw [rad], gripper open. Source: CogACT.predict_action (vla/cogactvla.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sqap_vla.cogact.errors import CheckpointError

GRIPPER = 6
GRIPPER_OPEN_THRESHOLD = 0.5


@dataclass(frozen=True)
class ActionStatistics:
    """q01, q99: float64 [7], 1st and 99th percentile. mask: bool [7], true where a dimension is scaled."""

    q01: np.ndarray
    q99: np.ndarray
    mask: np.ndarray

    def __post_init__(self) -> None:
        dims = self.q01.shape
        if len(dims) != 1 or dims[0] <= GRIPPER or self.q99.shape != dims or self.mask.shape != dims:
            raise ValueError(
                f"q01, q99 and mask have shapes {self.q01.shape}, {self.q99.shape}, {self.mask.shape}; "
                f"they must be three lists of one length, at least {GRIPPER + 1}"
            )
        if not (np.isfinite(self.q01).all() and np.isfinite(self.q99).all()):
            raise ValueError("q01 or q99 holds a value that is not finite; percentiles must be numbers")

    @classmethod
    def from_dict(cls, action: Mapping[str, Any]) -> ActionStatistics:
        """From a data set's `action` entry; without a mask every dimension is scaled."""
        q01 = np.asarray(action["q01"], dtype=np.float64)
        mask = np.asarray(action.get("mask", np.ones_like(q01)), dtype=bool)
        return cls(q01, np.asarray(action["q99"], dtype=np.float64), mask)

    def unnormalize(self, normalized: np.ndarray) -> np.ndarray:
        """Samples [..., 7], any range -> actions float64 [..., 7]."""
        actions = clip_actions(normalized)
        # Half of the range first, in the samples' own precision, as the original computes it.
        scaled = 0.5 * (actions + 1) * (self.q99 - self.q01) + self.q01
        return np.where(self.mask, scaled, actions).astype(np.float64)


def clip_actions(normalized: np.ndarray) -> np.ndarray:
    """Samples [..., 7] clipped to [-1, 1], with a gripper of 0 or 1; dtype kept."""
    actions = np.clip(normalized, -1, 1)
    actions[..., GRIPPER] = actions[..., GRIPPER] >= GRIPPER_OPEN_THRESHOLD
    return actions


def statistics_from_dict(datasets: Mapping[str, Any]) -> dict[str, ActionStatistics]:
    """Content of dataset_statistics.json -> statistics by unnorm_key. Raises CheckpointError."""
    if not isinstance(datasets, Mapping) or not datasets:
        raise CheckpointError(
            "dataset_statistics.json names no data set; it must be {unnorm_key: {action: {q01, q99}}}"
        )
    statistics = {}
    for key, entry in datasets.items():
        try:
            statistics[key] = ActionStatistics.from_dict(entry["action"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CheckpointError(
                f"dataset_statistics.json: entry {key!r} is not usable ({error!r}); "
                "it must hold action.q01 and action.q99, one number for each action dimension"
            ) from error
    return statistics


def statistics_for(statistics: Mapping[str, ActionStatistics], unnorm_key: str | None) -> ActionStatistics:
    """The statistics of `unnorm_key`, or of the only data set if it is None. Raises CheckpointError."""
    if unnorm_key is None and len(statistics) == 1:
        return next(iter(statistics.values()))
    if unnorm_key not in statistics:
        raise CheckpointError(
            f"unnorm_key {unnorm_key!r} is not in dataset_statistics.json; it has: {', '.join(sorted(statistics))}"
        )
    return statistics[unnorm_key]
