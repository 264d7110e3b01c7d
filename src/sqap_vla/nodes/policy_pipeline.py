# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""What a configured policy consists of: inputs -> inference thread -> controller -> commands.

It exists from configure to cleanup. Threads: the executor's callbacks only store the newest message and hand frames
over; inference runs on its own thread with the newest frame; the command timer runs on the steady clock and asks the
controller what to do now. So neither a slow inference nor a /clock that stands still delays a stop.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack

import tf2_ros
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode

from sqap_vla.nodes.chunk_output import ChunkOutput
from sqap_vla.nodes.command_gate import CommandGate
from sqap_vla.nodes.commander import Commander
from sqap_vla.nodes.conversions import InputError, stamp_ns
from sqap_vla.nodes.hardware_figures import compression_figures, gpu_figures
from sqap_vla.nodes.inference_worker import InferenceWorker
from sqap_vla.nodes.input_monitor import StampGate
from sqap_vla.nodes.joint_output import JointOutput
from sqap_vla.nodes.observation import ObservationBuilder
from sqap_vla.nodes.policy_inputs import Frame, PolicyInputs
from sqap_vla.nodes.policy_parameters import PolicyParameters
from sqap_vla.nodes.policy_status import PolicyFigures, transform_figures
from sqap_vla.runtime.command import Stop
from sqap_vla.runtime.controller import CHUNK_OUTDATED, ChunkController
from sqap_vla.runtime.engine import Engine
from sqap_vla.runtime.gripper import make_gripper
from sqap_vla.runtime.kinematics import ArmKinematics

STOP_TIMEOUT_S = 10.0
INFERENCE_HUNG = "inference_hung"
INFERENCE_DEAD = "inference_dead"


