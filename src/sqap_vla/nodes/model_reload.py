# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Another model while the robot moves: loaded beside the present one, taken between two inferences.

    ~/reload        std_srvs/Trigger: loads the checkpoint, or the announced artifact, anew; answers at once
    manifest_topic  where follow_manifest is set and no checkpoint is: a new announcement does the same

Loading runs on its own thread; commands go on meanwhile from the chunk at hand and those that the present model
makes. A load that fails leaves the present model in place. For that time both models need memory.
"""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Callable

from rclpy.node import Node
from rclpy.subscription import Subscription
from std_msgs.msg import String
from std_srvs.srv import Trigger

from sqap_vla.nodes import qos
from sqap_vla.nodes.policy_parameters import PolicyParameters
from sqap_vla.nodes.policy_pipeline import PolicyPipeline
from sqap_vla.runtime.engine import Engine

JOIN_TIMEOUT_S = 5.0


class ModelReload:
    """Lives as long as the node; `attach` and `detach` with the pipeline. load: from parameters to a warm engine."""

    def __init__(self, node: Node, load: Callable[[PolicyParameters], Engine]) -> None:
        self._node, self._load = node, load
        self._lock = threading.Lock()
        self._pipeline: PolicyPipeline | None = None
        self._thread: threading.Thread | None = None
        self._wanted: str | None = None  # directory that came while another one was being loaded
        self._manifest: str | None = None
        self._state, self._count = "", 0
        self._subscription: Subscription | None = None
        node.create_service(Trigger, "~/reload", self._on_reload)

    def attach(self, pipeline: PolicyPipeline, params: PolicyParameters) -> None:
        self._pipeline, self._params, self._manifest = pipeline, params, None
        self._state, self._count, self._wanted = "", 0, None
        follows = params.follow_manifest and not params.checkpoint
        self._subscription = (
            self._node.create_subscription(String, params.manifest_topic, self._on_manifest, qos.latched())
            if follows
            else None
        )

    def detach(self) -> None:
        """What is being loaded is thrown away."""
        with self._lock:
            self._pipeline = self._wanted = None
            thread = self._thread
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
            self._subscription = None
        if thread is not None:
            thread.join(JOIN_TIMEOUT_S)

    def values(self) -> dict[str, str]:
        """For ~/status."""
        return {"model/reload": self._state, "model/swaps": str(self._count)}

    def _on_reload(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        if self._pipeline is None:
            response.success, response.message = False, "the node is not configured; configure it first"
            return response
        response.success, response.message = True, self._start(self._pipeline.model)
        return response

    def _on_manifest(self, msg: String) -> None:
        known, self._manifest = self._manifest, msg.data
        try:
            directory = str(json.loads(msg.data)["artifact_dir"])
        except (KeyError, TypeError, ValueError) as error:
            self._node.get_logger().error(f"a manifest names no artifact_dir ({error}); the present model stays")
            return
        if msg.data == known or (known is None and directory == self._pipeline.model):
            return  # said again, or what was configured with
        self._start(directory)

    def _start(self, directory: str) -> str:
        with self._lock:
            if self._thread is not None:
                self._wanted = directory
                return f"another model is being loaded; {directory} comes after it"
            self._state = f"loading {directory}"
            self._thread = threading.Thread(target=self._run, args=(directory,), name="model_reload", daemon=True)
            self._thread.start()
        self._node.get_logger().info(self._state)
        return f"{self._state}; ~/status tells when it is in use"

    def _run(self, directory: str) -> None:
        logger = self._node.get_logger()
        while directory is not None:
            engine, error = None, ""
            try:
                engine = self._load(dataclasses.replace(self._params, checkpoint=directory))
            except Exception as failure:  # noqa: BLE001 the thread's outermost frame: the node must learn of it
                error = f"{type(failure).__name__}: {failure}"
            with self._lock:
                if self._pipeline is None:
                    self._thread = None
                    return
                if engine is None:
                    self._state = f"failed, the model before stays: {directory}: {error}"
                    logger.error(f"reload {self._state}")
                else:
                    self._pipeline.swap(engine, directory)
                    self._state, self._count = "", self._count + 1
                    logger.info(f"the model is now {directory}")
                directory, self._wanted = self._wanted, None
                if directory is None:
                    self._thread = None
