# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""A training run in a directory.

    data/demonstrations, data/rollouts   collected frames
    state.pt                             everything that a run goes on from
    checkpoint/                          the newest averaged weights in the official layout
    log.jsonl, loss.png                  losses and successes by step
    recipe.json                          what was asked, and the versions it ran with

Demonstrations are collected while training goes on, as soon as there are enough to begin with. In the last part of the
run the policy itself drives, and the expert labels what comes of it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from sqap_vla.cogact.checkpoint import load_checkpoint
from sqap_vla.evaluation.environment import hardware, versions
from sqap_vla.sim import FAMILIES
from sqap_vla.training.collecting import CollectingJob, CollectingProcesses
from sqap_vla.training.collection import CollectionConfig
from sqap_vla.training.dataset import FrameStore, ResidentStore
from sqap_vla.training.export import write_checkpoint
from sqap_vla.training.frames import shard_files
from sqap_vla.training.trainer import Trainer, TrainingConfig

LOG_STEPS, SAVE_STEPS, SAVE_SECONDS = 50, 500, 45.0
COLLECTOR_WAIT_S = 0.5


@dataclass(frozen=True)
class Recipe:
    """families: the tasks. demonstrations: frames of the expert. rollouts: frames of the policy, collected once
    training has come to `rollouts_from` of its steps (a share). first_frames: with which training begins. collectors:
    processes. tasks_per_frame: for how many sentences each frame is labelled. evaluate_steps: between tests on held-out
    seeds, 0 for none; evaluate_episodes: of each family in a test. threads: torch's, 0 for its own choice. device: cpu
    or cuda, where the frames are held too, up to `capacity` of them. minutes: how long training lasts, from its first
    step; the phases' steps are then shares of that time, however many are made. None: as many steps as the phases have.
    start: checkpoint directory whose weights it starts from.

    Raises ValueError for an unknown family, a share outside [0, 1], or fewer demonstrations than training begins with.
    """

    families: tuple[str, ...] = FAMILIES
    demonstrations: int = 60_000
    rollouts: int = 30_000
    rollouts_from: float = 0.5
    rollouts_weight: float = 1.5
    first_frames: int = 1024
    collectors: int = 1
    tasks_per_frame: int = 6
    evaluate_steps: int = 2000
    evaluate_episodes: int = 20
    threads: int = 0
    device: str = "cpu"
    minutes: float | None = None
    capacity: int = 120_000
    start: str | None = None
    training: TrainingConfig = field(default_factory=TrainingConfig)

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.families) - set(FAMILIES)):
            raise ValueError(f"families has {unknown}; it may have {', '.join(FAMILIES)}")
        if not 0.0 <= self.rollouts_from <= 1.0:
            raise ValueError(f"rollouts_from is {self.rollouts_from}; it is a share of the steps, from 0 to 1")
        if self.minutes is not None and not self.minutes > 0:
            raise ValueError(f"minutes is {self.minutes}; training lasts longer than that")
        if self.demonstrations < self.first_frames:
            raise ValueError(
                f"{self.demonstrations} demonstrations are fewer than the {self.first_frames} that training begins with"
            )


def train(recipe: Recipe, out: Path, say: Callable[[str], None]) -> Path:
    """Runs, or goes on with, the training in `out`; returns the checkpoint directory.

    say: takes lines for a person. Raises ValueError where `out` holds a run of another network, RuntimeError where a
    collecting process dies.
    """
    out.mkdir(parents=True, exist_ok=True)
    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    _write_recipe(recipe, out)
    demonstrations, rollouts = out / "data" / "demonstrations", out / "data" / "rollouts"
    with CollectingProcesses() as collecting:
        for job in _jobs(recipe, demonstrations, recipe.demonstrations, None):
            collecting.start(job)
        _wait_for_frames(collecting, demonstrations, recipe.first_frames)
        sources, device = {demonstrations: 1.0, rollouts: recipe.rollouts_weight}, torch.device(recipe.device)
        store = FrameStore(sources) if device.type == "cpu" else ResidentStore(sources, device, recipe.capacity)
        trainer = Trainer(recipe.training, store, device)
        if (out / "state.pt").exists():
            trainer.restore(out / "state.pt")
            say(f"goes on at step {trainer.step}")
        elif recipe.start:
            trainer.start_from(load_checkpoint(recipe.start).model.state_dict())
        rolling = False
        for share in _steps(recipe, trainer, out):
            if recipe.rollouts and not rolling and share >= recipe.rollouts_from:
                rolling = True
                for job in _jobs(recipe, rollouts, recipe.rollouts, out / "checkpoint"):
                    collecting.start(job)
            if recipe.evaluate_steps and trainer.step % recipe.evaluate_steps == 0:
                say(_test(recipe, trainer.step, out))
            if trainer.step % LOG_STEPS == 0:
                collecting.check()
    from sqap_vla.training.plot import plot_losses

    plot_losses(out / "log.jsonl", out / "loss.png")
    return out / "checkpoint"


