# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Every parameter of the tabletop node, with description, unit, range and default."""

from __future__ import annotations

from dataclasses import dataclass

from sqap_vla.nodes.parameters import parameter
from sqap_vla.sim import FAMILIES, SCENARIOS, CameraConfig, ControlConfig, EnvironmentConfig, parse_instruction
from sqap_vla.sim.instructions import ANY_FAMILY

TICK_S = 0.04  # control step of the arm: how often it takes a twist, and clock, TF and joints go out


@dataclass(frozen=True)
class TabletopParameters:
    rate_hz: float = parameter(
        5.0,
        "Camera frames per second of simulated time [Hz]; the period is rounded to a multiple of 0.04 s.",
        minimum=0.5,
        maximum=25.0,
        read_only=True,
    )
    image_width_px: int = parameter(320, "Width of the camera image [px].", minimum=16, maximum=1920, read_only=True)
    image_height_px: int = parameter(240, "Height of the camera image [px].", minimum=16, maximum=1920, read_only=True)
    image_reliability: str = parameter(
        "reliable",
        "Reliability with which image and camera_info are published.",
        choices=("reliable", "best_effort"),
        read_only=True,
    )
    seed: int = parameter(
        0,
        "Seed of the first episode; later ones count up. Set while running: seed of the next reset.",
        minimum=0,
        maximum=2**31 - 1,
    )
    family: str = parameter(
        "pick",
        "Family of tasks from which the seed chooses; any: episodes take the families in turn. Where an instruction is "
        "set, its own holds. Set while running: of the next reset.",
        choices=(*FAMILIES, ANY_FAMILY),
    )
    scenario: str = parameter(
        "visual_matching",
        "Look of the episodes: as in training, or varied by the seed in light, table, background, distractors "
        "or camera. Set while running: of the next reset.",
        choices=SCENARIOS,
    )
    instruction: str = parameter(
        "", "Task of every episode; '': the seed chooses it. Set while running: changes the task at once."
    )
    step_mode: str = parameter(
        "realtime",
        "realtime: time runs on. lockstep: time stands still after each frame until a twist stamped "
        "at or after it and a gripper command have arrived, or ~/step is called.",
        choices=("realtime", "lockstep"),
        read_only=True,
    )
    publish_clock: bool = parameter(
        True,
        "Publish simulated time on /clock and stamp with it; false: stamp with the node's clock.",
        read_only=True,
    )
    real_time_factor: float = parameter(
        1.0, "Simulated seconds per second in realtime mode.", minimum=0.05, maximum=20.0, read_only=True
    )
    max_steps: int = parameter(
        0,
        "Camera frames after which an episode ends without success; 0: the task's own time limit.",
        minimum=0,
        maximum=100_000,
    )
    auto_reset: bool = parameter(True, "Start the next episode, with the next seed, when one has ended.")
    reset_delay_s: float = parameter(
        1.0, "Simulated time between the end of an episode and the next one [s].", minimum=0.0, maximum=60.0
    )
    command_timeout_s: float = parameter(
        0.3,
        "Age from which a twist counts as zero: the arm holds still [s].",
        minimum=0.04,
        maximum=5.0,
        read_only=True,
    )
    base_frame: str = parameter("base_link", "Frame of the robot's base.", read_only=True)
    ee_frame: str = parameter("gripper_tcp", "Frame of the end-effector, between the fingertips.", read_only=True)
    camera_frame: str = parameter("camera_optical_frame", "Optical frame of the camera (REP-103).", read_only=True)

    def __post_init__(self) -> None:
        if self.instruction:
            parse_instruction(self.instruction)

    @property
    def ticks_per_frame(self) -> int:
        return max(1, round(1.0 / (self.rate_hz * TICK_S)))

    def frame_limit(self, time_limit_s: float) -> int:
        """Camera frames after which an episode of a task with this time limit ends."""
        return self.max_steps or max(1, round(time_limit_s / (self.ticks_per_frame * TICK_S)))

    def reset_options(self, seed: int) -> dict[str, str]:
        """What the environment is told at the start of the episode of `seed`."""
        family = FAMILIES[seed % len(FAMILIES)] if self.family == ANY_FAMILY else self.family
        task = {"instruction": self.instruction} if self.instruction else {"family": family}
        return task | {"scenario": self.scenario}

    def environment(self) -> EnvironmentConfig:
        """The environment, stepped in ticks; the node renders an image only when a frame is due."""
        return EnvironmentConfig(
            camera=CameraConfig(width_px=self.image_width_px, height_px=self.image_height_px),
            control=ControlConfig(step_s=TICK_S),
            observe_rgb=False,
        )
