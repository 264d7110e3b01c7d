# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""From the policy's parameters to a warm engine. Used by the node and by offline replay."""

from __future__ import annotations

import json

import rclpy
import torch
from rclpy.node import Node
from std_msgs.msg import String

from sqap_vla.nodes import qos
from sqap_vla.nodes.lifecycle import stop_requested
from sqap_vla.nodes.policy_parameters import PolicyParameters
from sqap_vla.nodes.spinning import spin_until
from sqap_vla.quantization.writer import OnProgress
from sqap_vla.runtime.engine import Engine
from sqap_vla.runtime.opening import open_engine

DTYPES = {"auto": None, "float32": torch.float32, "bfloat16": torch.bfloat16}


def load_engine(params: PolicyParameters, progress: OnProgress = lambda progress: None) -> Engine:
    """progress: hears how far compressing or verifying the model is; an exception that it raises ends it.

    The weights are taken into memory: a robot must not wait for a disk, nor follow a file that changes.
    Raises ValueError (CheckpointError, TokenizerError, ArtifactError among them) with value, rule and remedy.
    """
    if not params.checkpoint:
        raise ValueError("checkpoint is not set; give a CogACT checkpoint directory or an artifact directory")
    if not params.unnorm_key:
        raise ValueError("unnorm_key is not set; it names the robot's entry in dataset_statistics.json")
    device, dtype = resolve_device(params.device), DTYPES[params.dtype]
    if params.cpu_threads:
        torch.set_num_threads(params.cpu_threads)  # of the process
    return open_engine(
        params.checkpoint,
        params.make_method(),
        unnorm_key=params.unnorm_key,
        step_s=params.step_s,
        tokenizer=params.tokenizer or None,
        device=device,
        dtype=dtype,
        seed=params.seed,
        ddim_steps=params.ddim_steps,
        cfg_scale=params.cfg_scale,
        progress=progress,
        in_memory=True,
    )


def announced_artifact(node: Node, topic: str, timeout_s: float) -> str:
    """Directory of the artifact that model_loader announces. Raises ValueError where none is announced in time.

    A node of its own listens: the caller is inside a transition, and its executor waits for it to end.
    """
    manifests: list[str] = []
    listener = rclpy.create_node(
        "_manifest_listener", context=node.context, use_global_arguments=False, start_parameter_services=False
    )
    try:
        resolved = node.resolve_topic_name(topic)
        listener.create_subscription(String, resolved, lambda msg: manifests.append(msg.data), qos.latched())
        spin_until(listener, lambda: bool(manifests) or stop_requested(), timeout_s)
        if not manifests and stop_requested():
            raise ValueError(f"the node was asked to end while it waited for a manifest on {resolved}")
        if not manifests:
            raise ValueError(
                f"no checkpoint is set, and no manifest came on {resolved} within {timeout_s:.0f} s; set checkpoint, "
                "or activate model_loader"
            )
    finally:
        listener.destroy_node()
    try:
        return json.loads(manifests[-1])["artifact_dir"]
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(
            f"the manifest on {resolved} names no artifact_dir ({error}); is it model_loader that publishes there?"
        ) from error


def resolve_device(name: str) -> str:
    """auto: cuda where there is one. Raises ValueError for cuda where there is none."""
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            "device is cuda, and torch sees no GPU; set device to cpu or auto, or install a CUDA build of torch"
        )
    return ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name
