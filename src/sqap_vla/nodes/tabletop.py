# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The simulated robot as a ROS node: camera, joints and transforms out, twist and gripper in.

Out: /clock; camera/image_raw, camera/camera_info; joint_states; TF base_link -> gripper_tcp and
base_link -> camera_optical_frame; latched: instruction, ~/success (Bool), ~/episode (String, JSON).
~/episode: episode, seed, instruction, family, scenario, varied (what a variant changes), state (running, success,
timeout), steps (camera frames), successes.
In: command/twist, command/gripper, instruction.
Services: ~/reset (next episode), ~/step (one frame, lockstep only).

Time runs in ticks of 0.04 s. It never jumps back, not even at a reset, so that consumers' TF buffers stay
valid. All rendering happens on the thread that spins the node: use a single-threaded executor.
"""

from __future__ import annotations

import json
import sys

import numpy as np
from builtin_interfaces.msg import Time
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.parameter import Parameter
from std_msgs.msg import Bool, String
from std_srvs.srv import Trigger

from sqap_vla.nodes import qos
from sqap_vla.nodes.conversions import stamp_msg
from sqap_vla.nodes.lifecycle import run_node
from sqap_vla.nodes.parameters import declare, on_change
from sqap_vla.nodes.tabletop_commands import CommandInput
from sqap_vla.nodes.tabletop_instruction import InstructionTopic
from sqap_vla.nodes.tabletop_output import RobotOutput
from sqap_vla.nodes.tabletop_parameters import TICK_S, TabletopParameters
from sqap_vla.sim import TabletopEnv

TICK_NS = round(TICK_S * 1e9)
START_NS = 1_000_000_000  # not 0, which means "no time" to tf2 and to message filters
REPEAT_S = 1.0  # wall time until an unanswered lockstep frame is sent again, for those who came late


class TabletopNode(Node):
    """Runs episodes of the tabletop. Raises ParameterError or RenderingError when it cannot start."""

    def __init__(self, **kwargs) -> None:
        super().__init__("tabletop", **kwargs)
        self._settings = declare(self, TabletopParameters)
        self._env = TabletopEnv(self._settings.environment())
        self._sim_ns, self._frame_ns = START_NS, START_NS
        self._next_seed = self._settings.seed
        self._episode, self._successes, self._seed = 0, 0, 0
        self._scenario, self._varied = self._settings.scenario, ()
        self._ticks = self._frames = 0
        self._ended_ns: int | None = None
        self._rgb = np.zeros((0, 0, 3), np.uint8)

        self._output = RobotOutput(self, self._env, self._settings)
        self._success_topic = self.create_publisher(Bool, "~/success", qos.latched())
        self._episode_topic = self.create_publisher(String, "~/episode", qos.latched())
        self._instruction_topic = InstructionTopic(self, self._hear_instruction)
        self._commands = CommandInput(self, self._settings.base_frame, self._settings.command_timeout_s, self._now_ns)
        self.create_service(Trigger, "~/reset", self._on_reset)
        self.create_service(Trigger, "~/step", self._on_step)
        on_change(self, lambda: self._settings, self._apply)
        self.add_post_set_parameters_callback(self._was_set)

        wall = Clock(clock_type=ClockType.STEADY_TIME)
        if self._settings.step_mode == "lockstep":
            self.create_timer(0.002, self._answer, clock=wall)
            self.create_timer(REPEAT_S, self._repeat, clock=wall)
        else:
            self.create_timer(TICK_S / self._settings.real_time_factor, self._run, clock=wall)
        self.get_logger().info(
            f"tabletop runs, {self._settings.step_mode}; it follows "
            f"{self.resolve_topic_name('command/twist')} and {self.resolve_topic_name('command/gripper')}"
        )

    def destroy_node(self) -> None:
        self._env.close()
        super().destroy_node()

    # Time

    def _begun(self) -> bool:
        """Starts the first episode on the spinning thread, so that the OpenGL context belongs to it."""
        if self._episode:
            return True
        self._start_episode()
        return False

    def _now_ns(self) -> int:
        return self._sim_ns if self._settings.publish_clock else self.get_clock().now().nanoseconds

    def _stamp(self) -> Time:
        return stamp_msg(self._now_ns())

    def _run(self) -> None:
        if self._begun():
            self._tick(self._commands.twist(self._now_ns()))

    def _answer(self) -> None:
        if self._begun() and self._commands.answers(self._frame_ns):
            self._step_frame()

    def _repeat(self) -> None:
        if not self._begun():
            return
        self._output.publish_state(stamp_msg(self._frame_ns))
        self._output.publish_frame(self._rgb, stamp_msg(self._frame_ns))

    def _step_frame(self) -> None:
        if not self._begun():
            return
        twist, frames, episode = self._commands.twist_since(self._frame_ns), self._frames, self._episode
        while (self._frames, self._episode) == (frames, episode):
            self._tick(twist)

    def _tick(self, twist: np.ndarray) -> None:
        if self._reset_is_due():
            self._start_episode()
            return
        *_, terminated, _, _ = self._env.step(np.append(twist * TICK_S, self._commands.gripper_open))
        self._sim_ns += TICK_NS
        self._ticks += 1
        stamp = self._stamp()
        self._output.publish_state(stamp)
        if self._ticks % self._settings.ticks_per_frame == 0:
            self._frames += 1
            self._publish_frame(stamp)
            if self._ended_ns is None:
                self._publish_episode("running")
        if self._ended_ns is None and (terminated or self._frames >= self._frame_limit):
            self._end_episode(success=terminated)

    @property
    def _frame_limit(self) -> int:
        return self._settings.frame_limit(self._env.task.time_limit_s)

    def _reset_is_due(self) -> bool:
        if self._ended_ns is None or not self._settings.auto_reset:
            return False
        return self._sim_ns - self._ended_ns >= self._settings.reset_delay_s * 1e9

    def _publish_frame(self, stamp: Time) -> None:
        self._frame_ns = stamp.sec * 1_000_000_000 + stamp.nanosec
        self._commands.start_frame()
        self._rgb = self._env.camera_image()
        self._output.publish_frame(self._rgb, stamp)

    # Episodes

    def _start_episode(self) -> None:
        """Resets the scene; takes one tick, so that no two states share a stamp."""
        self._seed, self._next_seed = self._next_seed, self._next_seed + 1
        _, info = self._env.reset(seed=self._seed, options=self._settings.reset_options(self._seed))
        self._scenario, self._varied = info["scenario"], info["varied"]
        self._episode += 1
        self._ticks = 0
        self._commands.forget()
        self._sim_ns += TICK_NS
        self._begin_task()
        stamp = self._stamp()
        self._output.publish_state(stamp)
        self._publish_frame(stamp)

    def _begin_task(self) -> None:
        self._frames, self._ended_ns = 0, None
        self._instruction_topic.publish(self._env.task.instruction)
        self._report("running")

    def _end_episode(self, success: bool) -> None:
        self._ended_ns = self._sim_ns
        self._successes += success
        self._report("success" if success else "timeout")

    def _report(self, state: str) -> None:
        self._success_topic.publish(Bool(data=state == "success"))
        self._publish_episode(state)

    def _publish_episode(self, state: str) -> None:
        """state: running, success or timeout."""
        task = self._env.task
        episode = {"episode": self._episode, "seed": self._seed, "instruction": task.instruction}
        kind = {"family": task.family, "scenario": self._scenario, "varied": list(self._varied)}
        counts = {"state": state, "steps": self._frames, "successes": self._successes}
        self._episode_topic.publish(String(data=json.dumps(episode | kind | counts)))

    def _hear_instruction(self, text: str) -> None:
        """Another node's sentence becomes the parameter, which refuses what is no task of the tabletop."""
        result = self.set_parameters([Parameter("instruction", value=text)])[0]
        if not result.successful:
            self.get_logger().warning(f"instruction not followed: {result.reason}")

    def _apply(self, settings: TabletopParameters) -> None:
        """New parameters; a new instruction holds for the scene as it stands and for later episodes."""
        before, self._settings = self._settings, settings
        if self._episode and settings.instruction and settings.instruction != before.instruction:
            self._env.set_instruction(settings.instruction)
            self._begin_task()

    def _was_set(self, parameters: list[Parameter]) -> None:
        """Also a seed that is set to the value it had: the count has gone on since."""
        for parameter in parameters:
            if parameter.name == "seed":
                self._next_seed = parameter.value

    # Services

    def _on_reset(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._start_episode()
        response.success = True
        response.message = f"episode {self._episode}, seed {self._seed}: {self._env.task.instruction}"
        return response

    def _on_step(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success = self._settings.step_mode == "lockstep"
        if response.success:
            self._step_frame()
            response.message = f"frame {self._frames} at {self._frame_ns} ns"
        else:
            response.message = (
                "step_mode is realtime, where time runs by itself; start the node with step_mode:=lockstep"
            )
        return response


def main(args: list[str] | None = None) -> int:
    """Runs the node until SIGINT or SIGTERM. Returns the process's exit status."""
    return run_node(TabletopNode, args)


if __name__ == "__main__":
    sys.exit(main())
