# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Lifecycle node that turns a checkpoint into an artifact directory and announces it.

    configure    validates the checkpoint, writes the artifact (or re-uses the one on disk), verifies it
    activate     announces it: ~/manifest, std_msgs/String with JSON, latched
    ~/reload     std_srvs/Trigger: reads parameters and checkpoint again; announces the result where active
    ~/status     diagnostic_msgs/DiagnosticStatus, latched, every second and at every change

A transition that fails leaves the reason in the log and in ~/status; the node stays unconfigured and can be
configured again. A reload that fails leaves the announced artifact in place. Configuring takes minutes for a
30 GB checkpoint and occupies the node's executor; ~/status tells how far it is meanwhile. The manifest exists
as a topic only while the node is active, so that a late joiner never gets one from a node that has been
deactivated.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.publisher import Publisher
from std_msgs.msg import String
from std_srvs.srv import Trigger

from sqap_vla.nodes import qos
from sqap_vla.nodes.impossible_transitions import refuse_impossible_transitions
from sqap_vla.nodes.lifecycle import guarded, run_node, stop_requested
from sqap_vla.nodes.model_loader_parameters import ModelLoaderParameters
from sqap_vla.nodes.parameters import ParameterError, declare, on_change
from sqap_vla.quantization.artifact import PreparedArtifact, Progress, prepare_artifact
from sqap_vla.runtime.method import make_method

SUCCESS = TransitionCallbackReturn.SUCCESS
OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR
STATUS_PERIOD_S = 1.0
LOG_PERIOD_S = 5.0
READY = "artifact is ready, not announced"


class ShutdownRequested(RuntimeError):
    """The process was asked to end while an artifact was prepared."""


class ModelLoaderNode(LifecycleNode):
    """See the module's docstring. Raises ParameterError where a parameter has a wrong type or value."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("model_loader", **kwargs)
        self._settings = declare(self, ModelLoaderParameters)
        on_change(self, lambda: self._settings, self._set_parameters)
        refuse_impossible_transitions(self)
        self._prepared: PreparedArtifact | None = None
        self._manifest_publisher: Publisher | None = None
        self._status_publisher = self.create_publisher(DiagnosticStatus, "~/status", qos.latched())
        self._status_time_s = self._log_time_s = 0.0
        self._level, self._message = WARN, "not configured"
        self.create_timer(STATUS_PERIOD_S, self._publish_status, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self.create_service(Trigger, "~/reload", self._on_reload)
        self._publish_status()

    @property
    def transition_error(self) -> str:
        """Why the last transition failed, '' where it did not; set by `guarded`."""
        return self._message if self._level == ERROR else ""

    @transition_error.setter
    def transition_error(self, reason: str) -> None:
        self._report(ERROR, reason)

    # Transitions

    @guarded
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            self._prepare()
        except ShutdownRequested as error:
            self.get_logger().info(str(error))
            return TransitionCallbackReturn.FAILURE
        return SUCCESS

    @guarded
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._manifest_publisher = self.create_publisher(String, "~/manifest", qos.latched())
        self._announce()
        return SUCCESS

    @guarded
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._withdraw()
        self._report(WARN, READY)
        return SUCCESS

    @guarded
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._release()
        self._report(WARN, "not configured")
        return SUCCESS

    @guarded
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._release()
        self._report(WARN, "shut down")
        return SUCCESS

    @guarded
    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """After an unexpected exception: back to unconfigured; its reason stays in ~/status."""
        self._release()
        return SUCCESS

    def _prepare(self) -> None:
        parameters = self._settings
        if not parameters.checkpoint:
            raise ParameterError(
                "parameter checkpoint is empty; set it to a CogACT checkpoint or an artifact directory"
            )
        self._prepared = prepare_artifact(
            Path(parameters.checkpoint),
            artifact_dir=Path(parameters.artifact_dir) if parameters.artifact_dir else None,
            dtype=None if parameters.dtype == "auto" else getattr(torch, parameters.dtype),
            quantization=make_method("sqap").quantization,
            asked=parameters.make_quantization(),
            tokenizer=Path(parameters.tokenizer) if parameters.tokenizer else None,
            unnorm_key=parameters.unnorm_key,
            progress=self._on_progress,
        )
        self.get_logger().info(
            f"artifact {self._prepared.directory} is ready, fingerprint {self._prepared.manifest.source.fingerprint}"
        )
        self._report(WARN, READY)

    def _announce(self) -> None:
        message = {"artifact_dir": str(self._prepared.directory), **self._prepared.manifest.summary()}
        self._manifest_publisher.publish(String(data=json.dumps(message, sort_keys=True)))
        self._report(OK, "artifact is announced")

    def _withdraw(self) -> None:
        if self._manifest_publisher is not None:
            self.destroy_publisher(self._manifest_publisher)
            self._manifest_publisher = None

    def _release(self) -> None:
        self._withdraw()
        self._prepared = None

    # Parameters and services

    def _set_parameters(self, parameters: ModelLoaderParameters) -> None:
        self._settings = parameters

    def _on_reload(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        if self._prepared is None:
            response.success, response.message = False, "the node is not configured; configure it first"
            return response
        try:
            self._prepare()
            if self._manifest_publisher is not None:
                self._announce()
        except (ValueError, OSError, ShutdownRequested) as error:  # as `guarded` has it for transitions
            response.success = False
            response.message = f"reload failed, {self._prepared.directory} stays: {error}"
            self.get_logger().error(response.message)
            self._report(WARN, response.message)
            return response
        response.success = True
        response.message = f"{self._prepared.directory} {self._prepared.manifest.source.fingerprint}"
        return response

    # Status

    def _on_progress(self, progress: Progress) -> None:
        if stop_requested():
            raise ShutdownRequested("the node was asked to end; the artifact on disk is unchanged")
        now_s = time.monotonic()
        self._level, self._message = WARN, str(progress)
        if now_s - self._status_time_s >= STATUS_PERIOD_S:
            self._publish_status()
        if now_s - self._log_time_s >= LOG_PERIOD_S:
            self._log_time_s = now_s
            self.get_logger().info(str(progress))

    def _report(self, level: bytes, message: str) -> None:
        self._level, self._message = level, message
        self._publish_status()

    def _publish_status(self) -> None:
        if not self.context.ok():  # the process is ending; there is nobody to tell
            return
        self._status_time_s = time.monotonic()
        values = {
            "checkpoint": self._settings.checkpoint,
            "announced": str(self._manifest_publisher is not None).lower(),
        }
        if self._prepared is not None:
            manifest = self._prepared.manifest
            values |= {
                "artifact_dir": str(self._prepared.directory),
                "fingerprint": manifest.source.fingerprint,
                "dtype": manifest.dtype,
                "quantization": str(manifest.quantization_config or "none"),
                "size_bytes": str(manifest.size_bytes),
                "created": manifest.created,
            }
        self._status_publisher.publish(
            DiagnosticStatus(
                level=self._level,
                name="sqap_vla: model_loader",
                message=self._message,
                hardware_id="sqap_vla",
                values=[KeyValue(key=key, value=value) for key, value in values.items()],
            )
        )


def main(args: list[str] | None = None) -> int:
    """Runs the node until SIGINT or SIGTERM. Returns the process's exit status."""
    return run_node(ModelLoaderNode, args)


if __name__ == "__main__":
    sys.exit(main())
