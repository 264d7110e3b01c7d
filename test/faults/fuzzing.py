# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Random input to every callback of the policy and to every reader of files.

    .venv/bin/python test/faults/fuzzing.py --inputs 100000

What holds for all of it: no exception leaves a callback (it would end the node), a reader raises only ValueError or
OSError, memory does not grow, every command is finite and within the limits, and from bad input alone there is none
that moves. Needs no model: the policy runs in this process, and its network answers a slow motion.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import pytest
import torch
from builtin_interfaces.msg import Time
from geometry_msgs.msg import TransformStamped
from rclpy.parameter import Parameter
from rosgraph_msgs.msg import Clock
from safetensors.torch import save_file
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState
from std_msgs.msg import Bool, String
from tf2_msgs.msg import TFMessage

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "nodes")]
os.environ.setdefault("ROS_DOMAIN_ID", "99")
os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")

from policy_rig import Rig, policy_rig

from sqap_vla.cogact.checkpoint_files import open_weights, read_json
from sqap_vla.cogact.prompt import Tokenizer
from sqap_vla.nodes.clock_guard import ignore_impossible_clock
from sqap_vla.nodes.joint_state_input import JointStateInput
from sqap_vla.quantization.manifest import decode
from sqap_vla.quantization.shards import TensorSpec, map_tensors

NUMBERS = (0.0, -0.0, 1.0, -1.0, math.nan, math.inf, -math.inf, 1e308, -1e308, 5e-324, 1e-9, 2.0**31, -(2.0**63))
TEXTS = (
    "",
    " ",
    "base_link",
    "gripper_tcp",
    "camera",
    "/",
    "a/b",
    "\x00",
    "é😀",
    "x" * 10000,
    "pick up the cup",
    "null",
)
ENCODINGS = ("rgb8", "bgr8", "rgba8", "mono8", "16UC1", "32FC1", "bayer_rggb8", "", "rgb8;", "x" * 300)
INTS = (0, 1, 2, 3, 7, 8, 64, 255, 16384, 16385, 2**31 - 1, 2**32 - 1)


