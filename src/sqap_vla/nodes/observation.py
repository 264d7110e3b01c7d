# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""From messages to an Observation. The live policy and offline replay both come through here.

What the policy cannot run without (image, instruction) raises InputError. What it can run without is left out and told
as a warning: without camera geometry the selector falls back, without base -> end-effector there is a chunk but no
command.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import tf2_ros
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from sqap_vla.nodes.conversions import InputError, camera_from_info, rgb_from_image, stamp_ns
from sqap_vla.nodes.transforms import lookup
from sqap_vla.pruning.projection import CameraModel
from sqap_vla.runtime.types import Observation


@dataclass(frozen=True)
class Frames:
    """Frame names and how old a transform may be. camera '' means: the image's own frame_id."""

    base: str
    end_effector: str
    camera: str = ""
    tolerance_s: float = 0.1
    timeout_s: float = 0.0
    rectified: bool = False

    def __post_init__(self) -> None:
        if not self.base or not self.end_effector or self.base == self.end_effector:
            raise ValueError(
                f"base_frame is '{self.base}', ee_frame is '{self.end_effector}'; both must be named, and differ"
            )


@dataclass(frozen=True)
class BuiltObservation:
    """An observation, and why parts of it are missing."""

    observation: Observation
    warnings: tuple[InputError, ...] = field(default=())


class ObservationBuilder:
    """Keeps the newest camera_info and instruction; joins them with an image and the transforms at its stamp."""

    def __init__(self, frames: Frames, buffer: tf2_ros.Buffer, instruction: str = "") -> None:
        self.frames = frames
        self.buffer = buffer
        self.instruction = instruction
        self._camera: CameraModel | InputError = InputError("camera_info_missing", "no camera_info has been received")

    def set_camera_info(self, msg: CameraInfo) -> None:
        """A camera_info that cannot be used is remembered as the reason why there is no geometry."""
        try:
            self._camera = camera_from_info(msg, self.frames.rectified)
        except InputError as error:
            self._camera = error

    def build(self, msg: Image | CompressedImage) -> BuiltObservation:
        """Raises InputError for an image or instruction that cannot be used."""
        if not self.instruction.strip():
            raise InputError(
                "instruction_empty",
                "the instruction is empty; publish a sentence on 'instruction' or set the parameter",
            )
        rgb = rgb_from_image(msg)
        at_ns = stamp_ns(msg.header.stamp)
        warnings: list[InputError] = []
        camera = self._camera_of(rgb, warnings)
        camera_T_ee = self._lookup(self.frames.camera or msg.header.frame_id, at_ns, warnings)
        base_T_ee = self._lookup(self.frames.base, at_ns, warnings)
        observation = Observation(
            rgb=rgb,
            stamp_ns=at_ns,
            instruction=self.instruction,
            camera=camera,
            camera_T_ee=camera_T_ee,
            base_T_ee=base_T_ee,
        )
        return BuiltObservation(observation, tuple(warnings))

    def base_T_ee(self, at_ns: int) -> np.ndarray:
        """Raises InputError."""
        frames = self.frames
        return lookup(self.buffer, frames.base, frames.end_effector, at_ns, frames.tolerance_s)

    def _camera_of(self, rgb: np.ndarray, warnings: list[InputError]) -> CameraModel | None:
        camera = self._camera
        if isinstance(camera, CameraModel) and (camera.width, camera.height) != (rgb.shape[1], rgb.shape[0]):
            camera = InputError(
                "camera_info_size",
                f"camera_info is for {camera.width}x{camera.height}, the image is "
                f"{rgb.shape[1]}x{rgb.shape[0]}; publish the intrinsics of the image that is sent",
            )
        if isinstance(camera, InputError):
            warnings.append(camera)
            return None
        return camera

    def _lookup(self, target: str, at_ns: int, warnings: list[InputError]) -> np.ndarray | None:
        frames = self.frames
        if not target:
            warnings.append(InputError("camera_frame_unknown", "the image has no frame_id and camera_frame is not set"))
            return None
        try:
            return lookup(self.buffer, target, frames.end_effector, at_ns, frames.tolerance_s, frames.timeout_s)
        except InputError as error:
            kind = "ee_" if target == frames.base else "camera_"
            warnings.append(InputError(kind + error.reason, str(error)))
            return None
