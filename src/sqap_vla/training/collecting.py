# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Processes that collect frames while training goes on: demonstrations, and later the policy's own episodes."""

from __future__ import annotations

import logging
import multiprocessing
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqap_vla.cogact.checkpoint import find_weights
from sqap_vla.cogact.errors import CheckpointError
from sqap_vla.sim import EnvironmentConfig, TabletopEnv
from sqap_vla.training.collection import CollectionConfig, Collector
from sqap_vla.training.frames import ShardWriter, shard_files

logger = logging.getLogger(__name__)
SHARD = 256


@dataclass(frozen=True)
class CollectingJob:
    """What one process collects. prefix: of its shards' names, its own in the directory. frames: after which it ends,
    those that are there already counted. policy: checkpoint directory of the policy that drives, or None for the
    expert; whenever the directory has newer weights they are taken."""

    directory: Path
    prefix: str
    seed: int
    frames: int
    config: CollectionConfig
    policy: Path | None = None


def collect(job: CollectingJob, stop: Any) -> None:
    """Collects until there are enough frames or the event `stop` is set."""
    import torch

    torch.set_num_threads(1)
    env = TabletopEnv(EnvironmentConfig(observe_rgb=False))
    writer = ShardWriter(job.directory, job.prefix, SHARD)
    there = SHARD * sum(file.name.startswith(job.prefix) for file in shard_files(job.directory))
    # Started anew, it must not repeat its first episodes.
    collector = Collector(env, job.config, job.seed, first_episode=there)
    weights: Path | None = None
    try:
        while there < job.frames and not stop.is_set():
            if job.policy is not None and (newest := _newest(job.policy)) != weights:
                collector.driver, weights = _driver(job.policy), newest
            there += collector.episode(writer)[1]
    finally:
        writer.flush()
        env.close()


def _newest(directory: Path) -> Path | None:
    try:
        return find_weights(directory)
    except CheckpointError:
        return None


def _driver(directory: Path):
    from sqap_vla.evaluation.closed_loop import PolicyDriver, RobotSettings
    from sqap_vla.evaluation.tabletop_world import TabletopPolicy
    from sqap_vla.runtime.method import make_method

    settings = RobotSettings()
    return TabletopPolicy(PolicyDriver(settings.open_engine(directory, make_method("dense")), settings))


class CollectingProcesses:
    """Starts jobs, each in a process; leaving the context ends them."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("spawn")  # OpenGL and torch do not survive a fork
        self._stop = self._context.Event()
        self._processes: list[multiprocessing.Process] = []

    def start(self, job: CollectingJob) -> None:
        process = self._context.Process(target=_collect_quietly, args=(job, self._stop), daemon=True)
        process.start()
        self._processes.append(process)

    @property
    def running(self) -> bool:
        """Whether any of them still collects. Raises as `check`."""
        self.check()
        return any(process.exitcode is None for process in self._processes)

    def check(self) -> None:
        """Raises RuntimeError where a process died."""
        for process in self._processes:
            if process.exitcode not in (None, 0):
                raise RuntimeError(f"a collecting process ended with status {process.exitcode}; see its error above")

    def __enter__(self) -> CollectingProcesses:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for process in self._processes:
            process.join(timeout=60.0)
            if process.exitcode is None:
                process.terminate()


def _collect_quietly(job: CollectingJob, stop: Any) -> None:
    os.environ.setdefault("LP_NUM_THREADS", "1")  # of Mesa's software renderer: processes share the work already
    try:
        collect(job, stop)
    except KeyboardInterrupt:
        logger.info("%s interrupted", job.prefix)