class Garbage:
    """Messages whose every field is drawn from what breaks things, and now and then from what is right."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        picture = self.rng.integers(0, 256, (6, 7, 3), dtype=np.uint8)
        self._files = [cv2.imencode(end, picture)[1].tobytes() for end in (".png", ".jpg", ".bmp")]

    def one_of(self, values: tuple) -> Any:
        return values[int(self.rng.integers(len(values)))]

    def number(self) -> float:
        return self.one_of(NUMBERS) if self.rng.random() < 0.5 else float(self.rng.normal())

    def numbers(self, count: int) -> list[float]:
        return [self.number() for _ in range(count)]

    def data(self, count: int) -> bytes:
        return self.rng.integers(0, 256, count, dtype=np.uint8).tobytes()

    def stamp(self, now_ns: int) -> Time:
        if self.rng.random() < 0.5:
            return Time(sec=now_ns // 10**9, nanosec=now_ns % 10**9)
        return Time(sec=int(self.one_of((0, -1, 1, -(2**31), 2**31 - 1, 100))), nanosec=self.one_of(INTS))

    def mutated(self, data: bytes) -> bytes:
        changed = bytearray(data)
        for _ in range(int(self.rng.integers(1, 9))):
            if changed:
                changed[int(self.rng.integers(len(changed)))] = int(self.rng.integers(256))
        if self.rng.random() < 0.3:
            changed = changed[: int(self.rng.integers(len(changed) + 1))]
        return bytes(changed)

    def image(self, now_ns: int) -> Image:
        small = tuple(range(9))
        width, height = ((self.one_of(small), self.one_of(small)) if self.rng.random() < 0.7 else
                         (self.one_of(INTS), self.one_of(INTS)))  # fmt: skip
        encoding = self.one_of(ENCODINGS)
        step = width * 3 if self.rng.random() < 0.5 and width < 99 else self.one_of(INTS)
        count = step * height if step * height < 4096 and self.rng.random() < 0.7 else int(self.rng.integers(4096))
        msg = Image(width=width, height=height, encoding=encoding, step=step, data=self.data(count))
        msg.is_bigendian = int(self.rng.random() < 0.1)
        msg.header.stamp, msg.header.frame_id = self.stamp(now_ns), self.one_of(TEXTS)
        return msg

    def compressed(self, now_ns: int) -> CompressedImage:
        data = self.mutated(self.one_of(tuple(self._files))) if self.rng.random() < 0.8 else self.data(100)
        msg = CompressedImage(format=self.one_of(("jpeg", "png", "", "16UC1; compressedDepth", "x" * 99)), data=data)
        msg.header.stamp, msg.header.frame_id = self.stamp(now_ns), self.one_of(TEXTS)
        return msg

    def camera_info(self, now_ns: int) -> CameraInfo:
        msg = CameraInfo(width=self.one_of(INTS), height=self.one_of(INTS), k=self.numbers(9), p=self.numbers(12))
        msg.d = self.numbers(int(self.one_of((0, 4, 5, 8, 12, 14, 100))))
        msg.distortion_model = self.one_of(("plumb_bob", "rational_polynomial", "equidistant", "fov", ""))
        msg.binning_x, msg.binning_y = self.one_of(INTS), self.one_of(INTS)
        msg.roi.x_offset, msg.roi.y_offset = self.one_of(INTS), self.one_of(INTS)
        msg.roi.width, msg.roi.height = self.one_of(INTS), self.one_of(INTS)
        msg.header.stamp = self.stamp(now_ns)
        return msg

    def transforms(self, now_ns: int) -> TFMessage:
        """None of them is a rotation."""
        msg = TFMessage()
        for _ in range(int(self.rng.integers(4))):
            transform = TransformStamped(child_frame_id=self.one_of(TEXTS))
            transform.header.frame_id, transform.header.stamp = self.one_of(TEXTS), self.stamp(now_ns)
            t, q = transform.transform.translation, transform.transform.rotation
            t.x, t.y, t.z = self.numbers(3)
            q.x, q.y, q.z, q.w = self.one_of(((0.0,) * 4, (0.5, 0.0, 0.0, 0.1), (math.nan,) * 4, (0.0, 0.0, 0.0, 1.2)))
            msg.transforms.append(transform)
        return msg

    def joint_state(self, now_ns: int) -> JointState:
        names = [self.one_of(TEXTS) for _ in range(int(self.rng.integers(5)))]
        msg = JointState(name=names, position=self.numbers(int(self.rng.integers(5))))
        msg.header.stamp = self.stamp(now_ns)
        return msg

    def text(self, now_ns: int) -> String:
        if self.rng.random() < 0.5:
            return String(data=self.one_of(TEXTS))
        return String(data=self.mutated(b'{"artifact_dir": "/nowhere", "n": [1, 2]}').decode("utf-8", "replace"))

    def parameters(self, names: list[str]) -> list[Parameter]:
        values = (*NUMBERS, *TEXTS, True, 3, -(2**63), [1.0, 2.0, 3.0], [math.nan] * 3, ["a"], [1], [True], [])
        return [Parameter(self.one_of(tuple(names)), value=self.one_of(values))]


class Watched:
    """A policy in this process, whose commands are looked at."""

    def __init__(self, rig: Rig, garbage: Garbage) -> None:
        self.rig, self.garbage, self.pipeline = rig, garbage, rig.pipeline
        self.now_s, self.moved, self.failures = 1000.0, 0, Counter()
        self.pipeline._worker.submit = self.pipeline._infer  # at once, on this thread
        ignore_impossible_clock(rig.node)
        self._joints = JointStateInput(rig.node, "joint_states", ("gripper_tcp",), 0.5)
        self._names = [name for name in rig.node._parameters if name != "use_sim_time"]
        self.advance()
        rig.node.trigger_activate()

    def advance(self) -> None:
        """Time goes on; poses are told by `good`, or not at all."""
        self.now_s += 0.05
        self.rig.at(self.now_s, pose=False)

    def good(self) -> None:
        """An input as it should be."""
        self.rig.at(self.now_s)
        self.rig.see()

    def bad(self) -> str:
        """One input as it should not be; its kind."""
        now_ns, pipeline, garbage = round(self.now_s * 1e9), self.pipeline, self.garbage
        listener = pipeline._listener
        kinds: dict[str, Callable[[], Any]] = {
            "image": lambda: pipeline._inputs._image(garbage.image(now_ns)),
            "compressed": lambda: pipeline._inputs._image(garbage.compressed(now_ns)),
            "camera_info": lambda: pipeline._inputs._camera_info(garbage.camera_info(now_ns)),
            "tf": lambda: listener.callback(garbage.transforms(now_ns)),
            "tf_static": lambda: listener.static_callback(garbage.transforms(now_ns)),
            "instruction": lambda: pipeline._inputs._instruction(garbage.text(now_ns)),
            "joint_states": lambda: self._joints._on_joint_state(garbage.joint_state(now_ns)),
            "deadman": lambda: pipeline._commander._deadman._on_switch(Bool(data=bool(garbage.rng.random() < 0.5))),
            "clock": lambda: self.rig.node._time_source.clock_callback(Clock(clock=garbage.stamp(now_ns))),
            "manifest": lambda: self.rig.node._reload._on_manifest(garbage.text(now_ns)),
            "parameter": lambda: self.rig.node.set_parameters_atomically(garbage.parameters(self._names)),
        }
        kind = garbage.one_of(tuple(kinds))
        kinds[kind]()
        return kind

    def tick(self) -> None:
        before = len(self.rig.twists)
        self.pipeline._tick()
        for speed in self.rig.twists[before:]:
            assert math.isfinite(speed) and abs(speed) <= 1.0 + 1e-9, speed
            self.moved += speed != 0
        self.rig.twists.clear()
        self.pipeline.values()


@contextmanager
def watched(monkeypatch: pytest.MonkeyPatch, seed: int) -> Iterator[Watched]:
    with policy_rig(monkeypatch, "/fuzzed", deadman_topic="", limits__max_linear_m_s=1.0) as rig:
        yield Watched(rig, Garbage(seed))


def fuzz_callbacks(policy: Watched, inputs: int, with_good: bool) -> Counter[str]:
    """Bad inputs, between them now and then a good one. Raises whatever leaves a callback."""
    kinds: Counter[str] = Counter()
    for number in range(inputs):
        kinds[policy.bad()] += 1
        if with_good and number % 5 == 0:
            policy.good()
        if number % 4 == 0:
            policy.advance()
            policy.tick()
    return kinds


def fuzz_readers(directory: Path, garbage: Garbage, inputs: int) -> Counter[str]:
    """Damaged files. Raises whatever is neither ValueError nor OSError."""
    tensors = {"a.weight": torch.arange(64.0), "b.bias": torch.zeros(3)}
    torch.save({"model": {"projector": tensors}}, directory / "good.pt")
    save_file(tensors, directory / "good.safetensors")
    tokenizer = '{"version": "1.0", "model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": []}}'
    statistics = '{"tabletop": {"action": {"q01": [0.0], "q99": [1.0], "mask": [true]}}}'
    manifest = '{"format": "sqap_vla artifact", "schema_version": 1, "files": [{"name": "a", "size_bytes": 1}]}'
    specs = {name: TensorSpec(name, value.dtype, tuple(value.shape)) for name, value in tensors.items()}
    readers: dict[str, tuple[bytes, str, Callable[[Path], Any]]] = {
        "checkpoint.pt": ((directory / "good.pt").read_bytes(), "x.pt", open_weights),
        "shard.safetensors": (
            (directory / "good.safetensors").read_bytes(),
            "x.safetensors",
            lambda path: list(map_tensors(path.parent, [path.name], specs)),
        ),
        "tokenizer": (tokenizer.encode(), "tokenizer.json", Tokenizer.from_path),
        "statistics": (statistics.encode(), "x.json", read_json),
        "manifest": (manifest.encode(), "manifest.json", lambda path: decode(path.read_bytes())),
    }
    kinds: Counter[str] = Counter()
    for _ in range(inputs):
        kind = garbage.one_of(tuple(readers))
        good, name, read = readers[kind]
        path = directory / name
        path.write_bytes(garbage.mutated(good))
        kinds[kind] += 1
        try:
            read(path)
        except (ValueError, OSError):
            kinds[f"{kind} refused"] += 1
    return kinds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    logging.disable()
    process, started_s = psutil.Process(), time.monotonic()
    with pytest.MonkeyPatch.context() as monkeypatch, watched(monkeypatch, args.seed) as policy:
        share = args.inputs // 5
        fuzz_callbacks(policy, share // 10, with_good=True)  # warm, so that growth is growth
        before = process.memory_info().rss
        moved = policy.moved
        kinds = fuzz_callbacks(policy, 4 * share, with_good=True)
        growth = process.memory_info().rss - before
        moved = policy.moved - moved
    with pytest.MonkeyPatch.context() as monkeypatch, watched(monkeypatch, args.seed + 1) as policy:
        bad_alone = fuzz_callbacks(policy, share // 2, with_good=False)
        moved_by_bad = policy.moved
    with tempfile.TemporaryDirectory() as directory:
        files = fuzz_readers(Path(directory), Garbage(args.seed), share - share // 2)
    result = {
        "seed": args.seed,
        "callbacks": dict(sorted(kinds.items())),
        "callbacks_bad_alone": sum(bad_alone.values()),
        "files": dict(sorted(files.items())),
        "commands_that_moved": moved,
        "moved_by_bad_alone": moved_by_bad,
        "memory_growth_mb": round(growth / 1e6, 1),
        "seconds": round(time.monotonic() - started_s, 1),
    }
    sys.stdout.write(json.dumps(result, indent=2) + "\n")
    return 0 if moved_by_bad == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
