# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""From action chunks, which arrive now and then, to a command at any time.

A chunk is a trajectory in time: row r covers [stamp + r step_s, stamp + (r+1) step_s) after the stamp of the
image it was inferred from, so rows that the inference took are skipped, not executed late. It is anchored
once, on the pose of the end-effector at that stamp; the target of row r is the anchor after the deltas of
rows 0 .. r. Times are ROS time in integer nanoseconds, and nothing here reads a clock.

Invariant: a command is made only of a finite chunk, within its sixteen rows and `max_age_s`, with a valid
pose of the end-effector, and within the limits. Everything else is a Stop that says why; after it, motion
starts from rest.

The gripper's semantics advance once for every step that is executed, however often a command is asked for
within it.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass

import numpy as np

from sqap_vla.runtime.actions import apply_delta, is_rigid_transform, pose_between, twist_from_delta
from sqap_vla.runtime.command import Command, Stop
from sqap_vla.runtime.ensemble import AdaptiveEnsemble
from sqap_vla.runtime.gripper import Gripper
from sqap_vla.runtime.limits import Limits, RefusedCommand
from sqap_vla.runtime.motion import MotionLimiter
from sqap_vla.runtime.types import CHUNK_STEPS, ActionChunk

# why there is no command
NO_CHUNK = "no_chunk"
CHUNK_EXHAUSTED = "chunk_exhausted"
CHUNK_TOO_OLD = "chunk_too_old"
CHUNK_FROM_FUTURE = "chunk_from_future"
CLOCK_JUMPED_BACK = "clock_jumped_back"
NO_END_EFFECTOR_POSE = "no_end_effector_pose"
INVALID_END_EFFECTOR_POSE = "invalid_end_effector_pose"
COMMAND_REFUSED = "command_refused"
# why a chunk was not taken
CHUNK_NOT_FINITE = "chunk_not_finite"
CHUNK_WITHOUT_ANCHOR = "chunk_without_anchor"
CHUNK_NOT_NEWER = "chunk_not_newer"
CHUNK_STEP_MISMATCH = "chunk_step_mismatch"
CHUNK_OUTDATED = "chunk_outdated"


@dataclass(frozen=True, eq=False)
class _Plan:
    """A chunk made ready: ensembled, anchored."""

    stamp_ns: int
    step: int  # absolute index of row 0
    anchor: np.ndarray  # [4, 4]
    actions: np.ndarray  # [16, 7]
    targets: np.ndarray  # [16, 4, 4]


