# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Policy node: camera image + camera_info + TF + instruction -> action chunk -> commands at a fixed rate.

Lifecycle: configure loads and warms up the model and builds the pipeline, activate starts at once, deactivate sends the
stop last, cleanup frees. Invariant: nothing is published that moves the robot unless the node is active, the frame
passed every check, and the end-effector's pose is known now.
"""

from __future__ import annotations

import dataclasses
import gc
import sys

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter

from sqap_vla.nodes import qos
from sqap_vla.nodes.command_gate import CommandGate
from sqap_vla.nodes.commander import NOT_ACTIVE
from sqap_vla.nodes.impossible_transitions import refuse_impossible_transitions
from sqap_vla.nodes.joint_output import arm_from_description
from sqap_vla.nodes.lifecycle import guarded, interruptible, run_node
from sqap_vla.nodes.model_loading import announced_artifact, load_engine
from sqap_vla.nodes.model_reload import ModelReload
from sqap_vla.nodes.parameters import ParameterError, declare, on_change, static_changes
from sqap_vla.nodes.policy_parameters import PolicyParameters
from sqap_vla.nodes.policy_pipeline import PolicyPipeline
from sqap_vla.nodes.policy_status import setup_line, status_message

STATUS_PERIOD_S = 0.5
SUCCESS = TransitionCallbackReturn.SUCCESS
OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR


class PolicyNode(LifecycleNode):
    """The node `policy`. Raises ParameterError where a parameter has a wrong type or value."""

    def __init__(self, **kwargs) -> None:
        super().__init__("policy", **kwargs)
        self.transition_error = ""
        self._pipeline: PolicyPipeline | None = None
        self._status = self.create_publisher(DiagnosticStatus, "~/status", qos.latched())
        self.create_timer(STATUS_PERIOD_S, self._publish_status, clock=Clock(clock_type=ClockType.STEADY_TIME))
        refuse_impossible_transitions(self)
        self._command_gate = CommandGate(self)
        self._reload = ModelReload(self, lambda params: load_engine(params))
        self._params = declare(self, PolicyParameters)
        on_change(self, lambda: self._params, self._apply)

    # Lifecycle

    @guarded
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.transition_error = ""
        self._status.publish(status_message(WARN, "configuring", {}, "sqap_vla"))
        params = self._params
        params.make_limits()  # before minutes are spent
        arm = arm_from_description(self, params)
        checkpoint = params.checkpoint or announced_artifact(self, params.manifest_topic, params.manifest_timeout_s)
        with interruptible():
            engine = load_engine(dataclasses.replace(params, checkpoint=checkpoint))
        self._pipeline = PolicyPipeline(self, params, self._command_gate, engine, checkpoint, self._on_instruction, arm)
        self._reload.attach(self._pipeline, params)
        self.get_logger().info(setup_line(params, engine.model.device))
        return SUCCESS

    @guarded
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        result = super().on_activate(state)
        if result == SUCCESS:
            self._pipeline.start()
        return result

    @guarded
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._pipeline.halt(NOT_ACTIVE)
        return super().on_deactivate(state)

    @guarded
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.close()
        return SUCCESS

    @guarded
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.close()
        return SUCCESS

    @guarded
    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.close()
        return SUCCESS

    def close(self) -> None:
        """Stops the robot and frees everything; called once more when the process ends."""
        if self._pipeline is not None:
            pipeline, self._pipeline = self._pipeline, None
            pipeline.halt("shut down")
            self._reload.detach()
            pipeline.close()
            del pipeline
            gc.collect()

    # What may change

    def _on_instruction(self, instruction: str) -> None:
        if instruction != self._params.instruction:  # by way of the parameter, so that it tells what holds
            self.set_parameters([Parameter("instruction", value=instruction)])

    def _apply(self, params: PolicyParameters) -> None:
        if self._pipeline is not None:
            fixed = static_changes(self._params, params)
            if fixed:
                raise ParameterError(
                    f"{', '.join(fixed)} cannot change while the node is configured; clean it up, set, configure"
                )
            self._pipeline.change(params)
        self._params = params

    # Status

    def _publish_status(self) -> None:
        if self._pipeline is None:
            level, text = (ERROR, self.transition_error) if self.transition_error else (WARN, "not configured")
            self._status.publish(status_message(level, text, {}, "sqap_vla"))
            return
        values = self._pipeline.values() | self._reload.values()
        level, text = (OK, "active") if self._pipeline.active else (WARN, "configured, not active")
        self._status.publish(status_message(level, text, values, values["model/device"]))


def main(args: list[str] | None = None) -> int:
    return run_node(PolicyNode, args)


if __name__ == "__main__":
    sys.exit(main())
