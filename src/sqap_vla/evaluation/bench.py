# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Measures every row of the bench in one process on the same frames, and checks what comes out.

Rows take turns, frame by frame, so that what disturbs the machine disturbs all of them alike. Where the networks do
not fit into memory together, rows run network by network, weights freed between, and the result says so. What is timed
is `Engine.infer`: resized picture, upload, network, download, un-normalised actions. The first inference of a row
(kernels compiled, graphs captured, memory allocated) is its cold start and stands apart.
"""

from __future__ import annotations

import gc
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import psutil
import torch

from sqap_vla.cogact.config import CogActConfig
from sqap_vla.cogact.layout import build_on_meta
from sqap_vla.cogact.model import CogAct
from sqap_vla.cogact.normalization import ActionStatistics
from sqap_vla.cogact.prompt import Tokenizer
from sqap_vla.evaluation.bench_models import weight_bytes
from sqap_vla.evaluation.bench_rows import EAGER, GRAPH, Row
from sqap_vla.evaluation.statistics import GRIPPER
from sqap_vla.pruning.projection import CameraModel
from sqap_vla.quantization.backends.reference import ReferenceBackend
from sqap_vla.quantization.backends.registry import select_backend
from sqap_vla.quantization.costs import cost, dense_workload
from sqap_vla.quantization.packing import IntegerWeight
from sqap_vla.runtime.captured import CapturedStep
from sqap_vla.runtime.engine import Engine
from sqap_vla.runtime.method import make_method
from sqap_vla.runtime.types import ActionChunk, Observation
from sqap_vla.runtime.workload import workload

INSTRUCTION = "pick up the red cube next to the blue bowl"
STAGES = ("preprocess", "vision", "llm", "head")
WIDTH, HEIGHT = 640, 480
STEP_NS = 200_000_000
SELECTIONS_AT_ONCE = 20
_ROOM = 0.8  # of the free memory, for networks that are resident together
# Largest difference of normalised actions between graph and eager in bfloat16, whose step at 1 is 0.0078: products of
# other shapes (padding) are rounded in another order.
GRAPH_TOLERANCE = 0.05


@dataclass
class Measured:
    """One row. Times in ms, one for each round, in the order of the rounds; empty where `skipped` says why."""

    row: Row
    skipped: str = ""
    cold_start_ms: float = 0.0
    select_ms: float | None = None
    weights_bytes: int = 0
    peak_bytes: int | None = None  # None on the CPU
    bops_coarse: float = 0.0
    kept: int = 0
    times_ms: dict[str, list[float]] = field(default_factory=dict)
    batches_ms: dict[int, float] = field(default_factory=dict)

    def percentile(self, column: str, percent: float) -> float | None:
        values = self.times_ms.get(column)
        return float(np.percentile(values, percent)) if values else None


@dataclass(frozen=True)
class Check:
    """Something that must hold of the outputs."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True)
class Plan:
    """rounds: timed inferences of each row. warm_up: inferences before, which do not count. batches: sizes for
    `predict_batch`. Raises ValueError for numbers below their range."""

    rounds: int = 20
    warm_up: int = 3
    batches: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.rounds < 1 or self.warm_up < 1 or any(batch < 1 for batch in self.batches):
            raise ValueError(
                f"rounds {self.rounds}, warm-up {self.warm_up}, batches {self.batches}; each must be at least 1"
            )