class ChunkController:
    """Plays the newest chunk. `set_chunk` and `command` may be called from different threads.

    step_s: time of one row. max_age_s: how long after its stamp a chunk may be executed. horizon, alpha: of
    the ensemble. period_s: between two commands. fade_in_s: see motion.py.
    Raises ValueError for times that are not positive and finite, or a bad horizon.
    """

    def __init__(
        self,
        step_s: float,
        limits: Limits,
        gripper: Gripper,
        max_age_s: float,
        horizon: int = 1,
        alpha: float = 0.1,
        *,
        period_s: float = 0.05,
        fade_in_s: float = 0.0,
    ) -> None:
        for name, value in (("step_s", step_s), ("max_age_s", max_age_s)):
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} is {value} s; it must be positive and finite")
        self.step_s = step_s
        self.max_age_s = max_age_s
        self._motion = MotionLimiter(limits, period_s, fade_in_s)
        self._step_ns = round(step_s * 1e9)
        self._gripper = gripper
        self._ensemble = AdaptiveEnsemble(horizon, alpha)
        self._lock = threading.Lock()
        self._epoch = 0
        self._forget()

    def reset(self) -> None:
        """Forget chunks, ensemble and gripper state: a new episode, another instruction, an activation."""
        with self._lock:
            self._forget()

    def rest(self) -> None:
        """The robot was told to stop for a reason from outside: the next command starts from rest."""
        with self._lock:
            self._motion.rest()

    @property
    def limits(self) -> Limits:
        return self._motion.limits

    @limits.setter
    def limits(self, limits: Limits) -> None:
        self._motion.limits = limits

    @property
    def epoch(self) -> int:
        """Changes whenever the past is forgotten. Taken before an inference and handed to `set_chunk`, it keeps out a
        chunk of what was before."""
        return self._epoch

    def _forget(self) -> None:
        self._epoch += 1
        self._plan: _Plan | None = None
        self._first_stamp_ns: int | None = None
        self._last_now_ns: int | None = None
        self._gripper_step: int | None = None  # last absolute step that the gripper was advanced for
        self._gripper_open: float | None = None
        self._ensemble.reset()
        self._gripper.reset()
        self._motion.rest()

    def set_chunk(self, chunk: ActionChunk, epoch: int | None = None) -> str | None:
        """Take a chunk, or refuse it whole and say why; after a refusal the chunk before it stays in force.

        Refused: actions that are not finite, no valid base_T_ee to anchor on, a stamp not after the present
        chunk's, rows of another length, an epoch that is over. A refused chunk does not enter the ensemble.
        """
        if not np.isfinite(chunk.actions).all():
            return CHUNK_NOT_FINITE
        if chunk.base_T_ee is None or not is_rigid_transform(chunk.base_T_ee):
            return CHUNK_WITHOUT_ANCHOR
        if not math.isclose(chunk.step_s, self.step_s, rel_tol=1e-6):
            return CHUNK_STEP_MISMATCH
        with self._lock:
            if epoch is not None and epoch != self._epoch:
                return CHUNK_OUTDATED
            if self._plan is not None and chunk.stamp_ns <= self._plan.stamp_ns:
                return CHUNK_NOT_NEWER
            if self._first_stamp_ns is None:
                self._first_stamp_ns = chunk.stamp_ns
            step = round((chunk.stamp_ns - self._first_stamp_ns) / self._step_ns)
            actions = self._ensemble.update(chunk.actions, step)
            self._plan = _Plan(chunk.stamp_ns, step, chunk.base_T_ee, actions, _targets(chunk.base_T_ee, actions))
        return None

    def command(self, now_ns: int, base_T_ee: np.ndarray | None) -> Command | Stop:
        """The command for `now_ns`, given the pose of the end-effector now, or None if it is not known.

        Where time ran backwards by more than a row, or the chunk is stamped more than a row ahead, everything
        is forgotten: later chunks would seem older than the one at hand.
        """
        with self._lock:
            result = self._command(now_ns, base_T_ee)
            if isinstance(result, Stop):
                self._motion.rest()
            return result

    def preview(self, at_ns: int) -> tuple[np.ndarray, np.ndarray] | None:
        """What the chunk at hand wants at a time to come, before limits: the twist [6], and the pose [4, 4] where it
        wants the end-effector by then. None where it does not reach so far.
        """
        with self._lock:
            plan = self._plan
        if plan is None:
            return None
        age_ns = max(at_ns - plan.stamp_ns, 0)
        row, rest_ns = divmod(age_ns, self._step_ns)
        if row >= CHUNK_STEPS or age_ns > self.max_age_s * 1e9:
            return None
        start = plan.targets[row - 1] if row else plan.anchor
        pose = pose_between(start, plan.targets[row], rest_ns / self._step_ns)
        return twist_from_delta(plan.actions[row][:6], self.step_s), pose

    def _command(self, now_ns: int, base_T_ee: np.ndarray | None) -> Command | Stop:
        row = self._row_at(now_ns)
        if isinstance(row, Stop):
            return row
        if base_T_ee is None:
            return Stop(NO_END_EFFECTOR_POSE)
        if not is_rigid_transform(base_T_ee):
            return Stop(INVALID_END_EFFECTOR_POSE, f"base_T_ee is {base_T_ee.tolist()}")
        action = self._plan.actions[row]
        twist = twist_from_delta(action[:6], self.step_s)
        try:
            limited = self._motion.apply(twist, self._plan.targets[row], base_T_ee, self.step_s)
        except RefusedCommand as refused:
            return Stop(COMMAND_REFUSED, str(refused))
        gripper_open = self._advance_gripper(self._plan.step + row, action)
        return Command(
            linear_m_s=limited.twist[:3],
            angular_rad_s=limited.twist[3:],
            base_T_target=limited.base_T_target,
            gripper_open=gripper_open,
            row=row,
            action=action.copy(),
            engaged=limited.engaged,
            scale=limited.scale,
        )

    def _row_at(self, now_ns: int) -> int | Stop:
        last_now_ns, self._last_now_ns = self._last_now_ns, now_ns
        if last_now_ns is not None and now_ns < last_now_ns - self._step_ns:
            self._forget()
            return Stop(CLOCK_JUMPED_BACK, f"from {last_now_ns} ns to {now_ns} ns")
        if self._plan is None:
            return Stop(NO_CHUNK)
        age_ns = now_ns - self._plan.stamp_ns
        age_s = age_ns / 1e9
        if age_ns < -self._step_ns:
            self._forget()
            return Stop(CHUNK_FROM_FUTURE, f"stamped {-age_s:.3f} s ahead of the clock")
        if age_s > self.max_age_s:
            return Stop(CHUNK_TOO_OLD, f"{age_s:.3f} s old, allowed are {self.max_age_s:g} s")
        row = max(age_ns // self._step_ns, 0)  # a stamp ahead by less than a row is clock skew
        if row >= CHUNK_STEPS:
            return Stop(CHUNK_EXHAUSTED, f"{age_s:.3f} s old, {CHUNK_STEPS} rows of {self.step_s:.3f} s")
        return row

    def _advance_gripper(self, step: int, action: np.ndarray) -> float | None:
        if self._gripper_step is None or step > self._gripper_step:
            self._gripper_step = step
            self._gripper_open = self._gripper.update(float(action[6]))
        return self._gripper_open


def _targets(anchor: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """[16, 4, 4]: the anchor after rows 0 .. r."""
    targets = np.empty((len(actions), 4, 4))
    pose = anchor
    for row, action in enumerate(actions):
        pose = targets[row] = apply_delta(pose, action[:6])
    return targets
