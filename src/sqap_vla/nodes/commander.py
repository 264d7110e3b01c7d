# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""What goes out at every tick of the command timer: the controller's command, or a stop and why.

Invariant: motion goes out only while the operator's gate is open and the deadman's switch, if there is one, is held;
the inference thread lives and does not hang; the clock moves and inputs keep coming, by the steady clock too; and the
controller has a chunk that holds now and an end-effector pose that is fresh. Where joints are commanded, too, their
trajectory is made before anything is sent: all of a command goes out, or a stop. Runs on the executor's thread; only
`chunk_arrived` is called from another.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import tf2_ros
from rclpy.lifecycle import LifecycleNode

from sqap_vla.nodes.command_gate import CommandGate
from sqap_vla.nodes.command_output import HALT_TIMEOUT_S, CommandOutput
from sqap_vla.nodes.deadman import Deadman
from sqap_vla.nodes.edge_log import EdgeLog
from sqap_vla.nodes.input_monitor import ClockWatch, SilenceWatch
from sqap_vla.nodes.joint_output import JointOutput
from sqap_vla.nodes.policy_parameters import PolicyParameters
from sqap_vla.nodes.transforms import NewestPose
from sqap_vla.runtime.command import Command, Stop
from sqap_vla.runtime.controller import ChunkController

CLOCK_STOPPED = "clock_stopped"
INPUT_SILENT = "input_silent"
NOT_ACTIVE = "not active"


class Commander:
    """watchdog: says why the inference thread cannot be relied on, None where it can."""

    def __init__(
        self,
        node: LifecycleNode,
        params: PolicyParameters,
        controller: ChunkController,
        gate: CommandGate,
        buffer: tf2_ros.Buffer,
        watchdog: Callable[[], Stop | None],
        joints: JointOutput | None = None,
    ) -> None:
        self._output = CommandOutput(node, params)  # first: where it cannot be made, nothing else is
        self.clock = ClockWatch()
        self._controller, self._gate, self._watchdog, self._joints = controller, gate, watchdog, joints
        self._deadman = Deadman(node, params.deadman_topic, params.deadman_timeout_s)
        self._max_still_s, self._max_silence_s = params.max_chunk_age_s, params.max_silence_s
        self._frames, self._poses = SilenceWatch(self.clock), SilenceWatch(self.clock)
        self._ee_pose = NewestPose(buffer, params.base_frame, params.ee_frame, params.max_ee_age_s)
        self._dry_run = params.dry_run
        self._new_chunk = False
        self._logger, self._log = node.get_logger(), EdgeLog()
        self._stop, self._row = Stop(NOT_ACTIVE), ""
        self._engaged: Counter[str] = Counter()

    def frame_arrived(self) -> None:
        """A camera frame that passed its checks."""
        self._frames.heard()

    def chunk_arrived(self) -> None:
        self._new_chunk = True

    def tick(self, now_ns: int) -> None:
        base_T_ee = self._present_pose(now_ns)
        result = self._decide(now_ns, base_T_ee)
        plan = None
        if isinstance(result, Command) and self._joints is not None:
            plan = self._joints.plan(now_ns, base_T_ee, self._controller.preview, result.scale)
            result = plan if isinstance(plan, Stop) else result
        self._tell(result)
        if isinstance(result, Stop):
            self._controller.rest()
            self._stop, self._row = result, ""
            if self._joints is not None:
                self._joints.stop(now_ns)
            self._output.stop(base_T_ee)
            return
        self._stop, self._row = None, str(result.row)
        self._engaged.update(result.engaged)
        if plan is not None:
            self._engaged.update(f"joints_{name}" for name in plan.engaged)
            self._joints.send(plan)
        self._output.send(result)

    def halt(self, reason: str, now_ns: int) -> None:
        """Forgets the chunk; the stop is the last command that goes out."""
        self._controller.reset()
        self._stop, self._row = Stop(reason), ""
        if self._joints is not None:
            self._joints.halt(now_ns, HALT_TIMEOUT_S)
        self._output.halt(self._present_pose(now_ns))

    def destroy(self) -> None:
        self._deadman.destroy()
        self._output.destroy()

    def figures(self) -> dict[str, str]:
        """For ~/status: what is done now, and how often each limit engaged."""
        values = {
            "command/stop_reason": self._stop.reason if self._stop else "",
            "command/stop_detail": self._stop.detail if self._stop else "",
            "command/row": self._row,
            "command/dry_run": str(self._dry_run).lower(),
        }
        return values | {f"command/limit/{name}": str(count) for name, count in self._engaged.items()}

    def _present_pose(self, now_ns: int) -> np.ndarray | None:
        pose = self._ee_pose.at(now_ns)
        if self._ee_pose.stamp_ns is not None:
            self._poses.stamped(self._ee_pose.stamp_ns)
        return pose if self._poses.silent_s() <= self._max_silence_s else None

    def _decide(self, now_ns: int, base_T_ee: np.ndarray | None) -> Command | Stop:
        held_back = self._gate.closed or self._deadman.open
        if held_back:
            return Stop(held_back)
        if (unreliable := self._watchdog()) is not None:
            return unreliable
        if self._new_chunk:  # in lockstep the clock stands while the policy thinks: what counts is the time since then
            self._new_chunk = False
            self.clock.restart_still()
        if (still_s := self.clock.still_s()) > self._max_still_s:  # ages by the clock no longer grow
            return Stop(CLOCK_STOPPED, f"the ROS clock has stood still for {still_s:.1f} s")
        result = self._controller.command(now_ns, base_T_ee)
        silent_s = self._frames.silent_s()
        if isinstance(result, Command) and silent_s > self._max_silence_s:  # by their stamps all inputs are fresh
            return Stop(INPUT_SILENT, f"no usable image for {silent_s:.1f} s of wall time")
        return result

    def _tell(self, result: Command | Stop) -> None:
        """Edges only: a reason when it begins, motion when it goes on."""
        if isinstance(result, Command):
            if self._stop is not None and self._log.begins("motion"):
                self._logger.info("commands go out" + (" (dry run)" if self._dry_run else ""))
        elif (self._stop is None or self._stop.reason != result.reason) and self._log.begins(result.reason):
            self._logger.warning(f"commands stop: {result.reason}" + (f", {result.detail}" if result.detail else ""))
