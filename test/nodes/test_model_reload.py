# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Another model while the robot moves: taken between two inferences, commands go on, a failure changes nothing."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

from policy_rig import TIMEOUT_S, Network, Rig, policy_rig
from std_msgs.msg import String
from std_srvs.srv import Trigger

from sqap_vla.nodes import policy as policy_module


class Loads:
    """Stands for load_engine: each load waits for `go`, then gives a network or raises."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.asked: list[str] = []
        self.made: list[Network] = []
        self.error: Exception | None = None

    def __call__(self, params: object) -> Network:
        self.asked.append(params.checkpoint)
        assert self.go.wait(TIMEOUT_S)
        if self.error is not None:
            raise self.error
        self.made.append(Network())
        self.made[-1].actions = -self.made[-1].actions  # the other way
        return self.made[-1]


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    with policy_rig(monkeypatch, "/model_reload", ensemble_horizon=1) as rig:
        yield rig


@pytest.fixture
def loads(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Loads:
    loads = Loads()
    monkeypatch.setattr(policy_module, "load_engine", loads)
    return loads


def until(done: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + TIMEOUT_S
    while not done():
        assert time.monotonic() < deadline_s
        time.sleep(0.005)


def reload(rig: Rig) -> Trigger.Response:
    return rig.node._reload._on_reload(Trigger.Request(), Trigger.Response())


def values(rig: Rig) -> dict[str, str]:
    return rig.pipeline.values() | rig.node._reload.values()


def test_commands_go_on_and_the_next_inference_is_the_new_models(rig: Rig, loads: Loads):
    rig.start(100.0)
    rig.network.go.clear()
    rig.at(100.2)
    rig.see()  # runs with the present model, and ends after the other one is there
    answer = reload(rig)
    assert answer.success and "loading any" in answer.message
    assert values(rig)["model/reload"] == "loading any"
    assert all(rig.moves() for _ in range(5))
    loads.go.set()
    until(lambda: values(rig)["model/swaps"] == "1")
    rig.finish()
    assert rig.moves() and rig.twists[-1] > 0, "the chunk of the model before"
    new = loads.made[-1]
    rig.at(100.4)
    rig.see()
    assert new.began.wait(TIMEOUT_S)
    until(lambda: rig.pipeline._worker.busy_s() == 0)
    assert rig.moves() and rig.twists[-1] < 0
    assert values(rig)["model/reload"] == ""


def test_a_load_that_fails_leaves_the_model_in_place(rig: Rig, loads: Loads):
    rig.start(100.0)
    loads.error = ValueError("checksum of layer 3 does not match")
    loads.go.set()
    reload(rig)
    until(lambda: "failed" in values(rig)["model/reload"])
    assert "checksum of layer 3" in values(rig)["model/reload"] and values(rig)["model/swaps"] == "0"
    rig.at(100.2)
    rig.see()
    rig.finish()
    assert rig.moves() and rig.twists[-1] > 0
    loads.error = None
    reload(rig)
    until(lambda: values(rig)["model/swaps"] == "1")


def test_what_was_loading_when_the_node_is_cleaned_up_is_thrown_away(rig: Rig, loads: Loads):
    rig.start(100.0)
    reload(rig)
    pipeline = rig.pipeline
    threading.Timer(0.2, loads.go.set).start()
    rig.node.trigger_deactivate()
    rig.node.trigger_cleanup()
    assert pipeline._engine is rig.network
    assert not reload(rig).success
    assert not [thread for thread in threading.enumerate() if thread.name == "model_reload"]


def manifest(directory: str, fingerprint: str) -> String:
    return String(data=json.dumps({"artifact_dir": directory, "fingerprint": fingerprint}))


def test_a_new_announcement_is_followed_and_the_one_at_hand_is_not(rig: Rig, loads: Loads):
    loads.go.set()
    hear = rig.node._reload._on_manifest
    hear(manifest("any", "a"))  # what it was configured with
    hear(manifest("any", "a"))
    for broken in ("", "[]", "{}", "null", '{"artifact_dir"'):
        hear(String(data=broken))
    hear(manifest("any", "b"))
    until(lambda: values(rig)["model/swaps"] == "1")
    hear(manifest("elsewhere", "c"))
    until(lambda: values(rig)["model/swaps"] == "2")
    assert loads.asked == ["any", "elsewhere"] and values(rig)["model/checkpoint"] == "elsewhere"


def test_of_announcements_during_a_load_the_last_one_comes_next(rig: Rig, loads: Loads):
    hear = rig.node._reload._on_manifest
    hear(manifest("any", "a"))
    for number in range(1, 6):
        hear(manifest(f"model{number}", "x"))
    loads.go.set()
    until(lambda: values(rig)["model/swaps"] == "2")
    assert loads.asked == ["model1", "model5"]
