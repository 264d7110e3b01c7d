# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Policy node: camera image + camera_info + TF + instruction -> action chunk -> commands at a fixed rate.

Threads: the executor's callbacks only store the newest message and hand frames over; inference runs on its own thread
with the newest frame; the command timer runs on the steady clock and asks the controller what to do now. So neither a
slow inference nor a /clock that stands still delays a stop: where the clock stands, a chunk is followed for
max_chunk_age_s of wall time.

Lifecycle: configure loads and warms up the model, activate starts at once, deactivate sends the stop last, cleanup
frees. Invariant: nothing is published that moves the robot unless the node is active, the frame passed every check,
and the end-effector's pose is known now.
"""

from __future__ import annotations

import dataclasses
import gc
import sys

import tf2_ros
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter

from sqap_vla.nodes import qos
from sqap_vla.nodes.chunk_output import ChunkOutput
from sqap_vla.nodes.command_gate import CommandGate
from sqap_vla.nodes.commander import NOT_ACTIVE, Commander
from sqap_vla.nodes.conversions import InputError, stamp_ns
from sqap_vla.nodes.impossible_transitions import refuse_impossible_transitions
from sqap_vla.nodes.inference_worker import InferenceWorker
from sqap_vla.nodes.input_monitor import StampGate
from sqap_vla.nodes.lifecycle import guarded, run_node
from sqap_vla.nodes.model_loading import announced_artifact, load_engine
from sqap_vla.nodes.observation import ObservationBuilder
from sqap_vla.nodes.parameters import ParameterError, declare, on_change, static_changes
from sqap_vla.nodes.policy_inputs import Frame, PolicyInputs
from sqap_vla.nodes.policy_parameters import PolicyParameters
from sqap_vla.nodes.policy_status import PolicyFigures, gpu_figures, setup_line, status_message, transform_figures
from sqap_vla.runtime.controller import CHUNK_OUTDATED, ChunkController
from sqap_vla.runtime.gripper import make_gripper

STATUS_PERIOD_S = 0.5
SUCCESS = TransitionCallbackReturn.SUCCESS


class PolicyNode(LifecycleNode):
    def __init__(self, **kwargs) -> None:
        super().__init__("policy", **kwargs)
        self.transition_error = ""
        self._active = False
        self._configured = False
        self._figures = PolicyFigures()
        self._status = self.create_publisher(DiagnosticStatus, "~/status", qos.latched())
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(STATUS_PERIOD_S, self._publish_status, clock=self._steady)
        refuse_impossible_transitions(self)
        self._command_gate = CommandGate(self)
        self._params = declare(self, PolicyParameters)
        on_change(self, lambda: self._params, self._apply)

    # Lifecycle

    @guarded
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.transition_error = ""
        self._status.publish(status_message(DiagnosticStatus.WARN, "configuring", {}, "sqap_vla"))
        params = self._params
        limits = params.make_limits()
        self._controller = ChunkController(
            params.step_s,
            limits,
            make_gripper(params.gripper),
            params.max_chunk_age_s,
            params.ensemble_horizon,
            params.ensemble_alpha,
        )
        checkpoint = params.checkpoint or announced_artifact(self, params.manifest_topic, params.manifest_timeout_s)
        self._engine = load_engine(dataclasses.replace(params, checkpoint=checkpoint))
        self._model = checkpoint
        self._figures = PolicyFigures()
        self._stamp_gate = StampGate(params.max_image_age_s, params.future_tolerance_s)
        self._buffer = tf2_ros.Buffer()
        self._builder = ObservationBuilder(params.make_frames(), self._buffer, params.instruction)
        self._commander = Commander(self, params, self._controller, self._command_gate, self._buffer)
        self._output = ChunkOutput(self)
        self._listener = tf2_ros.TransformListener(self._buffer, self)
        self._inputs = PolicyInputs(self, params, self._on_image, self._builder.set_camera_info, self._on_instruction)
        self._worker = InferenceWorker(self._infer, self._inference_failed)
        self._timer = self.create_timer(1.0 / params.rate_hz, self._tick, clock=self._steady)
        self._configured = True
        self.get_logger().info(setup_line(params, self._engine.model.device))
        return SUCCESS

    @guarded
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._restart()
        result = super().on_activate(state)
        self._active = result == SUCCESS
        return result

    @guarded
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._halt(NOT_ACTIVE)
        return super().on_deactivate(state)

    @guarded
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._release()
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
        self._halt("shut down")
        self._release()

    def _halt(self, reason: str) -> None:
        """The stop is the last command that goes out."""
        if self._active:
            self._active = False
            self._worker.clear()
            self._commander.halt(reason)

    def _release(self) -> None:
        if not self._configured:
            return
        self._configured = False
        if not self._worker.stop(timeout_s=10.0):
            self.get_logger().error("inference has not ended after 10 s; its thread is left behind")
        self.destroy_timer(self._timer)
        self._inputs.destroy()
        self._listener.unregister()
        self._commander.destroy()
        self._output.destroy()
        del self._engine, self._worker, self._builder, self._buffer, self._listener
        gc.collect()

    # Inputs

    def _on_image(self, msg: Frame) -> None:
        if not self._active:
            return
        now_ns = self.get_clock().now().nanoseconds
        self._check_clock(now_ns)
        try:
            self._stamp_gate.check(stamp_ns(msg.header.stamp), now_ns)
        except InputError as error:
            self._reject(error)
            return
        self._worker.submit(msg)

    def _on_instruction(self, instruction: str) -> None:
        if instruction != self._params.instruction:  # by way of the parameter, so that it tells what holds
            self.set_parameters([Parameter("instruction", value=instruction)])

    def _set_instruction(self, instruction: str) -> None:
        self.get_logger().info(f"instruction: '{instruction}'")
        self._builder.instruction = instruction
        self._controller.reset()  # chunks of another task must not go on, nor be blended with this one's

    def _apply(self, params: PolicyParameters) -> None:
        if self._configured:
            fixed = static_changes(self._params, params)
            if fixed:
                raise ParameterError(
                    f"{', '.join(fixed)} cannot change while the node is configured; clean it up, set, configure"
                )
            self._controller.limits = params.make_limits()
            if params.instruction != self._params.instruction:
                self._set_instruction(params.instruction)
        self._params = params

    def _check_clock(self, now_ns: int) -> None:
        if self._commander.clock.jumped_back(now_ns):
            self.get_logger().warning("the clock went back: transforms and chunks before it are forgotten")
            self._buffer.clear()
            self._restart()

    def _restart(self) -> None:
        self._engine.reset()
        self._stamp_gate.reset()
        self._worker.clear()
        self._controller.reset()

    # Inference, on its own thread

    def _infer(self, msg: Frame) -> None:
        controller, output = self._controller, self._output
        epoch = controller.epoch  # before anything is read: what is forgotten while this runs makes the chunk outdated
        try:
            built = self._builder.build(msg)
        except InputError as error:
            self._reject(error)
            return
        chunk = self._engine.infer(built.observation)
        refusal = controller.set_chunk(chunk, epoch)
        if refusal == CHUNK_OUTDATED or not self._active:
            return  # deactivated, told otherwise, or the clock went back, while this ran
        self._commander.chunk_arrived()
        pipeline_ms = (self.get_clock().now().nanoseconds - chunk.stamp_ns) / 1e6
        warnings = built.warnings + (
            (InputError(refusal, f"the chunk gives no command: {refusal}"),) if refusal else ()
        )
        for warning in self._figures.finished(chunk, warnings, max(pipeline_ms, 0.0)):
            self.get_logger().warning(str(warning))
        output.send(chunk, built.observation, msg.header.frame_id, pipeline_ms)

    def _inference_failed(self, error: Exception) -> None:
        if self._figures.failed(error):
            self.get_logger().error(f"inference failed: {type(error).__name__}: {error}")

    def _reject(self, error: InputError) -> None:
        if self._figures.rejected(error):
            self.get_logger().error(str(error))

    def _tick(self) -> None:
        now_ns = self.get_clock().now().nanoseconds
        self._check_clock(now_ns)
        if self._active:
            self._commander.tick(now_ns)

    # Status

    def _publish_status(self) -> None:
        if not self._configured:
            text = self.transition_error or "not configured"
            level = DiagnosticStatus.ERROR if self.transition_error else DiagnosticStatus.WARN
            self._status.publish(status_message(level, text, {}, "sqap_vla"))
            return
        params, device = self._params, self._engine.model.device
        targets = {"ee": params.base_frame, "camera": params.camera_frame or self._inputs.image_frame}
        values = self._figures.values() | self._inputs.figures() | self._commander.figures() | gpu_figures(device)
        values |= transform_figures(self._buffer, targets, params.ee_frame, self.get_clock().now().nanoseconds)
        values |= {
            "model/checkpoint": self._model,
            "model/device": str(device),
            "model/method": params.method,
            "input/instruction": self._builder.instruction,
            "input/frames_replaced": str(self._worker.replaced),
            "inference/busy_s": f"{self._worker.busy_s():.2f}",
        }
        level, text = (
            (DiagnosticStatus.OK, "active") if self._active else (DiagnosticStatus.WARN, "configured, not active")
        )
        self._status.publish(status_message(level, text, values, str(device)))


def main(args: list[str] | None = None) -> int:
    return run_node(PolicyNode, args)


if __name__ == "__main__":
    sys.exit(main())
