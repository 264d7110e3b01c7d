# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""SIMPLER as a robot on ROS topics: its server's pictures and poses out, the policy's commands in.

Out: /clock; camera/image_raw, camera/camera_info; joint_states; TF base_link -> gripper_tcp and
base_link -> camera_optical_frame; latched: instruction, ~/success (Bool), ~/episode (String, JSON).
~/episode: episode, seed, episode_id, task, robot, instruction, state (running, success, failure), steps, successes, and
SIMPLER's own stats.
In: command/twist, command/gripper, command/chunk (only that it came counts).
Services: ~/reset (next episode), ~/step (one step, lockstep only), ~/advance (next part of a long task).

Lockstep: after a frame the clock stands. When a chunk has come, it moves on by a millisecond; a command stamped at or
after that was made with the chunk, and is carried out. So what a late command of the row before says is never taken for
an answer. A zero twist without a gripper command is a stop: the arm holds still for that step.

Time never jumps back, not even at a reset, so that consumers' TF buffers stay valid. An answer of SIMPLER's is waited
for on the thread that spins the node.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
from rclpy.clock import Clock, ClockType
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.parameter import Parameter
from std_msgs.msg import Bool, Float64MultiArray, String
from std_srvs.srv import Trigger

from sqap_vla.nodes import qos
from sqap_vla.nodes.lifecycle import run_node, stop_requested
from sqap_vla.nodes.parameters import declare, on_change
from sqap_vla.nodes.simpler_bridge_output import SimplerOutput
from sqap_vla.nodes.simpler_bridge_parameters import SimplerBridgeParameters
from sqap_vla.nodes.tabletop_commands import CommandInput
from sqap_vla.simpler.actions import action_from_twist, make_gripper_action
from sqap_vla.simpler.client import SimplerClient, SimplerError, SimplerState, SimplerTask

START_NS = 1_000_000_000  # not 0, which means "no time" to tf2 and to message filters
TICK_NS = 1_000_000  # what the clock moves on by within a frame
REALTIME_TICK_S = 0.02
STOP_WAIT_S = 0.5  # wall time after a twist within which its gripper command comes, if one comes
REPEAT_S = 5.0  # wall time between copies of a frame until the first chunk has come: for those who come late
SLOW = 1.2  # a step that takes longer than this times its period is worth a warning


