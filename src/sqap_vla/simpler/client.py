# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The other end of the socket: SIMPLER as an object, its geometry relative to the robot's base."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .protocol import VERSION, Arrays, Interrupted, Message, ProtocolError, receive, send

_RETRY_S = 0.2


class SimplerError(RuntimeError):
    """SIMPLER refused a request, or cannot be reached."""


@dataclass(frozen=True)
class SimplerTask:
    """What the server says of an opened task. robot: google_robot or widowx."""

    name: str
    robot: str
    camera: str
    control_hz: float
    max_steps: int
    joints: tuple[str, ...]

    def __post_init__(self) -> None:
        if not 0.1 <= self.control_hz <= 1000:
            raise SimplerError(f"control_hz is {self.control_hz}; it must be 0.1 to 1000")

    @property
    def step_ns(self) -> int:
        """Time of one step [ns]."""
        return round(1e9 / self.control_hz)


@dataclass(frozen=True, eq=False)
class SimplerState:
    """After a reset or a step. rgb uint8 [H, W, 3]; intrinsic [3, 3]; poses [4, 4]; joints [J] in rad or m."""

    instruction: str
    success: bool
    truncated: bool
    steps: int
    stats: dict[str, Any]
    rgb: np.ndarray
    intrinsic: np.ndarray
    base_T_camera: np.ndarray
    base_T_ee: np.ndarray
    joint_position: np.ndarray
    joint_velocity: np.ndarray


class SimplerClient:
    """A connection to a server at `path`; waits up to `timeout_s` for it to appear, and as long for each answer.

    cancelled: looked at while waiting; raises SimplerError when it becomes true.
    """

    def __init__(self, path: Path, timeout_s: float, cancelled: Callable[[], bool] = lambda: False) -> None:
        self._path, self._timeout_s, self._cancelled = path, timeout_s, cancelled
        self._socket = self._connect()
        try:
            version = self._ask({"op": "hello"})[0].get("protocol")
        except SimplerError:
            self.close()
            raise
        if version != VERSION:
            self.close()
            raise SimplerError(f"the server speaks protocol {version}, this client {VERSION}; use the same release")

    def close(self) -> None:
        self._socket.close()

    def open(self, task: str, build: dict[str, Any] | None = None) -> SimplerTask:
        """Makes the environment of a task: seconds to a minute. build: None for one of SIMPLER's prepared tasks, else
        the arguments that its evaluation makes environment `task` with (benchmark.py)."""
        told, _ = self._ask({"op": "open", "task": task, "build": build})
        try:
            return SimplerTask(
                name=task,
                robot=str(told["robot"]),
                camera=str(told["camera"]),
                control_hz=float(told["control_hz"]),
                max_steps=int(told["max_steps"]),
                joints=tuple(str(name) for name in told["joints"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise SimplerError(f"the server's description of '{task}' is incomplete: {error}") from error

    def reset(self, seed: int, options: dict[str, Any] | None = None) -> SimplerState:
        """Starts an episode. options: of SIMPLER's reset; what they leave open the seed chooses."""
        return state_from(*self._ask({"op": "reset", "seed": seed, "options": options or {}}))

    def step(self, action: np.ndarray) -> SimplerState:
        """action [7]: dx dy dz [m], axis-angle [rad], along the base's axes, gripper in SIMPLER's convention."""
        return state_from(*self._ask({"op": "step"}, {"action": action}))

    def advance(self) -> str:
        """Goes to the next part of a task of several parts; returns its instruction."""
        return str(self._ask({"op": "advance"})[0]["instruction"])

    def _connect(self) -> socket.socket:
        deadline_s = time.monotonic() + self._timeout_s
        while True:
            connection = socket.socket(socket.AF_UNIX)
            try:
                connection.connect(str(self._path))
                return connection
            except OSError as error:
                connection.close()
                if time.monotonic() > deadline_s or self._cancelled():
                    raise SimplerError(
                        f"no SIMPLER server on '{self._path}' within {self._timeout_s:g} s ({error.strerror}); "
                        "start one with SIMPLER's interpreter, or look at its output"
                    ) from error
            time.sleep(_RETRY_S)

    def _ask(self, message: Message, arrays: Arrays | None = None) -> tuple[Message, Arrays]:
        try:
            send(self._socket, message, arrays)
            answer, payload = receive(self._socket, self._timeout_s, self._cancelled)
        except (ProtocolError, Interrupted, OSError) as error:
            raise SimplerError(f"SIMPLER's server does not answer '{message['op']}': {error}") from error
        if answer.get("ok") is not True:
            raise SimplerError(str(answer.get("error", "the server refused without a reason")))
        return answer, payload


def state_from(message: Message, arrays: Arrays) -> SimplerState:
    """The state that an answer tells. Raises SimplerError where a part is missing or has another shape."""
    shapes = {"intrinsic": (3, 3), "camera_T_world": (4, 4), "world_T_base": (7,), "world_T_ee": (7,)}
    try:
        for name, shape in shapes.items():
            if arrays[name].shape != shape or not np.isfinite(arrays[name]).all():
                raise SimplerError(f"'{name}' is {arrays[name].tolist()}; it must have shape {shape}, all finite")
        if arrays["rgb"].ndim != 3 or arrays["rgb"].shape[2] != 3 or arrays["rgb"].dtype != np.uint8:
            raise SimplerError(f"picture has shape {arrays['rgb'].shape}; it must be uint8 [H, W, 3]")
        base_T_world = np.linalg.inv(matrix_from_pose(arrays["world_T_base"]))
        return SimplerState(
            instruction=str(message["instruction"]),
            success=bool(message["success"]),
            truncated=bool(message["truncated"]),
            steps=int(message["steps"]),
            stats=dict(message["stats"]),
            rgb=arrays["rgb"],
            intrinsic=arrays["intrinsic"],
            base_T_camera=base_T_world @ np.linalg.inv(arrays["camera_T_world"]),
            base_T_ee=base_T_world @ matrix_from_pose(arrays["world_T_ee"]),
            joint_position=arrays["joint_position"],
            joint_velocity=arrays["joint_velocity"],
        )
    except (KeyError, TypeError, np.linalg.LinAlgError) as error:
        raise SimplerError(f"the server's answer is incomplete: {error}") from error


def matrix_from_pose(pose: np.ndarray) -> np.ndarray:
    """[4, 4] of x y z [m], qw qx qy qz; the quaternion, single precision over there, is normalised here."""
    norm = np.linalg.norm(pose[3:])
    if not 0.9 < norm < 1.1:
        raise SimplerError(f"pose {pose.tolist()} has a quaternion of length {norm:.3f}; it must be 1")
    w, x, y, z = pose[3:] / norm
    matrix = np.eye(4)
    matrix[:3, 3] = pose[:3]
    matrix[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return matrix
