# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""What goes over the socket between SIMPLER's process and its client: one request, one answer, in turn.

A frame is

    4 bytes    b"SQV1"
    uint32 LE  length of the header, at most MAX_HEADER_BYTES
    uint32 LE  length of the payload, at most MAX_PAYLOAD_BYTES
    header     JSON object in UTF-8, without NaN and infinity
    payload    the arrays that header["arrays"] lists as [name, dtype, shape], one after the other, C order

dtype is "u1" (uint8) or "f8" (float64, little-endian). Lengths are checked before anything is read or allocated, so a
peer can make the other refuse, not grow. Nothing is executed and no object is rebuilt: no pickle.

Requests carry "op"; answers carry "ok", and where it is false "error", one line for a person.

    hello                                 -> protocol, tasks
    open     task, build (JSON or null)   -> robot, camera, control_hz, max_steps, joints
    reset    seed, options (JSON object)  -> observation
    step     array action [7]             -> observation
    advance  (next part of a long task)   -> instruction
    close                                 -> (nothing), and the environment is gone

    build: arguments that SIMPLER's evaluation makes an environment with; null: task is one of the prepared ones.
    options: SIMPLER's own of a reset, such as {"obj_init_options": {"episode_id": 3}}.
    observation: instruction, success, truncated, steps, stats (JSON object); arrays rgb u1 [H, W, 3],
        intrinsic [3, 3], camera_T_world [4, 4], world_T_base [7], world_T_ee [7] (x y z [m], qw qx qy qz),
        joint_position [J], joint_velocity [J]
"""

from __future__ import annotations

import json
import math
import select
import socket
import struct
import time
from collections.abc import Callable
from typing import Any

import numpy as np

VERSION = 2
MAGIC = b"SQV1"
MAX_HEADER_BYTES = 64 * 1024
MAX_PAYLOAD_BYTES = 32 * 1024 * 1024  # a picture of 3840x2160 has 25 MB
MAX_ARRAYS = 16
MAX_DIMENSIONS = 3
FRAME_TIMEOUT_S = 10.0  # from the first byte of a frame to its last: local sockets take milliseconds
DTYPES = {"u1": np.dtype("u1"), "f8": np.dtype("<f8")}
_PREFIX = struct.Struct("<4sII")
_POLL_S = 0.1

Message = dict[str, Any]
Arrays = dict[str, np.ndarray]


class ProtocolError(RuntimeError):
    """The peer sent what is no frame, or took too long. The connection is of no further use."""


class Interrupted(RuntimeError):
    """The waiting was ended from this side."""


def encode(message: Message, arrays: Arrays | None = None) -> bytes:
    """One frame. Arrays of other types are converted to float64. Raises ProtocolError beyond the limits."""
    listed, parts = [], []
    for name, array in (arrays or {}).items():
        kind = "u1" if array.dtype == np.uint8 else "f8"
        listed.append([name, kind, list(array.shape)])
        parts.append(np.ascontiguousarray(array, DTYPES[kind]).tobytes())
    try:
        header = json.dumps({**message, "arrays": listed}, allow_nan=False).encode()
    except ValueError as error:
        raise ProtocolError(f"message cannot be sent: {error}") from error
    payload = b"".join(parts)
    _check_lengths(len(header), len(payload))
    return _PREFIX.pack(MAGIC, len(header), len(payload)) + header + payload


def send(connection: socket.socket, message: Message, arrays: Arrays | None = None) -> None:
    """Sends one frame whole. Raises ProtocolError, or OSError where the peer is gone."""
    connection.settimeout(FRAME_TIMEOUT_S)
    connection.sendall(encode(message, arrays))


def receive(
    connection: socket.socket, timeout_s: float = math.inf, cancelled: Callable[[], bool] = lambda: False
) -> tuple[Message, Arrays]:
    """The next frame, which must begin within `timeout_s`.

    Raises ProtocolError for what is no frame or comes too slowly, ConnectionError where the peer is gone, Interrupted
    where `cancelled()` became true.
    """
    first = _read(connection, 1, time.monotonic() + timeout_s, cancelled)
    deadline_s = time.monotonic() + FRAME_TIMEOUT_S
    prefix = first + _read(connection, _PREFIX.size - 1, deadline_s, cancelled)
    magic, header_bytes, payload_bytes = _PREFIX.unpack(prefix)
    if magic != MAGIC:
        raise ProtocolError(f"frame begins with {magic!r}, not {MAGIC!r}; is it another program's socket?")
    _check_lengths(header_bytes, payload_bytes)
    header = _read(connection, header_bytes, deadline_s, cancelled)
    return decode(header, _read(connection, payload_bytes, deadline_s, cancelled))


def decode(header: bytes, payload: bytes) -> tuple[Message, Arrays]:
    """Message and arrays of a frame's two parts. Raises ProtocolError."""
    try:
        message = json.loads(header.decode(), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"header is no JSON in UTF-8: {error}") from error
    if not isinstance(message, dict) or not isinstance(message.get("arrays"), list):
        raise ProtocolError("header is no JSON object with a list of arrays")
    listed = message.pop("arrays")
    if len(listed) > MAX_ARRAYS:
        raise ProtocolError(f"frame lists {len(listed)} arrays; at most {MAX_ARRAYS} are allowed")
    arrays, offset = {}, 0
    for entry in listed:
        name, dtype, shape = _checked_entry(entry)
        size = math.prod(shape) * dtype.itemsize
        if offset + size > len(payload):
            raise ProtocolError(f"array '{name}' of shape {shape} goes beyond the payload of {len(payload)} bytes")
        arrays[name] = np.frombuffer(payload, dtype, math.prod(shape), offset).reshape(shape)
        offset += size
    if offset != len(payload):
        raise ProtocolError(f"payload has {len(payload)} bytes; its arrays take {offset}")
    return message, arrays


def _checked_entry(entry: Any) -> tuple[str, np.dtype, tuple[int, ...]]:
    if not (isinstance(entry, list) and len(entry) == 3):
        raise ProtocolError(f"array is listed as {entry!r}; it must be [name, dtype, shape]")
    name, kind, shape = entry
    sizes = isinstance(shape, list) and len(shape) <= MAX_DIMENSIONS and all(type(n) is int and n >= 0 for n in shape)
    if not (isinstance(name, str) and isinstance(kind, str) and kind in DTYPES and sizes):
        raise ProtocolError(f"array is listed as {entry!r}; dtypes are {', '.join(DTYPES)}, sizes whole numbers")
    return name, DTYPES[kind], tuple(shape)


def _check_lengths(header_bytes: int, payload_bytes: int) -> None:
    for what, length, limit in (
        ("header", header_bytes, MAX_HEADER_BYTES),
        ("payload", payload_bytes, MAX_PAYLOAD_BYTES),
    ):
        if length > limit:
            raise ProtocolError(f"{what} of {length} bytes; at most {limit} are allowed")


def _no_constant(text: str) -> None:
    raise ValueError(f"{text} is not allowed")


def _read(connection: socket.socket, length: int, deadline_s: float, cancelled: Callable[[], bool]) -> bytes:
    """Exactly `length` bytes."""
    data = bytearray()
    while len(data) < length:
        if cancelled():
            raise Interrupted("waiting for the peer was ended")
        if time.monotonic() > deadline_s:
            raise ProtocolError(f"the peer sent {len(data)} of {length} bytes, then nothing more in time")
        if not select.select([connection], [], [], _POLL_S)[0]:
            continue
        part = connection.recv(min(length - len(data), 1 << 20))
        if not part:
            raise ConnectionError("the peer closed the connection")
        data += part
    return bytes(data)