def _jobs(recipe: Recipe, directory: Path, frames: int, policy: Path | None) -> Iterator[CollectingJob]:
    quiet = {"clean_share": 0.6, "switch_probability": 0.15} if policy else {}
    config = CollectionConfig(families=recipe.families, tasks_per_frame=recipe.tasks_per_frame, **quiet)
    for index in range(recipe.collectors):
        seed = 10 * recipe.training.seed + index + (5 if policy else 0)
        yield CollectingJob(directory, f"from{seed:03d}", seed, frames // recipe.collectors, config, policy)


def _wait_for_frames(collecting: CollectingProcesses, directory: Path, frames: int) -> None:
    """Returns once there are shards enough to begin with, or the collectors are done."""
    from sqap_vla.training.collecting import SHARD

    needed = -(-frames // SHARD)
    with tqdm(total=needed, desc="first demonstrations", unit="shard", disable=None) as bar:
        while (there := len(shard_files(directory))) < needed and collecting.running:
            bar.update(there - bar.n)
            time.sleep(COLLECTOR_WAIT_S)


def _steps(recipe: Recipe, trainer: Trainer, out: Path) -> Iterator[float]:
    """Trains to the end; yields the part that is done after each step. Logs, saves and exports on the way."""
    steps, sums, count = recipe.training.steps, {}, 0
    progress = Progress(steps, trainer.step, recipe.minutes)
    with tqdm(total=steps, initial=progress.position, desc="training", unit="step", disable=None) as bar:
        position = progress.position
        while position < steps:
            for name, loss in trainer.train_step(position).items():
                sums[name] = sums[name] + loss if name in sums else loss
            count += 1
            progress.made_step()
            position = progress.position  # read once: with a time, the end must not come between two looks
            done = position >= steps
            bar.update(position - bar.n)
            if trainer.step % LOG_STEPS == 0 or done:
                means = {name: float(total) / count for name, total in sums.items()}
                bar.set_postfix({name: f"{mean:.3f}" for name, mean in means.items()})
                entry = {"step": trainer.step, "seconds": round(progress.seconds, 1), "frames": len(trainer.store)}
                append_log(out / "log.jsonl", entry | means)
                sums, count = {}, 0
            if progress.due(SAVE_STEPS) or done:
                trainer.save(out / "state.pt")
                facts = {"step": trainer.step, "families": list(recipe.families), "seed": recipe.training.seed}
                average = {name: tensor.cpu() for name, tensor in trainer.average.items()}
                write_checkpoint(out / "checkpoint", trainer.network, average, trainer.step, facts, torch.float32)
            yield position / steps


class Progress:
    """How far a run is, in steps of its phases: counted, or where it has a time, that much of it as has passed."""

    def __init__(self, steps: int, made: int, minutes: float | None) -> None:
        self._steps, self._made, self._minutes = steps, made, minutes
        self._started_s = time.monotonic()
        self._saved = made if minutes is None else 0.0

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started_s

    @property
    def position(self) -> int:
        if self._minutes is None:
            return self._made
        return min(int(self._steps * self.seconds / (60.0 * self._minutes)), self._steps)

    @property
    def done(self) -> bool:
        return self.position >= self._steps

    def made_step(self) -> None:
        self._made += 1

    def due(self, every_steps: int) -> bool:
        """Whether it is time to save: after so many steps, or SAVE_SECONDS."""
        now, every = (self._made, every_steps) if self._minutes is None else (self.seconds, SAVE_SECONDS)
        if now - self._saved < every:
            return False
        self._saved = now
        return True


def append_log(file: Path, entry: dict[str, Any]) -> None:
    with open(file, "a", encoding="utf-8") as log:
        log.write(json.dumps(entry) + "\n")


def _test(recipe: Recipe, step: int, out: Path) -> str:
    """Success of the newest weights on held-out seeds, into the log and as a line."""
    from sqap_vla.evaluation.evaluate import EpisodeRunner, Evaluation

    rates = {}
    for family in recipe.families:
        question = Evaluation(str(out / "checkpoint"), family, method="dense", episodes=recipe.evaluate_episodes)
        runner = EpisodeRunner(question)
        try:
            rates[family] = sum(runner.run(seed).success for seed in question.seeds) / question.episodes
        finally:
            runner.close()
    append_log(out / "log.jsonl", {"step": step, "success": rates})
    return f"step {step}: " + ", ".join(f"{family} {100 * rate:.0f} %" for family, rate in rates.items())


def _write_recipe(recipe: Recipe, out: Path) -> None:
    content = asdict(recipe) | {"hardware": hardware(), "versions": versions()}
    (out / "recipe.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
