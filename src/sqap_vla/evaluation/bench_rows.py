# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""What `sqap-vla bench` measures: one row is a network, a method and a way to run them."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sqap_vla.evaluation.bench_models import fast_dtype
from sqap_vla.quantization.costs import Precision
from sqap_vla.runtime.method import METHODS

BASELINES = tuple(name for name in METHODS if name not in ("dense", "sqap"))
EAGER, GRAPH = "eager dense", "graph dense"


@dataclass(frozen=True)
class Row:
    """name: in tables. method: runtime/methods. quantized: W4A4 decoder. dtype: of what is not quantized. captured:
    whether the stages run as CUDA graphs. baseline: EAGER or GRAPH where speed-ups refer to this row.
    """

    name: str
    method: str
    quantized: bool
    dtype: torch.dtype
    captured: bool
    baseline: str = ""

    @property
    def weights(self) -> tuple[bool, torch.dtype]:
        """Rows that have this in common run on one network."""
        return self.quantized, self.dtype

    @property
    def precision(self) -> Precision:
        return Precision(4, 4) if self.quantized else Precision()


def rows_for(device: torch.device) -> list[Row]:
    """Every row on a device. On a CPU there are no graphs: the second baseline is the dtype that it is fastest in,
    where that is not bfloat16, in which the original runs."""
    bf16 = torch.bfloat16
    if device.type == "cuda":
        return [
            Row(EAGER, "dense", False, bf16, captured=False, baseline=EAGER),
            Row(GRAPH, "dense", False, bf16, captured=True, baseline=GRAPH),
            Row("graph SQAP pruning", "sqap", False, bf16, captured=True),
            *(Row(f"graph {name}", name, False, bf16, captured=True) for name in BASELINES),
            Row("W4A4 dense", "dense", True, bf16, captured=True),
            Row("SQAP", "sqap", True, bf16, captured=True),
        ]
    fast = fast_dtype(device)
    rows = [Row("dense bfloat16", "dense", False, bf16, captured=False, baseline=EAGER)]
    if fast != bf16:
        rows.append(Row("dense float32", "dense", False, fast, captured=False, baseline=GRAPH))
    return [
        *rows,
        Row("SQAP pruning", "sqap", False, fast, captured=False),
        *(Row(name, name, False, fast, captured=False) for name in BASELINES),
        Row("W4A4 dense", "dense", True, fast, captured=False),
        Row("SQAP", "sqap", True, fast, captured=False),
    ]