@dataclass
class Bench:
    """make: network of a row's weights, on the device; the quantized one of the float one of its dtype, where that is
    there already. progress: wraps what takes long, as tqdm does."""

    config: CogActConfig
    device: torch.device
    tokenizer: Tokenizer
    statistics: ActionStatistics
    make: Callable[[bool, torch.dtype, CogAct | None], CogAct]
    plan: Plan
    progress: Callable[[Iterable, str], Iterable]
    checks: list[Check] = field(default_factory=list)
    interleaved: bool = True

    def run(self, rows: Sequence[Row]) -> list[Measured]:
        self.checks.append(check_integers(self.config, self.device))
        measured = {row.name: Measured(row) for row in rows}
        for row in rows:
            self._describe(measured[row.name])
        groups = self._groups([row for row in rows if not measured[row.name].skipped])
        self.interleaved = len(groups) <= 1
        outputs: dict[str, np.ndarray] = {}
        for group in groups:
            for name, actions in self._measure(group, measured):
                outputs[name] = actions
            _free()
        if EAGER in outputs and GRAPH in outputs:
            worst = float(np.abs(outputs[EAGER] - outputs[GRAPH]).max())
            self.checks.append(
                Check("graph equals eager", worst <= GRAPH_TOLERANCE, f"largest difference of actions {worst:.4f}")
            )
        return list(measured.values())

    def _describe(self, result: Measured) -> None:
        """What follows from sizes alone, and whether the row can run."""
        row, config = result.row, self.config
        method = make_method(row.method)
        text = len(self.tokenizer.encode(INSTRUCTION))
        try:
            work = workload(method, config, text)
        except ValueError as error:
            result.skipped = str(error)
            return
        tokens = config.dino.num_patches + text
        dense = cost(config, dense_workload(config, tokens))
        result.bops_coarse = cost(config, work, row.precision).relative_to(dense)[1]
        result.kept = method.budget() if method.selector is not None else config.dino.num_patches

    def _groups(self, rows: Sequence[Row]) -> list[list[Row]]:
        """Rows whose networks are in memory at the same time."""
        networks = {row.weights for row in rows}
        parameters = sum(_layer_sizes(self.config))
        needed = sum(parameters * (0.6 if quantized else dtype.itemsize) for quantized, dtype in networks)
        if needed <= _ROOM * _free_bytes(self.device):
            return [list(rows)] if rows else []
        by_weights = sorted(rows, key=lambda row: list(networks).index(row.weights))
        return [list(group) for _, group in itertools.groupby(by_weights, key=lambda row: row.weights)]

    def _measure(self, rows: list[Row], measured: dict[str, Measured]) -> Iterator[tuple[str, np.ndarray]]:
        """Times rows against each other. Yields the normalised motions of each, for checks between rows."""
        models: dict[tuple[bool, torch.dtype], CogAct] = {}
        networks = sorted({row.weights: None for row in rows}, key=lambda weights: weights[0])  # float ones first
        for quantized, dtype in self.progress(networks, "networks"):
            models[quantized, dtype] = self.make(quantized, dtype, models.get((False, dtype)))
        engines = {}
        for row in rows:
            result, model = measured[row.name], models[row.weights]
            before = _allocated(self.device)
            try:
                engines[row.name] = self._engine(row, model)
            except ValueError as error:  # such as a reduction that this network is too small for
                result.skipped = str(error)
                continue
            result.weights_bytes = weight_bytes(engines[row.name].model)
            own = result.weights_bytes - weight_bytes(engines[row.name].model, shared_with=model)  # counted already
            self._start(engines[row.name], result, before + own)
        running = [row for row in rows if row.name in engines]
        for number in self.progress(range(self.plan.rounds), "rounds"):
            for row in running[number % len(running) :] + running[: number % len(running)]:
                chunk = engines[row.name].infer(frame(number))
                _add(measured[row.name], chunk)
        for row in running:
            engine, result = engines[row.name], measured[row.name]
            yield row.name, self._check(row, engine)
            result.select_ms = self._time_selection(engine)
            if row.baseline == GRAPH or row.name == "SQAP":
                result.batches_ms = {batch: self._time_batch(engine, batch) for batch in self.plan.batches}

    def _engine(self, row: Row, model: CogAct) -> Engine:
        return Engine(
            model, self.tokenizer, self.statistics, make_method(row.method), step_s=0.2, captured=row.captured
        )

    def _start(self, engine: Engine, result: Measured, before: int) -> None:
        """Cold start, warm-up, memory: what stays allocated, and what an inference needs on top."""
        cuda = self.device.type == "cuda"
        started = time.perf_counter()
        engine.infer(frame(0))
        result.cold_start_ms = 1e3 * (time.perf_counter() - started)
        for number in range(self.plan.warm_up):
            engine.infer(frame(1 + number))
        if cuda:
            torch.cuda.synchronize()
            stays = torch.cuda.memory_allocated(self.device) - before
            torch.cuda.reset_peak_memory_stats(self.device)
            base = torch.cuda.memory_allocated(self.device)
            engine.infer(frame(0))
            result.peak_bytes = result.weights_bytes + stays + torch.cuda.max_memory_allocated(self.device) - base
        engine.reset()

    def _check(self, row: Row, engine: Engine) -> np.ndarray:
        """A frame gives the same chunk whatever came before, another frame another; as many tokens stay as asked."""
        engine.reset()
        first = engine.infer(frame(0))
        engine.reset()
        other = engine.infer(frame(7, picture=1))
        engine.reset()
        again = engine.infer(frame(0))
        fresh = np.array_equal(first.actions, again.actions) and not np.array_equal(first.actions, other.actions)
        detail = "the same frame gives the same chunk, another frame another one"
        self.checks.append(Check(f"{row.name}: no stale values", fresh, detail))
        method = engine.method
        kept = method.budget() if method.prunes(first.ring) else self.config.dino.num_patches
        tokens = first.selection.kept
        in_order = bool((tokens[1:] > tokens[:-1]).all())
        self.checks.append(Check(f"{row.name}: {kept} tokens kept", in_order and len(tokens) == kept, "each once"))
        return first.actions[:, :GRIPPER]

    def _time_selection(self, engine: Engine) -> float | None:
        """One token selection on the device, in ms; None for methods that drop none. On CUDA, of a graph of several."""
        method = engine.method
        if method.selector is None:
            return None
        n = self.config.dino.num_patches
        generator = torch.Generator().manual_seed(0)
        scores = torch.rand(n, generator=generator).to(self.device)
        features = torch.randn(n, self.config.decoder.hidden_size, generator=generator).to(self.device)
        ring = torch.zeros(n, dtype=torch.bool, device=self.device)
        ring[100:105] = True

        def select() -> None:
            for _ in range(SELECTIONS_AT_ONCE):
                method.selector.select(scores, ring, method.budget(), 0, features)

        cuda = self.device.type == "cuda" and not method.selector.on_host
        step = CapturedStep(select, self.device if cuda else None)
        best = float("inf")
        with torch.inference_mode():
            step()
            for _ in range(5):
                _synchronize(self.device)
                started = time.perf_counter()
                step()
                _synchronize(self.device)
                best = min(best, 1e3 * (time.perf_counter() - started) / SELECTIONS_AT_ONCE)
        return best

    def _time_batch(self, engine: Engine, batch: int) -> float:
        """Median time of one predict_batch call, ms."""
        frames = [frame(number) for number in range(batch)]
        for _ in range(self.plan.warm_up):
            engine.predict_batch(frames)
        times = []
        for _ in range(max(3, self.plan.rounds // 4)):
            started = time.perf_counter()
            engine.predict_batch(frames)
            times.append(1e3 * (time.perf_counter() - started))
        return float(np.median(times))


def frame(number: int, picture: int = 0) -> Observation:
    """The same noise picture at successive stamps, with a gripper in view, so that every method has what it needs."""
    pose = np.eye(4)
    pose[2, 3] = 1.0
    camera = CameraModel(np.array([[600.0, 0, 320], [0, 600, 240], [0, 0, 1]]), "", (), WIDTH, HEIGHT)
    rgb = np.random.default_rng(picture).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    return Observation(rgb, (number + 1) * STEP_NS, INSTRUCTION, camera, pose, np.eye(4))


def _add(result: Measured, chunk: ActionChunk) -> None:
    for stage in (*STAGES, "total"):
        result.times_ms.setdefault(stage, []).append(getattr(chunk.times, f"{stage}_ms"))


def check_integers(config: CogActConfig, device: torch.device) -> Check:
    """Integer sums of the backend that is used, at the decoder's full width, against the definition."""
    backend, inputs = select_backend(device), config.decoder.intermediate_size
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(-7, 8, (19, inputs), generator=generator, dtype=torch.int8)
    weight = IntegerWeight.from_values(torch.randint(-7, 8, (96, inputs), generator=generator, dtype=torch.int8), 4)
    sums = backend.accumulate(x.to(device), IntegerWeight(weight.data.to(device), 4), 4).cpu()
    wrong = int((sums != ReferenceBackend().accumulate(x, weight)).sum())
    return Check(f"integer sums of {backend.name}", wrong == 0, f"{wrong} of {sums.numel()} differ from the reference")


def _layer_sizes(config: CogActConfig) -> list[int]:
    return [parameter.numel() for parameter in build_on_meta(config).parameters()]


def _free_bytes(device: torch.device) -> float:
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available


def _allocated(device: torch.device) -> int:
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else 0


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _free() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
