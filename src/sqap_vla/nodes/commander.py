# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""What goes out at every tick of the command timer: the controller's command, or a stop and why.

Invariant: motion goes out only while the operator's gate is open, the clock moves, and the controller has a chunk that
holds now and an end-effector pose that is fresh. Runs on the executor's thread; only `chunk_arrived` is called from
another.
"""

from __future__ import annotations

from collections import Counter

import tf2_ros
from rclpy.lifecycle import LifecycleNode

from sqap_vla.nodes.command_gate import CommandGate
from sqap_vla.nodes.command_output import CommandOutput
from sqap_vla.nodes.input_monitor import ClockWatch
from sqap_vla.nodes.policy_parameters import PolicyParameters
from sqap_vla.nodes.transforms import NewestPose
from sqap_vla.runtime.controller import ChunkController, Command, Stop

CLOCK_STOPPED = "clock_stopped"
NOT_ACTIVE = "not active"


class Commander:
    def __init__(
        self,
        node: LifecycleNode,
        params: PolicyParameters,
        controller: ChunkController,
        gate: CommandGate,
        buffer: tf2_ros.Buffer,
    ) -> None:
        self.clock = ClockWatch()
        self._controller, self._gate = controller, gate
        self._max_still_s = params.max_chunk_age_s
        self._ee_pose = NewestPose(buffer, params.base_frame, params.ee_frame, params.max_ee_age_s)
        self._output = CommandOutput(node, params.base_frame, params.dry_run)
        self._dry_run = params.dry_run
        self._new_chunk = False
        self._stop_reason, self._row = NOT_ACTIVE, ""
        self._engaged: Counter[str] = Counter()

    def chunk_arrived(self) -> None:
        self._new_chunk = True

    def tick(self, now_ns: int) -> None:
        result = self._decide(now_ns)
        if isinstance(result, Stop):
            self._stop_reason, self._row = result.reason, ""
            self._output.stop()
            return
        self._stop_reason, self._row = "", str(result.row)
        self._engaged.update(result.engaged)
        self._output.send(result)

    def halt(self, reason: str) -> None:
        """Forgets the chunk; the stop is the last command that goes out."""
        self._controller.reset()
        self._stop_reason, self._row = reason, ""
        self._output.halt()

    def destroy(self) -> None:
        self._output.destroy()

    def figures(self) -> dict[str, str]:
        """For ~/status: what is done now, and how often each limit engaged."""
        values = {
            "command/stop_reason": self._stop_reason,
            "command/row": self._row,
            "command/dry_run": str(self._dry_run).lower(),
        }
        return values | {f"command/limit/{name}": str(count) for name, count in self._engaged.items()}

    def _decide(self, now_ns: int) -> Command | Stop:
        if self._gate.closed:
            return Stop(self._gate.closed)
        if self._new_chunk:  # in lockstep the clock stands while the policy thinks: what counts is the time since then
            self._new_chunk = False
            self.clock.restart_still()
        if self.clock.still_s() > self._max_still_s:  # ages by the clock no longer grow
            return Stop(CLOCK_STOPPED)
        return self._controller.command(now_ns, self._ee_pose.at(now_ns))
