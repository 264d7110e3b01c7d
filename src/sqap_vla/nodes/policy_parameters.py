# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Every parameter of the policy node, with description, unit, range and default.

Most take effect when the node is configured and are refused while it is; instruction and limits may be set while it
runs.
"""

from __future__ import annotations

from dataclasses import dataclass

from rclpy.exceptions import InvalidTopicNameException
from rclpy.validate_topic_name import validate_topic_name

from sqap_vla.nodes.command_parameters import CommandParameters
from sqap_vla.nodes.joint_parameters import JointParameters
from sqap_vla.nodes.method_parameters import MethodParameters, options_of
from sqap_vla.nodes.observation import Frames
from sqap_vla.nodes.parameters import parameter
from sqap_vla.runtime.method import METHODS, Method, make_method

MAX_LIVE_AGE_S = 2.0
_AGES = ("max_chunk_age_s", "max_silence_s", "max_ee_age_s", "max_joint_age_s")
_MAY_BE_EMPTY = ("deadman_topic",)
_TOPICS = (
    "manifest_topic",
    "image_topic",
    "camera_info_topic",
    "instruction_topic",
    "robot_description_topic",
    "joint_states_topic",
    *_MAY_BE_EMPTY,
)


@dataclass(frozen=True)
class PolicyParameters(JointParameters, CommandParameters, MethodParameters):
    # Model
    checkpoint: str = parameter(
        "",
        "CogACT checkpoint directory, or an artifact directory made by model_loader. '': the artifact "
        "that is announced on manifest_topic.",
        static=True,
    )
    manifest_topic: str = parameter("model_loader/manifest", "Where model_loader announces its artifact.", static=True)
    manifest_timeout_s: float = parameter(
        30.0, "How long configuring waits for a manifest [s].", minimum=0.0, maximum=3600.0, static=True
    )
    follow_manifest: bool = parameter(
        True,
        "Where the checkpoint is an announced artifact: a new announcement is loaded and taken while the node runs.",
        static=True,
    )
    tokenizer: str = parameter(
        "", "Hugging Face tokenizer: a tokenizer.json or a directory. '': the one beside the checkpoint.", static=True
    )
    device: str = parameter(
        "auto", "Torch device: auto takes cuda where there is one.", choices=("auto", "cpu", "cuda"), static=True
    )
    cpu_threads: int = parameter(
        0,
        "Threads of the network on a CPU; 0: as torch chooses, one for each core. A small network is faster on one "
        "where others need the cores.",
        minimum=0,
        maximum=256,
        static=True,
    )
    dtype: str = parameter(
        "auto",
        "Type of what is not quantized; auto: bfloat16 on cuda, float32 on cpu, an artifact's own.",
        choices=("auto", "float32", "bfloat16"),
        static=True,
    )
    unnorm_key: str = parameter("", "Entry of dataset_statistics.json that un-normalises the actions.", static=True)
    ddim_steps: int = parameter(10, "Denoising steps of the action head.", minimum=1, maximum=100, static=True)
    cfg_scale: float = parameter(1.5, "Classifier-free guidance; 1 is none.", minimum=1.0, maximum=10.0, static=True)
    seed: int = parameter(
        0,
        "Seed of the head's noise; together with the image's stamp it fixes the chunk.",
        minimum=0,
        maximum=2**31 - 1,
        static=True,
    )
    method: str = parameter(
        "sqap", "How the network is made cheaper; docs/method.md.", choices=tuple(METHODS), static=True
    )
    # Robot
    step_s: float = parameter(
        0.2, "Time of one row of the chunk [s]: 1/3 Google robot, 1/5 WidowX.", minimum=0.01, maximum=5.0, static=True
    )
    ensemble_horizon: int = parameter(
        7, "Chunks that the adaptive ensemble blends: 2 Google robot, 7 WidowX.", minimum=1, maximum=16, static=True
    )
    ensemble_alpha: float = parameter(
        0.1, "Sharpness of the adaptive ensemble's weights.", minimum=0.0, maximum=10.0, static=True
    )
    gripper: str = parameter(
        "widowx",
        "Gripper semantics of the policy's training data.",
        choices=("google_robot", "widowx", "absolute"),
        static=True,
    )
    base_frame: str = parameter("base_link", "Frame in whose axes the actions are.", static=True)
    ee_frame: str = parameter("gripper_tcp", "End-effector frame.", static=True)
    camera_frame: str = parameter("", "Optical frame of the camera; '': the image's frame_id.", static=True)
    # Inputs
    image_topic: str = parameter(
        "image", "Camera image; relative to the namespace unless it begins with /.", static=True
    )
    camera_info_topic: str = parameter("camera_info", "Intrinsics of that image.", static=True)
    instruction_topic: str = parameter("instruction", "Task in words, std_msgs/String, latched.", static=True)
    image_transport: str = parameter(
        "raw",
        "raw subscribes to image_topic, compressed to image_topic/compressed.",
        choices=("raw", "compressed"),
        static=True,
    )
    sensor_reliability: str = parameter(
        "best_effort",
        "Reliability of the image and camera_info subscriptions.",
        choices=("best_effort", "reliable"),
        static=True,
    )
    image_is_rectified: bool = parameter(
        False, "The image went through image_proc: use P and no distortion.", static=True
    )
    instruction: str = parameter("", "The task in words. A message on the instruction topic replaces it.")
    max_image_age_s: float = parameter(
        0.5, "Oldest image that is used, by its stamp [s].", minimum=0.01, maximum=60.0, static=True
    )
    future_tolerance_s: float = parameter(
        0.1, "How far ahead of the clock a stamp may be [s].", minimum=0.0, maximum=5.0, static=True
    )
    tf_tolerance_s: float = parameter(
        0.1, "How far from the image's stamp the newest transform may be [s].", minimum=0.0, maximum=5.0, static=True
    )
    tf_timeout_s: float = parameter(
        0.05, "How long to wait for a transform at the image's stamp [s].", minimum=0.0, maximum=1.0, static=True
    )
    max_ee_age_s: float = parameter(
        0.5,
        "Oldest base to end-effector transform under which commands go on [s].",
        minimum=0.01,
        maximum=10.0,
        static=True,
    )

    def __post_init__(self) -> None:
        """Raises ValueError for what does not fit together."""
        for name in _TOPICS:
            topic = getattr(self, name)
            if not topic and name in _MAY_BE_EMPTY:
                continue
            try:
                validate_topic_name(topic)
            except InvalidTopicNameException as error:
                raise ValueError(f"{name} is '{topic}', which is no topic name: {error}") from error
        self.make_method()
        self.make_frames()
        for name in _AGES:
            age_s = getattr(self, name)
            if not self.dry_run and age_s > MAX_LIVE_AGE_S:
                raise ValueError(
                    f"{name} is {age_s:g} s and dry_run is false; a robot that hears nothing more must stop within "
                    f"{MAX_LIVE_AGE_S:g} s: give at most that, or dry_run"
                )

    def make_method(self) -> Method:
        """Raises ValueError."""
        return make_method(self.method, **options_of(self))

    def make_frames(self) -> Frames:
        """Raises ValueError."""
        return Frames(
            base=self.base_frame,
            end_effector=self.ee_frame,
            camera=self.camera_frame,
            tolerance_s=self.tf_tolerance_s,
            timeout_s=self.tf_timeout_s,
            rectified=self.image_is_rectified,
        )
