# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Every parameter of the SIMPLER bridge, with description, unit, range and default."""

from __future__ import annotations

from dataclasses import dataclass

from sqap_vla.nodes.parameters import parameter


@dataclass(frozen=True)
class SimplerBridgeParameters:
    task: str = parameter(
        "google_robot_pick_coke_can",
        "Task of SIMPLER. Set while running: of the next reset.",
    )
    socket: str = parameter("", "Path of the socket that SIMPLER's server listens on. Required.", read_only=True)
    server_timeout_s: float = parameter(
        180.0,
        "How long to wait for the server, and for each of its answers [s].",
        minimum=1.0,
        maximum=3600.0,
        read_only=True,
    )
    seed: int = parameter(
        0,
        "Seed of the first episode; later ones count up. Set while running: seed of the next reset.",
        minimum=0,
        maximum=2**31 - 1,
    )
    episode_id: int = parameter(
        -1,
        "Which of the task's own layouts the first episode has; later ones count up. -1: the seed chooses.",
        minimum=-1,
        maximum=100_000,
    )
    episodes: int = parameter(
        0, "Number of episodes after which the node ends; 0: it goes on.", minimum=0, maximum=1_000_000, read_only=True
    )
    stop_at_success: bool = parameter(
        False, "An episode ends with its first success; false: it runs to its last step, as published results do."
    )
    max_steps: int = parameter(
        0, "Steps after which an episode ends; 0: the task's own limit.", minimum=0, maximum=100_000
    )
    step_mode: str = parameter(
        "lockstep",
        "lockstep: time stands still until the frame is answered, so latency is free, as in published results. "
        "realtime: time runs on, and latency costs.",
        choices=("lockstep", "realtime"),
        read_only=True,
    )
    await_chunk: bool = parameter(
        True,
        "lockstep: take only commands that were made after a chunk came for the frame. false: any command stamped at "
        "or after the frame, for commanders that publish no chunk.",
        read_only=True,
    )
    answer_timeout_s: float = parameter(
        60.0,
        "lockstep: wall time after which an unanswered frame is sent again under a new stamp [s].",
        minimum=0.5,
        maximum=3600.0,
        read_only=True,
    )
    real_time_factor: float = parameter(
        1.0, "Simulated seconds per second in realtime mode.", minimum=0.01, maximum=20.0, read_only=True
    )
    command_timeout_s: float = parameter(
        0.3,
        "Realtime: age from which a twist counts as zero: the arm holds still [s].",
        minimum=0.04,
        maximum=5.0,
        read_only=True,
    )
    episode_gap_s: float = parameter(
        10.0,
        "Simulated time between two episodes [s]: longer than a chunk, so that none reaches into the next episode.",
        minimum=0.1,
        maximum=60.0,
        read_only=True,
    )
    image_reliability: str = parameter(
        "reliable",
        "Reliability with which image and camera_info are published.",
        choices=("reliable", "best_effort"),
        read_only=True,
    )
    base_frame: str = parameter("base_link", "Frame of the robot's base.", read_only=True)
    ee_frame: str = parameter("gripper_tcp", "Frame of the end-effector.", read_only=True)
    camera_frame: str = parameter("camera_optical_frame", "Optical frame of the camera (REP-103).", read_only=True)

    def __post_init__(self) -> None:
        if not self.socket:
            raise ValueError("parameter socket is ''; give the path that SIMPLER's server listens on")
