# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Publishes what an inference gave: ~/chunk and, while somebody listens, the debug topics.

~/chunk                        16x7 un-normalised actions (Float64MultiArray)
~/debug/step                   JSON: stamp, tokens kept and why, projected end-effector, chunk, stage times (String)
~/debug/overlay                the frame with kept tokens by reason, ring and end-effector (Image)
~/debug/processing_time_ms     inference; ~/debug/pipeline_latency_ms: image stamp to chunk; ~/debug/token_keep_ratio
~/debug/node_time_ms           image callback to chunk in the command timer's hands, without inference
"""

from __future__ import annotations

from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import Image
from std_msgs.msg import Float32, Float64MultiArray, MultiArrayDimension, String

from sqap_vla.evaluation.step import StepRecord
from sqap_vla.evaluation.step_json import step_to_json
from sqap_vla.nodes import qos
from sqap_vla.nodes.conversions import image_from_rgb, stamp_msg
from sqap_vla.pruning.overlay import draw_overlay
from sqap_vla.runtime.types import ActionChunk, Observation

VISUAL_TOKENS = 256
SCALARS = ("processing_time_ms", "pipeline_latency_ms", "node_time_ms", "token_keep_ratio")


class ChunkOutput:
    def __init__(self, node: LifecycleNode) -> None:
        self._node = node
        self._chunk = node.create_lifecycle_publisher(Float64MultiArray, "~/chunk", qos.command())
        self._step = node.create_lifecycle_publisher(String, "~/debug/step", qos.command())
        self._overlay = node.create_lifecycle_publisher(Image, "~/debug/overlay", qos.debug())
        self._scalars = {
            name: node.create_lifecycle_publisher(Float32, f"~/debug/{name}", qos.debug()) for name in SCALARS
        }

    def send(
        self, chunk: ActionChunk, observation: Observation, frame_id: str, pipeline_ms: float, node_ms: float
    ) -> None:
        self._chunk.publish(chunk_message(chunk))
        kept = len(chunk.selection.kept)
        scalars = (chunk.times.total_ms, pipeline_ms, node_ms, kept / VISUAL_TOKENS)
        for name, value in zip(SCALARS, scalars, strict=True):
            if self._scalars[name].get_subscription_count():
                self._scalars[name].publish(Float32(data=float(value)))
        if self._step.get_subscription_count():
            self._step.publish(String(data=step_to_json(StepRecord.from_chunk(chunk, observation))))
        if self._overlay.get_subscription_count():
            picture = draw_overlay(
                observation.rgb,
                chunk.selection,
                chunk.ring,
                [f"{kept}/{VISUAL_TOKENS} tokens  {chunk.times.total_ms:.0f} ms", observation.instruction],
            )
            self._overlay.publish(image_from_rgb(picture, stamp_msg(chunk.stamp_ns), frame_id))

    def destroy(self) -> None:
        for publisher in (self._chunk, self._step, self._overlay, *self._scalars.values()):
            self._node.destroy_lifecycle_publisher(publisher)


def chunk_message(chunk: ActionChunk) -> Float64MultiArray:
    """Rows are steps of chunk.step_s, columns dx dy dz [m] droll dpitch dyaw [rad] gripper open."""
    msg = Float64MultiArray(data=chunk.actions.ravel().tolist())
    rows, columns = chunk.actions.shape
    msg.layout.dim = [
        MultiArrayDimension(label="step", size=rows, stride=rows * columns),
        MultiArrayDimension(label="action", size=columns, stride=columns),
    ]
    return msg