class SimplerBridge(Node):
    """Runs episodes of one task. Raises ParameterError, or SimplerError where SIMPLER cannot be reached."""

    def __init__(self, **kwargs) -> None:
        super().__init__("simpler_bridge", **kwargs)
        self._settings = declare(self, SimplerBridgeParameters)
        self._now_ns = self._frame_ns = START_NS
        self._next_seed, self._next_layout = self._settings.seed, self._settings.episode_id
        self._episode = self._finished = self._successes = 0
        self._client = SimplerClient(Path(self._settings.socket), self._settings.server_timeout_s, stop_requested)
        self._task: SimplerTask | None = None
        self._state: SimplerState | None = None
        self._ended = self._heard_chunk = False
        self._answer_from_ns = 0  # commands stamped from here on answer the frame; 0: none does yet

        self._output = SimplerOutput(self, self._settings)
        self._success_topic = self.create_publisher(Bool, "~/success", qos.latched())
        self._episode_topic = self.create_publisher(String, "~/episode", qos.latched())
        self._instruction_topic = self.create_publisher(String, "instruction", qos.latched())
        self._commands = CommandInput(
            self, self._settings.base_frame, self._settings.command_timeout_s, lambda: self._now_ns
        )
        self.create_subscription(Float64MultiArray, "command/chunk", self._on_chunk, qos.command())
        self.create_service(Trigger, "~/reset", self._on_reset)
        self.create_service(Trigger, "~/step", self._on_step)
        self.create_service(Trigger, "~/advance", self._on_advance)
        on_change(self, lambda: self._settings, self._apply)
        self.add_post_set_parameters_callback(self._was_set)

        wall = Clock(clock_type=ClockType.STEADY_TIME)
        if self._settings.step_mode == "lockstep":
            self.create_timer(0.002, self._answer, clock=wall)
        else:
            self.create_timer(REALTIME_TICK_S, self._run, clock=wall)

    def close(self) -> None:
        self._client.close()

    # Lockstep

    def _on_chunk(self, _: Float64MultiArray) -> None:
        """The clock moves on, so that what is commanded from now on can be told from what was before the chunk."""
        self._heard_chunk = True
        if self._settings.step_mode == "lockstep" and self._settings.await_chunk and not self._answer_from_ns:
            self._now_ns += TICK_NS
            self._await_command()
            self._output.publish_clock(self._now_ns)

    def _await_command(self) -> None:
        self._answer_from_ns = self._now_ns
        self._twist_seen_s: float | None = None
        self._commands.start_frame()

    def _answer(self) -> None:
        """Steps when the frame is answered; sends it again when nothing comes."""
        if not self._begun():
            return
        if self._answer_from_ns and self._commands.has_twist_since(self._answer_from_ns):
            self._twist_seen_s = self._twist_seen_s or time.monotonic()
            if self._commands.gripper_is_new or time.monotonic() - self._twist_seen_s > STOP_WAIT_S:
                self._step(self._commands.twist_since(self._answer_from_ns))
            return
        waited_s = time.monotonic() - self._sent_s
        if waited_s > self._settings.answer_timeout_s:
            self.get_logger().warning(f"no command for {waited_s:.0f} s; the frame is sent again under a new stamp")
            self._now_ns += TICK_NS
            self._publish_frame()
        elif not self._heard_chunk and time.monotonic() - self._repeated_s > REPEAT_S:
            self._repeated_s = time.monotonic()
            self._output.publish_frame(self._task, self._state, self._frame_ns)

    # Realtime

    def _run(self) -> None:
        if not self._begun():
            return
        self._now_ns += round(REALTIME_TICK_S * self._settings.real_time_factor * 1e9)
        due_ns = self._frame_ns + self._task.step_ns
        if self._now_ns < due_ns:
            self._output.publish_clock(self._now_ns)
            return
        self._now_ns = due_ns
        start_s = time.monotonic()
        self._step(self._commands.twist(due_ns))
        took_s, period_s = time.monotonic() - start_s, self._task.step_ns / 1e9 / self._settings.real_time_factor
        if took_s > SLOW * period_s:
            self.get_logger().warning(
                f"a step of {period_s:.3f} s took {took_s:.3f} s: time runs slower, so latency costs less, than real",
                throttle_duration_sec=30.0,
            )

    # Episodes

    def _begun(self) -> bool:
        """Starts an episode where there is none."""
        if self._state is not None and not self._ended:
            return True
        self._start_episode()
        return False

    def _start_episode(self) -> None:
        if self._task is None or self._task.name != self._settings.task:
            self._state = None
            self._task = self._asked(lambda: self._client.open(self._settings.task))
            self._gripper = make_gripper_action(self._task.robot)
            self.get_logger().info(
                f"{self._task.name} runs at {self._task.control_hz:g} Hz, {self._settings.step_mode}; it follows "
                f"{self.resolve_topic_name('command/twist')} and {self.resolve_topic_name('command/gripper')}"
            )
        self._seed, self._next_seed = self._next_seed, self._next_seed + 1
        self._layout = None if self._next_layout < 0 else self._next_layout
        self._next_layout += self._layout is not None
        layout = {} if self._layout is None else {"obj_init_options": {"episode_id": self._layout}}
        self._state = self._asked(lambda: self._client.reset(self._seed, layout))
        self._episode, self._ended, self._instruction = self._episode + 1, False, ""
        self._gripper.reset()
        self._commands.forget()
        if self._episode > 1:
            self._now_ns += round(self._settings.episode_gap_s * 1e9)
        self._tell_instruction()
        self._publish_frame()
        self._report("running")

    def _step(self, twist: np.ndarray) -> None:
        """Carries out one step and publishes what follows from it."""
        step_s = self._task.step_ns / 1e9
        gripper = self._gripper.number(self._commands.gripper_open)
        self._state = self._asked(lambda: self._client.step(action_from_twist(twist, step_s, gripper)))
        self._now_ns = self._frame_ns + self._task.step_ns
        self._tell_instruction()
        limit = self._settings.max_steps or self._task.max_steps
        over = self._state.truncated or self._state.steps >= limit
        if over or (self._state.success and self._settings.stop_at_success):
            self._end_episode()
        else:
            self._publish_frame()
            self._report("running")

    def _publish_frame(self) -> None:
        self._frame_ns = self._now_ns
        self._sent_s = self._repeated_s = time.monotonic()
        self._answer_from_ns = 0
        if not self._settings.await_chunk:
            self._await_command()
        self._output.publish_frame(self._task, self._state, self._frame_ns)

    def _end_episode(self) -> None:
        self._ended = True
        self._finished += 1
        self._successes += self._state.success
        self._report("success" if self._state.success else "failure")
        self.get_logger().info(
            f"episode {self._episode} ({self._state.instruction}): {'success' if self._state.success else 'failure'} "
            f"after {self._state.steps} steps; {self._successes} of {self._finished} succeeded"
        )
        if self._finished == self._settings.episodes:
            self._episode_topic.wait_for_all_acked(Duration(seconds=1.0))
            raise SystemExit(0)

    def _report(self, state: str) -> None:
        """state: running, success or failure."""
        self._success_topic.publish(Bool(data=self._state.success))
        episode = {"episode": self._episode, "seed": self._seed, "episode_id": self._layout}
        what = {"task": self._task.name, "robot": self._task.robot, "instruction": self._state.instruction}
        counts = {"state": state, "steps": self._state.steps, "successes": self._successes, "stats": self._state.stats}
        self._episode_topic.publish(String(data=json.dumps(episode | what | counts)))

    def _tell_instruction(self) -> None:
        """Latched, once per episode and at each change: long tasks have parts."""
        if self._state.instruction != self._instruction:
            self._instruction = self._state.instruction
            self._instruction_topic.publish(String(data=self._instruction))

    def _asked(self, request):
        """What SIMPLER answers; where it does not, the node ends."""
        try:
            return request()
        except SimplerError as error:
            if not stop_requested():
                self.get_logger().fatal(str(error))
            raise SystemExit(1) from error

    def _apply(self, settings: SimplerBridgeParameters) -> None:
        self._settings = settings

    def _was_set(self, parameters: list[Parameter]) -> None:
        """Also what is set to the value it had: the count has gone on since."""
        for parameter in parameters:
            if parameter.name == "seed":
                self._next_seed = parameter.value
            elif parameter.name == "episode_id":
                self._next_layout = parameter.value

    # Services

    def _on_reset(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._start_episode()
        response.success = True
        response.message = f"episode {self._episode}, seed {self._seed}: {self._state.instruction}"
        return response

    def _on_step(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success = self._settings.step_mode == "lockstep"
        if not response.success:
            response.message = "step_mode is realtime, where time runs by itself; start with step_mode:=lockstep"
        elif self._begun():
            self._step(self._commands.twist_since(self._frame_ns))
        if response.success:
            response.message = f"step {self._state.steps} of episode {self._episode}"
        return response

    def _on_advance(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """The new instruction comes with the next frame, too."""
        self._begun()
        try:
            response.message, response.success = self._client.advance(), True
        except SimplerError as error:
            response.message, response.success = str(error), False
        return response


def main(args: list[str] | None = None) -> int:
    """Runs the node until SIGINT, SIGTERM or its last episode. Returns the process's exit status."""
    return run_node(SimplerBridge, args)


if __name__ == "__main__":
    sys.exit(main())
