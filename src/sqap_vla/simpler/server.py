# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Serves SIMPLER on a Unix socket: one client at a time, one environment at a time.

For one client only (`once`), the process ends with it, however that one ended: the kernel closes its socket.

The socket is readable and writable for its owner only. A client that breaks the protocol, or goes away, is dropped and
the next one served; what goes wrong inside SIMPLER is answered as an error.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import stat
import time
from pathlib import Path
from typing import Any

from .environment import Environment, RequestError, make
from .protocol import VERSION, Arrays, Message, ProtocolError, receive, send

MAX_SEED = 2**31 - 1
ONCE_S = 60.0
_log = logging.getLogger("simpler_server")


class Server:
    """simpler_env: the module, or one with its `ENVIRONMENTS` and `make`. options: further arguments of `make`."""

    def __init__(self, simpler_env: Any, path: Path, options: dict[str, Any]) -> None:
        self._simpler_env, self._options, self._path = simpler_env, options, path
        self._environment: Environment | None = None
        self._listener = _listen(path)

    def close(self) -> None:
        self._listener.close()
        self._path.unlink(missing_ok=True)
        self._close_environment()

    def serve(self, once: bool = False) -> None:
        """Until the process is interrupted; once: until the first client has gone, or none came for ONCE_S."""
        self._listener.settimeout(ONCE_S if once else None)
        while True:
            try:
                connection, _ = self._listener.accept()
            except TimeoutError:
                return
            with connection:
                self._serve(connection)
            if once:
                return

    def _serve(self, connection: socket.socket) -> None:
        _log.info("client connected")
        try:
            while True:
                message, arrays = receive(connection)
                try:
                    answer, payload = self._carry_out(message, arrays)
                    send(connection, {"ok": True, **answer}, payload)
                except RequestError as error:
                    send(connection, {"ok": False, "error": str(error)})
        except ConnectionError:
            _log.info("client disconnected")
        except (ProtocolError, OSError) as error:
            _log.error("client dropped: %s", error)

    def _carry_out(self, message: Message, arrays: Arrays) -> tuple[Message, Arrays]:
        operation = message.get("op")
        if operation == "hello":
            return {"protocol": VERSION, "tasks": list(self._simpler_env.ENVIRONMENTS)}, {}
        if operation == "open":
            return self._open(str(message.get("task")), _object(message, "build", optional=True)), {}
        if operation == "close":
            self._close_environment()
            return {}, {}
        if operation not in ("reset", "step", "advance"):
            raise RequestError(f"operation {operation!r} is not known")
        if self._environment is None:
            raise RequestError(f"{operation} before open; open a task first")
        try:
            if operation == "reset":
                return self._environment.reset(_seed(message), _object(message, "options"))
            if operation == "advance":
                return self._environment.advance(), {}
            if "action" not in arrays:
                raise RequestError("step without the array 'action'")
            return self._environment.step(arrays["action"])
        except RequestError:
            raise
        except Exception as error:  # whatever SIMPLER raises belongs to the client; the server goes on
            _log.exception("%s failed", operation)
            raise RequestError(f"SIMPLER failed in {operation}: {type(error).__name__}: {error}") from error

    def _open(self, task: str, build: dict[str, Any] | None) -> Message:
        self._close_environment()
        start_s = time.monotonic()
        try:
            self._environment = Environment(make(self._simpler_env, task, build, self._options))
        except RequestError:
            raise
        except Exception as error:  # as above
            _log.exception("open failed")
            raise RequestError(f"SIMPLER cannot make '{task}': {type(error).__name__}: {error}") from error
        _log.info("%s is ready after %.1f s", task, time.monotonic() - start_s)
        return self._environment.describe()

    def _close_environment(self) -> None:
        if self._environment is not None:
            self._environment.close()
            self._environment = None


def _seed(message: Message) -> int:
    value = message.get("seed")
    if type(value) is not int or not 0 <= value <= MAX_SEED:
        raise RequestError(f"seed is {value!r}; it must be a whole number from 0 to {MAX_SEED}")
    return value


def _object(message: Message, name: str, optional: bool = False) -> dict[str, Any] | None:
    value = message.get(name)
    if not (isinstance(value, dict) or (optional and value is None)):
        raise RequestError(f"{name} is {value!r}; it must be a JSON object")
    return value


def _listen(path: Path) -> socket.socket:
    """A listening socket at `path`, in the place of one that nobody listens on any more. Raises OSError."""
    if path.exists():
        if not stat.S_ISSOCK(path.stat().st_mode):
            raise FileExistsError(f"'{path}' exists and is no socket; choose another path")
        with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(ConnectionRefusedError):
            probe.connect(str(path))
            raise FileExistsError(f"a server listens on '{path}' already; end it, or choose another path")
        path.unlink()
    listener = socket.socket(socket.AF_UNIX)
    before = os.umask(0o177)  # the socket's owner only, from its first moment on
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)
    listener.listen(1)
    return listener