class PolicyPipeline:
    """model: where the engine's weights came from. arm: of the joints that are commanded, None without. If the pipeline
    cannot be made, nothing of it is left.

    Raises ValueError for parameters that do not fit together.
    """

    def __init__(
        self,
        node: LifecycleNode,
        params: PolicyParameters,
        gate: CommandGate,
        engine: Engine,
        model: str,
        on_instruction: Callable[[str], None],
        arm: ArmKinematics | None = None,
    ) -> None:
        self.active = False
        self.model = model
        self._node, self._params, self._engine = node, params, engine
        self._figures, self._compression = PolicyFigures(), compression_figures(engine.model)
        self._controller = ChunkController(
            params.step_s,
            params.make_limits(),
            make_gripper(params.gripper),
            params.max_chunk_age_s,
            params.ensemble_horizon,
            params.ensemble_alpha,
            period_s=1.0 / params.rate_hz,
            fade_in_s=params.fade_in_s,
        )
        self._stamp_gate = StampGate(params.max_image_age_s, params.future_tolerance_s)
        self._buffer = tf2_ros.Buffer()
        self._builder = ObservationBuilder(params.make_frames(), self._buffer, params.instruction)
        with ExitStack() as made:
            self._joints = None if arm is None else JointOutput(node, params, arm)
            if self._joints is not None:
                made.callback(self._joints.destroy)
            self._commander = Commander(
                node, params, self._controller, gate, self._buffer, self._watchdog, self._joints
            )
            made.callback(self._commander.destroy)
            self._output = ChunkOutput(node)
            made.callback(self._output.destroy)
            self._listener = tf2_ros.TransformListener(self._buffer, node)
            made.callback(self._listener.unregister)
            self._inputs = PolicyInputs(node, params, self._on_image, self._builder.set_camera_info, on_instruction)
            made.callback(self._inputs.destroy)
            self._worker = InferenceWorker(self._infer, self._inference_failed)
            made.callback(self._stop_worker)
            steady = Clock(clock_type=ClockType.STEADY_TIME)
            timer = node.create_timer(1.0 / params.rate_hz, self._tick, clock=steady)
            made.callback(node.destroy_timer, timer)
            self._made = made.pop_all()

    def start(self) -> None:
        """Frames are taken and commands go out from now on; nothing of before is left."""
        self._restart()
        self.active = True

    def halt(self, reason: str) -> None:
        """The stop is the last command that goes out."""
        if self.active:
            self.active = False
            self._worker.clear()
            self._commander.halt(reason, self._now_ns())

    def close(self) -> None:
        self._made.close()

    def swap(self, engine: Engine, model: str) -> None:
        """Another model from the next inference on; one that runs ends with the present one. From any thread."""
        self._engine, self.model, self._compression = engine, model, compression_figures(engine.model)

    def change(self, params: PolicyParameters) -> None:
        """What may change while it runs: limits and instruction. Raises ValueError; then nothing has changed."""
        self._controller.limits = limits = params.make_limits()
        if self._joints is not None:
            self._joints.limits = limits
        if params.instruction != self._params.instruction:
            self._node.get_logger().info(f"instruction: {params.instruction!r}")
            self._builder.instruction = params.instruction
            self._controller.reset()  # chunks of another task must not go on, nor be blended with this one's
        self._params = params

    def values(self) -> dict[str, str]:
        """Every figure for ~/status."""
        params, device = self._params, self._engine.model.device
        targets = {"ee": params.base_frame, "camera": params.camera_frame or self._inputs.image_frame}
        values = self._figures.values() | self._inputs.figures() | self._commander.figures() | gpu_figures(device)
        values |= transform_figures(self._buffer, targets, params.ee_frame, self._now_ns()) | self._compression
        return values | {
            "model/checkpoint": self.model,
            "model/device": str(device),
            "model/method": params.method,
            "input/instruction": self._builder.instruction,
            "input/frames_replaced": str(self._worker.replaced),
            "inference/busy_s": f"{self._worker.busy_s():.2f}",
        }

    # On the executor's thread

    def _on_image(self, msg: Frame) -> None:
        if not self.active:
            return
        came_s, now_ns = time.perf_counter(), self._now_ns()
        self._check_clock(now_ns)
        try:
            self._stamp_gate.check(stamp_ns(msg.header.stamp), now_ns)
        except InputError as error:
            self._reject(error)
            return
        self._commander.frame_arrived()
        self._worker.submit((msg, came_s))

    def _tick(self) -> None:
        now_ns = self._now_ns()
        self._check_clock(now_ns)
        if self.active:
            self._commander.tick(now_ns)

    def _check_clock(self, now_ns: int) -> None:
        if self._commander.clock.jumped_back(now_ns):
            self._node.get_logger().warning("the clock went back: transforms and chunks before it are forgotten")
            self._buffer.clear()
            self._restart()

    def _restart(self) -> None:
        self._engine.reset()
        self._stamp_gate.reset()
        self._worker.clear()
        self._controller.reset()

    def _watchdog(self) -> Stop | None:
        if not self._worker.alive:
            return Stop(INFERENCE_DEAD, "the inference thread has ended; clean the node up and configure it")
        busy_s = self._worker.busy_s()
        if busy_s > self._params.max_inference_s:
            return Stop(
                INFERENCE_HUNG, f"running for {busy_s:.1f} s, max_inference_s = {self._params.max_inference_s:g}"
            )
        return None

    def _stop_worker(self) -> None:
        if not self._worker.stop(STOP_TIMEOUT_S):
            self._node.get_logger().error(
                f"inference has not ended after {STOP_TIMEOUT_S:.0f} s; its thread is left behind"
            )

    def _now_ns(self) -> int:
        return self._node.get_clock().now().nanoseconds

    # Inference, on its own thread

    def _infer(self, arrival: tuple[Frame, float]) -> None:
        """arrival: a frame, and when it came on the host's clock."""
        (msg, came_s), engine, controller = arrival, self._engine, self._controller
        epoch = controller.epoch  # before anything is read: what is forgotten while this runs makes the chunk outdated
        try:
            built = self._builder.build(msg)
        except InputError as error:
            self._reject(error)
            return
        chunk = engine.infer(built.observation)
        refusal = controller.set_chunk(chunk, epoch)
        node_ms = max(1e3 * (time.perf_counter() - came_s) - chunk.times.total_ms, 0.0)
        if refusal == CHUNK_OUTDATED or not self.active:
            return  # deactivated, told otherwise, or the clock went back, while this ran
        self._commander.chunk_arrived()
        pipeline_ms = (self._now_ns() - chunk.stamp_ns) / 1e6
        logger = self._node.get_logger()
        if refusal and self._figures.refused(refusal):
            logger.warning(f"a chunk gives no command: {refusal}")
        warnings = self._figures.finished(chunk, built.warnings, max(pipeline_ms, 0.0), node_ms, bool(refusal))
        for warning in warnings:
            logger.warning(str(warning))
        self._output.send(chunk, built.observation, msg.header.frame_id, pipeline_ms, node_ms)

    def _inference_failed(self, error: Exception) -> None:
        if self._figures.failed(error):
            self._node.get_logger().error(f"inference failed: {type(error).__name__}: {error}")

    def _reject(self, error: InputError) -> None:
        if self._figures.rejected(error):
            self._node.get_logger().error(str(error))
