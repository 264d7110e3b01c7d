# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""What goes into the policy and what comes out of it, without ROS.

Frames: `base` is the robot's base frame, `ee` the end-effector, `camera` the camera's optical frame (REP-103: z
forward, x right, y down). Transforms are 4x4 float64 and named `dst_T_src`. Metres, radians, seconds; stamps in
nanoseconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from sqap_vla.pruning.projection import CameraModel
from sqap_vla.pruning.ring import Ring
from sqap_vla.pruning.selection import TokenSelection

CHUNK_STEPS = 16
ACTION_DIM = 7


def _check_transform(name: str, transform: np.ndarray | None) -> None:
    if transform is None:
        return
    if transform.shape != (4, 4) or not np.isfinite(transform).all():
        raise ValueError(
            f"{name} has shape {transform.shape} or a value that is not finite; give a finite [4, 4] matrix"
        )


@dataclass(frozen=True)
class Observation:
    """One camera frame and the geometry at its stamp.

    rgb: uint8 [H, W, 3]. camera: intrinsics for exactly this image size, or None.
    camera_T_ee: pose of the end-effector in the camera's optical frame at `stamp_ns`, or None.
    base_T_ee: pose of the end-effector in the base frame at `stamp_ns`, or None (then the chunk gives no command).
    Raises ValueError for a wrong image, an empty instruction, a transform that is not finite, intrinsics of another
    size.
    """

    rgb: np.ndarray
    stamp_ns: int
    instruction: str
    camera: CameraModel | None = None
    camera_T_ee: np.ndarray | None = None
    base_T_ee: np.ndarray | None = None

    def __post_init__(self) -> None:
        rgb = self.rgb
        if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or 0 in rgb.shape:
            raise ValueError(f"rgb is {rgb.dtype} {rgb.shape}; it must be uint8 [H, W, 3]")
        if not self.instruction.strip():
            raise ValueError("instruction is empty; the policy needs a sentence such as 'pick up the red cube'")
        if self.camera is not None and (self.camera.width, self.camera.height) != (rgb.shape[1], rgb.shape[0]):
            raise ValueError(
                f"camera_info is for {self.camera.width}x{self.camera.height}, "
                f"the image is {rgb.shape[1]}x{rgb.shape[0]}; publish the intrinsics of the image that is sent"
            )
        _check_transform("camera_T_ee", self.camera_T_ee)
        _check_transform("base_T_ee", self.base_T_ee)


@dataclass(frozen=True)
class StageTimes:
    """Wall time of each stage of one inference, milliseconds."""

    preprocess_ms: float
    vision_ms: float
    llm_ms: float  # projector output to cognition feature, token selection included
    head_ms: float
    total_ms: float


@dataclass(frozen=True)
class ActionChunk:
    """Sixteen end-effector actions.

    actions: float64 [16, 7], un-normalised: dx dy dz [m] along the axes of the base frame, droll dpitch dyaw [rad],
    static xyz (R_target = R_delta R_ee, about the end-effector's origin), gripper open in {0, 1} (after the ensemble
    between 0 and 1). step_s: time of one row. stamp_ns: stamp of the observation. base_T_ee: the observation's, the
    anchor of the chunk. selection: visual tokens kept inside the LLM and why, on the CPU. ring: the projected
    end-effector and its protected tokens.
    fallback: '' or why the method ran without geometry. computed_tokens: how many tokens each decoder layer that ran
    computed; fewer than the sequence has where tokens were dropped or taken from the previous frame.
    """

    actions: np.ndarray
    step_s: float
    stamp_ns: int
    selection: TokenSelection
    ring: Ring
    times: StageTimes
    base_T_ee: np.ndarray | None = None
    fallback: str = field(default="")
    computed_tokens: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.actions.shape != (CHUNK_STEPS, ACTION_DIM) or self.actions.dtype != np.float64:
            raise ValueError(f"actions is {self.actions.dtype} {self.actions.shape}; it must be float64 [16, 7]")
