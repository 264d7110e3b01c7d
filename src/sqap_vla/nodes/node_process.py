# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Starting one of our nodes as a process of its own and taking it through its lifecycle, without launch."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.node import Node

from sqap_vla.nodes import qos
from sqap_vla.nodes.lifecycle_client import LifecycleClient
from sqap_vla.nodes.parameters import ros_name
from sqap_vla.nodes.parent_watch import ParentPipe
from sqap_vla.nodes.spinning import spin_until

STOP_TIMEOUT_S = 15.0


class NodeFailed(RuntimeError):
    """A node ended, or refused a transition."""


def parameter_values(params: Any) -> dict[str, Any]:
    """A parameter dataclass as ROS parameters; what is unset stays out."""
    values = {ros_name(field): getattr(params, field.name) for field in dataclasses.fields(params)}
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in values.items()
        if value not in (None, ())
    }


class NodeProcess:
    """`python -m sqap_vla.nodes.<module>` with parameters; leaving the with block ends it by SIGINT."""

    def __init__(
        self,
        module: str,
        name: str,
        parameters: Mapping[str, Any],
        log: Path | None = None,
        files: Sequence[Path] = (),
        remap: Mapping[str, str] | None = None,
    ) -> None:
        """files: parameter files before `parameters`. remap: topic names. log: file for the output, None for ours."""
        self.name = name
        self._directory = tempfile.TemporaryDirectory(prefix="sqap_vla_")
        file = Path(self._directory.name) / "parameters.yaml"
        file.write_text(yaml.safe_dump({"/**": {"ros__parameters": dict(parameters)}}), encoding="utf-8")
        self._log = open(log, "wb") if log else None  # noqa: SIM115 closed with the process
        options = [
            ("-r", f"__node:={name}"),
            *(("-r", f"{old}:={new}") for old, new in (remap or {}).items()),
            *(("--params-file", str(path)) for path in (*files, file)),
        ]
        command = [
            sys.executable,
            "-m",
            f"sqap_vla.nodes.{module}",
            "--ros-args",
            *(word for option in options for word in option),
        ]
        self._lifeline = ParentPipe()
        self._process = subprocess.Popen(
            command,
            stdout=self._log,
            stderr=subprocess.STDOUT if self._log else None,
            env=dict(os.environ) | self._lifeline.environment,
            start_new_session=True,
            pass_fds=(self._lifeline.child_fd,),
        )
        self._lifeline.started()

    def __enter__(self) -> NodeProcess:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        return self._process.pid

    def stop(self) -> int:
        """SIGINT, and SIGKILL to what does not end in time. Returns the exit status. May be called again."""
        if self.alive:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._lifeline.close()
        if self._log:
            self._log.close()
        self._directory.cleanup()
        return self._process.returncode

    def transition(self, helper: Node, *transitions: int, timeout_s: float = 600.0) -> None:
        """Takes the node through lifecycle transitions. Raises NodeFailed."""
        status: list[DiagnosticStatus] = []
        subscription = helper.create_subscription(DiagnosticStatus, f"{self.name}/status", status.append, qos.latched())
        try:
            with LifecycleClient(helper, self.name, lambda: self.alive) as client:
                if client.state(60.0) is None and self.alive:
                    raise NodeFailed(f"node '{self.name}' offers no lifecycle service after 60 s; see its log")
                for transition in transitions:
                    made = client.change(transition, timeout_s)
                    if not self.alive:
                        raise NodeFailed(
                            f"node '{self.name}' ended with status {self._process.returncode}: {self._last_line()}"
                        )
                    if made is None:
                        raise NodeFailed(f"node '{self.name}' made no transition {transition} in {timeout_s:g} s")
                    if not made:
                        reason = self._reason(helper, status)
                        raise NodeFailed(f"node '{self.name}' refused transition {transition}: {reason}")
        finally:
            helper.destroy_subscription(subscription)

    @staticmethod
    def _reason(helper: Node, status: Sequence[DiagnosticStatus]) -> str:
        """What its status topic says of a refused transition."""
        told = lambda: bool(status) and status[-1].level == DiagnosticStatus.ERROR  # noqa: E731
        return status[-1].message if spin_until(helper, told, 2.0) else "see its log"

    def _last_line(self) -> str:
        """Of the log, where there is one: why the process ended."""
        if self._log is None:
            return "see its output"
        lines = Path(self._log.name).read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"
