# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Diagnostics node: watches the policy and publishes one DiagnosticArray per second on /diagnostics.

Its statuses have always the same names: the policy's own word, one for each of its parts, and the loader's. It is a
process of its own, so that a policy that hangs or dies is reported, not silent. Timers run on the steady clock: a
/clock that stands still must not stop the reports.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from sqap_vla.nodes import qos
from sqap_vla.nodes.assessment import STALE, Thresholds, assess, status, unknown
from sqap_vla.nodes.impossible_transitions import refuse_impossible_transitions
from sqap_vla.nodes.lifecycle import guarded, run_node
from sqap_vla.nodes.parameters import declare, parameter


@dataclass(frozen=True)
class DiagnosticsParameters:
    period_s: float = parameter(1.0, "Time between two reports [s].", minimum=0.1, maximum=60.0, read_only=True)
    max_status_age_s: float = parameter(
        3.0, "Silence of the policy after which everything is stale [s].", minimum=0.1, maximum=60.0, read_only=True
    )
    max_input_age_s: float = parameter(
        1.0,
        "Time without image or camera_info that is an error or a warning [s].",
        minimum=0.05,
        maximum=60.0,
        read_only=True,
    )
    max_latency_ms: float = parameter(
        200.0,
        "Inference p95 above this is a warning [ms]; the time of one row is a good value.",
        minimum=1.0,
        maximum=60000.0,
        read_only=True,
    )
    max_rss_mb: float = parameter(
        32000.0,
        "Resident memory of the policy above this is a warning [MB].",
        minimum=10.0,
        maximum=1e6,
        read_only=True,
    )

    watch_model_loader: bool = parameter(True, "Report the model loader, too; false where none runs.", read_only=True)

    def thresholds(self) -> Thresholds:
        return Thresholds(
            max_input_age_s=self.max_input_age_s, max_latency_ms=self.max_latency_ms, max_rss_mb=self.max_rss_mb
        )


class DiagnosticsNode(LifecycleNode):
    """Watches ~/status of policy and loader, by their names in its own namespace."""

    def __init__(self, **kwargs) -> None:
        super().__init__("diagnostics", **kwargs)
        refuse_impossible_transitions(self)
        self.transition_error = ""
        self._policy: tuple[float, DiagnosticStatus] | None = None  # arrival on the steady clock, message
        self._loader: DiagnosticStatus | None = None

    @guarded
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._params = declare(self, DiagnosticsParameters)
        self._publisher = self.create_lifecycle_publisher(DiagnosticArray, "/diagnostics", 10)
        self._subscriptions_made = [
            self.create_subscription(DiagnosticStatus, "policy/status", self._on_policy, qos.latched()),
            self.create_subscription(DiagnosticStatus, "model_loader/status", self._on_loader, qos.latched()),
        ]
        self._timer = self.create_timer(
            self._params.period_s, self._report, clock=Clock(clock_type=ClockType.STEADY_TIME)
        )
        return TransitionCallbackReturn.SUCCESS

    @guarded
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._release()
        return TransitionCallbackReturn.SUCCESS

    @guarded
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        if state.label != "unconfigured":
            self._release()
        return TransitionCallbackReturn.SUCCESS

    def _release(self) -> None:
        self.destroy_timer(self._timer)
        for subscription in self._subscriptions_made:
            self.destroy_subscription(subscription)
        self.destroy_publisher(self._publisher)
        self._policy = self._loader = None

    def _on_policy(self, msg: DiagnosticStatus) -> None:
        self._policy = (time.monotonic(), msg)

    def _on_loader(self, msg: DiagnosticStatus) -> None:
        self._loader = msg

    def _report(self) -> None:
        if not self._publisher.is_activated:
            return
        array = DiagnosticArray()
        array.header.stamp = self.get_clock().now().to_msg()
        array.status = self._statuses()
        self._publisher.publish(array)

    def _statuses(self) -> list[DiagnosticStatus]:
        statuses = self._of_policy()
        if self._params.watch_model_loader:
            statuses.append(self._loader or status("model_loader", STALE, "the model loader has not been heard of"))
        return statuses

    def _of_policy(self) -> list[DiagnosticStatus]:
        """The policy's own word and one status for each part."""
        if self._policy is None:
            return unknown("the policy has not been heard of")
        arrived_s, said = self._policy
        silent_s = time.monotonic() - arrived_s
        if silent_s > self._params.max_status_age_s:
            return unknown(f"the policy has been silent for {silent_s:.1f} s")
        own = status("policy", said.level, said.message)
        if not said.values:
            return [own, *unknown(f"the policy says: {said.message}")[1:]]
        try:
            return [own, *assess({pair.key: pair.value for pair in said.values}, self._params.thresholds())]
        except (KeyError, ValueError) as error:  # somebody else's message, or another version's
            return unknown(f"the policy's status cannot be read: {error!r}")


def main(args: list[str] | None = None) -> int:
    return run_node(DiagnosticsNode, args)


if __name__ == "__main__":
    sys.exit(main())
