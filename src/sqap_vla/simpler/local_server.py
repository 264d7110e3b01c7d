# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""SIMPLER's server as a child of this process, with a socket of its own; or one that somebody else started."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqap_vla.simpler.client import SimplerClient, SimplerError

PROGRAM = Path(__file__).resolve().parent
_LAST_LINES = 5


@dataclass(frozen=True)
class ServerSource:
    """Where SIMPLER comes from: `python`, the interpreter it is installed for, or `socket`, on which a server listens.
    make_options: further arguments of every scene, such as {"shader_dir": "ibl"}; a server that runs has its own.

    Raises ValueError unless it is exactly one of the two.
    """

    python: str = ""
    socket: str = ""
    make_options: dict[str, Any] = field(default_factory=dict)
    timeout_s: float = 600.0

    def __post_init__(self) -> None:
        if bool(self.python) == bool(self.socket):
            raise ValueError(
                "give either the Python interpreter that SimplerEnv is installed for, or the socket of a server that "
                "runs with it"
            )
        if self.socket and self.make_options:
            raise ValueError("make_options are of a server that is started here; give them to the one that runs")

    def connect(self) -> SimplerConnection:
        return SimplerConnection(self)


class SimplerConnection:
    """A client, with the server's process where it was started here. Raises SimplerError where there is none."""

    def __init__(self, source: ServerSource) -> None:
        self._process: subprocess.Popen | None = None
        self._directory: tempfile.TemporaryDirectory | None = None
        path = Path(source.socket)
        if source.python:
            # Short, as sockets' paths must be, and its owner's only.
            self._directory = tempfile.TemporaryDirectory(prefix="sqap_vla_")
            path = Path(self._directory.name) / "socket"
            self._start(source, path)
        try:
            self.client = SimplerClient(path, source.timeout_s, self._has_ended)
        except SimplerError as error:
            raise self.explained(error) from error

    def close(self) -> None:
        """Ends the server, too, if it was started here."""
        if hasattr(self, "client"):
            self.client.close()
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(10.0)
            except subprocess.TimeoutExpired:  # a renderer that hangs
                self._process.kill()
                self._process.wait()
        if self._directory is not None:
            self._directory.cleanup()

    def explained(self, error: SimplerError) -> SimplerError:
        """`error`, with the last lines of a server that has ended. Closes the connection."""
        ended = ""
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(1.0)  # its socket closes a moment before it has ended
        if self._has_ended():
            lines = (Path(self._directory.name) / "log").read_text(encoding="utf-8", errors="replace").splitlines()
            said = "\n  ".join(line for line in lines[-_LAST_LINES:] if line.strip())
            ended = f"SIMPLER's server ended with status {self._process.returncode}" + (f":\n  {said}" if said else "")
        self.close()
        return SimplerError(ended or str(error))

    def _start(self, source: ServerSource, path: Path) -> None:
        """Without PYTHONPATH: SIMPLER's interpreter is another one, and ours of no use to it."""
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        arguments = ["--socket", str(path), "--once", "--make-options", json.dumps(source.make_options)]
        with open(path.parent / "log", "wb") as log:
            try:
                self._process = subprocess.Popen(
                    [source.python, str(PROGRAM), *arguments], stdout=log, stderr=log, env=environment
                )
            except OSError as error:
                self.close()
                raise SimplerError(
                    f"'{source.python}' cannot be run ({error.strerror}); give the Python interpreter that SimplerEnv "
                    "is installed for, such as /opt/simpler/bin/python"
                ) from error

    def _has_ended(self) -> bool:
        return self._process is not None and self._process.poll() is not None
