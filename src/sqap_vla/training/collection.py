# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Demonstrations: episodes of the expert, disturbed, with the expert's chunk for the states that come of it.

The policy sees one picture and no past, so the frames must cover the states it may get into: episodes start anywhere,
the arm is pushed off the way, the gripper opens and closes at the wrong time, the instruction changes in between. The
labels are never of the disturbance: the expert has no memory and says what to do from the state at hand. It says so
for several tasks of each frame, which is cheap, and makes the instruction the only way to tell their chunks apart.

A `Driver` may drive instead of the expert; labelled by the expert all the same, that is DAgger (Ross et al., 2011).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from sqap_vla.sim import INSTRUCTIONS, TabletopEnv, parse_instruction, tasks_of
from sqap_vla.sim.experts import Pace, expert_action
from sqap_vla.sim.scenarios import TRAINING
from sqap_vla.training.frames import ShardWriter, picture_of, state_of
from sqap_vla.training.preview import expert_chunk

FIRST_TRAINING_SEED = 1_000_000  # episodes of evaluation have lower seeds


class Driver(Protocol):
    """Chooses actions in place of the expert."""

    def reset(self) -> None:
        """A new episode, or another instruction."""

    def action(self, env: TabletopEnv) -> np.ndarray:
        """The next action [7]."""


@dataclass(frozen=True)
class CollectionConfig:
    """families: of the tasks. tasks_per_frame: for how many the expert is asked. clean_share: of episodes without any
    disturbance. disturb_probability: in each step of the others, that the arm is pushed for one to four steps.
    wander_share: of episodes that start with random steps. switch_probability: that the instruction changes in between.
    sigma_m, sigma_rad: of the small noise on every action of a disturbed episode.
    """

    families: tuple[str, ...] = ("pick",)
    tasks_per_frame: int = 4
    clean_share: float = 0.25
    disturb_probability: float = 0.10
    wander_share: float = 0.4
    switch_probability: float = 0.3
    sigma_m: float = 0.004
    sigma_rad: float = 0.03
    lit_steps: int = 2  # steps that an episode goes on after its success


class Collector:
    """Runs episodes of one environment and hands their frames to a writer."""

    def __init__(
        self,
        env: TabletopEnv,
        config: CollectionConfig,
        seed: int,
        driver: Driver | None = None,
        first_episode: int = 0,
    ) -> None:
        """seed: of everything, with `first_episode`, which a second collector of the same seed starts at."""
        self._env, self._config, self.driver = env, config, driver
        self._rng = np.random.default_rng([seed, first_episode, 2])
        self._seed = FIRST_TRAINING_SEED * (1 + seed) + first_episode
        self._pace = Pace()

    def episode(self, writer: ShardWriter) -> tuple[bool, int]:
        """One episode. Returns whether its last task was done, and the number of frames."""
        env, config, rng = self._env, self._config, self._rng
        family = config.families[rng.integers(len(config.families))]
        env.reset(seed=self._seed, options={"family": family, "scenario": TRAINING})
        self._seed += 1
        if self.driver is not None:
            self.driver.reset()
        disturbed = rng.random() > config.clean_share
        if disturbed and rng.random() < config.wander_share:
            self._wander()
        switch_at = rng.integers(4, 24) if rng.random() < config.switch_probability else -1
        after, frames, limit = 0, 0, env.max_steps
        success, pushed = False, 0
        for step in range(limit):
            if step == switch_at:
                self._switch()
            self._record(writer)
            frames += 1
            if disturbed and pushed == 0 and rng.random() < config.disturb_probability:
                pushed, push = int(rng.integers(1, 5)), self._push()
            if pushed:
                pushed, action = pushed - 1, push
            else:
                action = self._action(disturbed)
            *_, success, _, _ = env.step(action)
            after = after + 1 if success else 0
            if after > config.lit_steps:
                break
        return bool(success), frames

    def _action(self, disturbed: bool) -> np.ndarray:
        if self.driver is not None:
            return self.driver.action(self._env)
        action = expert_action(self._env.scene, self._env.task, self._pace).astype(np.float64)
        if disturbed:
            action[:3] += self._rng.normal(0.0, self._config.sigma_m, 3)
            action[5] += self._rng.normal(0.0, self._config.sigma_rad)
        return action

    def _push(self) -> np.ndarray:
        """A random motion, mostly sideways and in yaw, with the gripper as it is or at random."""
        rng = self._rng
        turn = rng.normal(0.0, [0.02, 0.02, 0.15])
        grip = rng.random() if rng.random() < 0.3 else round(self._env.scene.gripper_open())
        return np.concatenate([rng.normal(0.0, [0.02, 0.02, 0.015]), turn, [grip]])

    def _wander(self) -> None:
        for _ in range(self._rng.integers(1, 4)):
            push = self._push() * np.array([2.0, 2.0, 1.5, 1.0, 1.0, 2.0, 1.0])
            for _ in range(self._rng.integers(1, 4)):
                self._env.step(push)

    def _switch(self) -> None:
        tasks = [task for family in self._config.families for task in tasks_of(family)]
        self._env.set_instruction(tasks[self._rng.integers(len(tasks))].instruction)
        if self.driver is not None:
            self.driver.reset()

    def _record(self, writer: ShardWriter) -> None:
        env, config = self._env, self._config
        chosen = self._choose_tasks(config.tasks_per_frame)
        chunks = [
            expert_chunk(env.scene, parse_instruction(INSTRUCTIONS[index]), env.config.control, self._pace)
            for index in chosen
        ]
        missing = config.tasks_per_frame - len(chosen)
        row = state_of(env) | {
            "images": picture_of(env),
            "tasks": np.array([*chosen, *[-1] * missing]),
            "chunks": np.stack([*chunks, *[np.zeros_like(chunks[0])] * missing]),
        }
        writer.add(row)

    def _choose_tasks(self, count: int) -> Sequence[int]:
        """The episode's task and others: families by turns, so that a family of many sentences has no more say."""
        own = INSTRUCTIONS.index(self._env.task.instruction)
        queues = [
            self._rng.permutation(
                [i for i, text in enumerate(INSTRUCTIONS) if parse_instruction(text) in tasks_of(family)]
            )
            for family in self._rng.permutation(self._config.families)
        ]
        others = [int(queue[turn]) for turn in range(max(map(len, queues))) for queue in queues if turn < len(queue)]
        return [own, *(index for index in others if index != own)][:count]
