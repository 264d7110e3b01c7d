# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""What the policy tells about itself on ~/status: one flat list of figures, `group/name` -> text.

The diagnostics node groups and judges them; the policy only counts. Groups: lifecycle, model, input, tf, inference,
tokens, command, memory.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping

import psutil
import tf2_ros
import torch
from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
from rclpy.node import Node
from rclpy.qos import QoSCompatibility, qos_check_compatible
from rclpy.subscription import Subscription

from sqap_vla.nodes.conversions import InputError
from sqap_vla.nodes.edge_log import EdgeLog
from sqap_vla.nodes.input_monitor import InputMonitor
from sqap_vla.nodes.policy_parameters import PolicyParameters
from sqap_vla.nodes.transforms import newest_age_s
from sqap_vla.pruning.selection import Reason
from sqap_vla.runtime.timing import LatencyWindow
from sqap_vla.runtime.types import ActionChunk

STAGES = ("preprocess", "vision", "llm", "head", "total")


class PolicyFigures:
    """Counters and last values of a policy; its worker thread and its executor both write here."""

    def __init__(self, warm_up: int = 1) -> None:
        self._lock = threading.Lock()
        self._latency = {stage: LatencyWindow(size=200, warm_up=warm_up) for stage in STAGES}
        self._pipeline = LatencyWindow(size=200, warm_up=warm_up)  # image stamp to chunk
        self._node = LatencyWindow(size=200, warm_up=warm_up)  # image callback to chunk, without inference
        self._rejected: Counter[str] = Counter()
        self._fallbacks: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._warnings: dict[str, str] = {}
        self._log = EdgeLog()
        self._last_error = ""
        self._last_refusal = ""
        self._last_rejection = ""
        self._chunk: ActionChunk | None = None
        self._chunks = 0

    def rejected(self, error: InputError) -> bool:
        """Counts a frame that was not run. True where it should be told: not for every frame."""
        with self._lock:
            self._rejected[error.reason] += 1
            self._last_rejection = error.reason
            return self._log.begins(error.reason)

    def failed(self, error: Exception) -> bool:
        """Counts nothing; True where it should be told."""
        with self._lock:
            self._last_error = f"{type(error).__name__}: {error}"
            return self._log.begins(type(error).__name__)

    def refused(self, reason: str) -> bool:
        """Counts a chunk that the controller did not take. True where it should be told."""
        with self._lock:
            self._refused[reason] += 1
            self._last_refusal = reason
            return self._log.begins(reason)

    def finished(
        self,
        chunk: ActionChunk,
        warnings: tuple[InputError, ...],
        pipeline_ms: float,
        node_ms: float,
        refused: bool = False,
    ) -> list[InputError]:
        """Counts a chunk; returns the warnings that should be told."""
        with self._lock:
            for stage in STAGES:
                self._latency[stage].add(getattr(chunk.times, f"{stage}_ms"))
            self._pipeline.add(pipeline_ms)
            self._node.add(node_ms)
            if chunk.fallback:
                self._fallbacks[chunk.fallback] += 1
            self._warnings = {w.reason: str(w) for w in warnings}
            self._chunk, self._chunks = chunk, self._chunks + 1
            self._last_error = self._last_rejection = ""
            if not refused:
                self._last_refusal = ""
            return [w for w in warnings if self._log.begins(w.reason)]

    def values(self) -> dict[str, str]:
        with self._lock:
            values = {
                "inference/chunks": str(self._chunks),
                "inference/last_error": self._last_error,
                "input/last_rejection": self._last_rejection,
                "command/last_refused_chunk": self._last_refusal,
            }
            values |= {f"command/refused_chunk/{reason}": str(n) for reason, n in self._refused.items()}
            values |= {f"input/rejected/{reason}": str(n) for reason, n in self._rejected.items()}
            values |= {f"tf/warning/{reason}": text for reason, text in self._warnings.items()}
            values |= {f"tokens/fallback/{reason}": str(n) for reason, n in self._fallbacks.items()}
            for stage, window in [*self._latency.items(), ("pipeline", self._pipeline), ("node", self._node)]:
                summary = window.summary()
                for name in ("p50", "p95", "p99") if summary else ():
                    values[f"inference/{stage}_ms_{name}"] = f"{getattr(summary, f'{name}_ms'):.1f}"
            if self._chunk is not None:
                kept = self._chunk.selection.counts()
                values["tokens/kept"] = str(sum(kept.values()))
                values |= {f"tokens/kept_{reason.name.lower()}": str(kept[reason]) for reason in Reason}
                values["tokens/fallback"] = self._chunk.fallback
        values["memory/rss_mb"] = f"{psutil.Process().memory_info().rss / 1e6:.0f}"
        return values


def status_message(level: bytes, text: str, values: dict[str, str], hardware_id: str) -> DiagnosticStatus:
    return DiagnosticStatus(
        level=level,
        name="sqap_vla: policy",
        message=text,
        hardware_id=hardware_id,
        values=[KeyValue(key=key, value=value) for key, value in sorted(values.items())],
    )


def input_figures(
    node: Node, monitors: Mapping[str, InputMonitor], subscriptions: Mapping[str, Subscription]
) -> dict[str, str]:
    """Rate, age and publishers of each input, and how many of these are not heard for their quality of service."""
    values = {}
    now_ns = node.get_clock().now().nanoseconds
    for name, monitor in monitors.items():
        topic, wanted = subscriptions[name].topic_name, subscriptions[name].qos_profile
        offered = [info.qos_profile for info in node.get_publishers_info_by_topic(topic)]
        deaf = sum(qos_check_compatible(profile, wanted)[0] == QoSCompatibility.ERROR for profile in offered)
        values[f"input/{name}_rate_hz"] = f"{monitor.rate_hz():.2f}"
        values[f"input/{name}_publishers"] = str(len(offered))
        values[f"input/{name}_incompatible_qos"] = str(deaf)
        values[f"input/{name}_topic"] = topic
        age_s = monitor.age_s()
        if age_s is not None:
            values[f"input/{name}_arrival_age_s"] = f"{age_s:.3f}"
        if monitor.last_stamp_ns is not None:
            values[f"input/{name}_stamp_age_s"] = f"{(now_ns - monitor.last_stamp_ns) / 1e9:.3f}"
    return values


def transform_figures(buffer: tf2_ros.Buffer, targets: Mapping[str, str], ee_frame: str, now_ns: int) -> dict[str, str]:
    """Age of the newest transform from the end-effector to each of `targets` (name to frame); nothing where none is."""
    ages_s = {name: newest_age_s(buffer, frame, ee_frame, now_ns) for name, frame in targets.items() if frame}
    return {f"tf/{name}_age_s": f"{age_s:.3f}" for name, age_s in ages_s.items() if age_s is not None}


def setup_line(params: PolicyParameters, device: torch.device) -> str:
    """What an operator must know before the robot moves: method, units, frame, limits, whether commands are live."""
    limits = params.make_limits()
    live = "dry run: commands go to ~/dry_run/ only" if params.dry_run else "COMMANDS ARE LIVE"
    return (
        f"ready: {params.method} on {device}, actions un-normalised by '{params.unnorm_key}' along the axes of "
        f"'{params.base_frame}', one row per {params.step_s:.3f} s; speed at most {limits.max_linear_m_s} m/s and "
        f"{limits.max_angular_rad_s} rad/s, workspace {limits.workspace_min_m} to {limits.workspace_max_m} m; {live}"
    )
