# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The server as a process, through the client: a task opened, episodes run, geometry, and what is refused."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from server_process import HERE, PROGRAM, start_server

from sqap_vla.simpler.client import SimplerClient, SimplerError, SimplerState
from sqap_vla.simpler.protocol import encode, receive, send

GOOGLE, WIDOWX = "google_robot_pick_coke_can", "widowx_spoon_on_towel"
STILL = np.zeros(7)


@pytest.fixture
def client(server: Path) -> Iterator[SimplerClient]:
    client = SimplerClient(server, timeout_s=20.0)
    yield client
    client.close()


def red_pixel(state: SimplerState) -> np.ndarray:
    """Centre u, v of the mark that the environment draws where the tool is."""
    rows, columns = np.nonzero((state.rgb == (255, 0, 0)).all(2))
    return np.array([columns.mean(), rows.mean()])


def projected(state: SimplerState) -> np.ndarray:
    point = state.intrinsic @ (np.linalg.inv(state.base_T_camera) @ state.base_T_ee)[:3, 3]
    return point[:2] / point[2]


@pytest.mark.parametrize(
    ("task", "robot", "hz", "steps", "shape"),
    [(GOOGLE, "google_robot", 3, 80, (512, 640, 3)), (WIDOWX, "widowx", 5, 60, (480, 640, 3))],
)
def test_a_task_tells_its_robot_and_its_pictures_agree_with_its_poses(
    client: SimplerClient, task: str, robot: str, hz: float, steps: int, shape: tuple[int, ...]
) -> None:
    told = client.open(task)
    assert (told.robot, told.control_hz, told.max_steps, len(told.joints)) == (robot, hz, steps, 2)
    state = client.reset(seed=3)
    assert state.rgb.shape == shape
    assert np.abs(projected(state) - red_pixel(state)).max() <= 1.0
    moved = client.step(np.array([0.02, 0.03, 0.04, 0, 0, 0, 0]))
    assert np.allclose((moved.base_T_ee - state.base_T_ee)[:3, 3], (0.02, 0.03, 0.04), atol=1e-6)  # base axes
    assert np.abs(projected(moved) - red_pixel(moved)).max() <= 1.0


def test_the_seed_and_the_layout_choose_the_episode(client: SimplerClient) -> None:
    client.open(WIDOWX)
    by_seed = [client.reset(seed).base_T_ee[:3, 3] for seed in (1, 2, 1)]
    layout = {"obj_init_options": {"episode_id": 4}}
    by_layout = [client.reset(seed, layout).base_T_ee[:3, 3] for seed in (1, 2)]
    assert np.array_equal(by_seed[0], by_seed[2]) and not np.array_equal(by_seed[0], by_seed[1])
    assert np.array_equal(*by_layout)


def test_success_steps_and_stats_come_back(client: SimplerClient) -> None:
    client.open(WIDOWX)
    client.reset(0)
    state = client.step(np.array([0.05, 0, -0.05, 0, 0, 0, -1.0]))
    assert state.success and not state.truncated and state.steps == 1
    assert state.stats == {"is_src_obj_grasped": True, "opening": 0.0}
    for _ in range(59):
        state = client.step(np.append(np.zeros(6), 1.0))
    assert state.truncated and not state.success


def test_a_long_task_goes_on_to_its_next_part(client: SimplerClient) -> None:
    client.open("google_robot_place_apple_in_closed_top_drawer")
    assert client.reset(0).instruction == "open top drawer"
    assert client.advance() == "place apple into top drawer"
    assert client.step(STILL).instruction == "place apple into top drawer"
    with pytest.raises(SimplerError, match="no further part"):
        client.advance()


def test_what_cannot_be_done_is_said_and_the_connection_goes_on(client: SimplerClient) -> None:
    with pytest.raises(SimplerError, match="is not one of SIMPLER's: google_robot_pick_coke_can"):
        client.open("google_robot_fly")
    with pytest.raises(SimplerError, match="reset before open"):
        client.reset(0)
    client.open(GOOGLE)
    with pytest.raises(SimplerError, match="step before reset"):
        client.step(STILL)
    client.reset(0)
    for wrong in (np.zeros(6), np.full(7, np.nan)):
        with pytest.raises(SimplerError, match="7 finite numbers"):
            client.step(wrong)
    with pytest.raises(SimplerError, match="seed is -1"):
        client.reset(-1)
    assert client.step(STILL).steps == 1


def test_a_client_that_breaks_the_protocol_is_dropped_and_the_next_one_served(server: Path) -> None:
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.connect(str(server))
        stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            assert stranger.recv(1) == b""
    client = SimplerClient(server, timeout_s=20.0)
    client.open(GOOGLE)
    client.close()


def test_an_unknown_operation_is_answered(server: Path) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(server))
        send(connection, {"op": "system"})
        assert receive(connection, 20.0)[0] == {"ok": False, "error": "operation 'system' is not known"}


def test_only_the_owner_may_use_the_socket(server: Path) -> None:
    assert stat.S_IMODE(server.stat().st_mode) == 0o600


def test_a_second_server_and_a_file_in_the_way_are_refused(server: Path, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("keep me")
    for path, reason in ((server, "listens on"), (file, "is no socket")):
        environment = os.environ | {"PYTHONPATH": str(HERE / "stand_in")}
        command = [sys.executable, str(PROGRAM), "--socket", str(path)]
        result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=20)
        assert result.returncode == 1 and reason in result.stderr
    assert file.read_text() == "keep me"


def test_a_socket_left_behind_by_a_killed_server_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with start_server(path) as killed:
        SimplerClient(path, timeout_s=20.0).close()
        killed.kill()
    assert path.exists()
    with start_server(path, "--make-options", '{"shader_dir": "ibl"}') as again:
        client = SimplerClient(path, timeout_s=20.0)
        assert client.open(GOOGLE).robot == "google_robot"
        client.close()
        again.terminate()
        assert again.wait(20) == 0


def test_without_simpler_the_server_says_what_to_install(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, str(PROGRAM), "--socket", str(tmp_path / "socket")]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=20)
    assert result.returncode == 1
    assert "install SimplerEnv for" in result.stderr


def test_without_a_server_the_client_says_so(tmp_path: Path) -> None:
    with pytest.raises(SimplerError, match="no SIMPLER server on"):
        SimplerClient(tmp_path / "nothing", timeout_s=0.1)


def test_another_version_of_the_protocol_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        child = os.fork()
        if not child:
            connection, _ = listener.accept()
            receive(connection, 20.0)
            connection.sendall(encode({"ok": True, "protocol": 99, "tasks": []}))
            os._exit(0)
        with pytest.raises(SimplerError, match="speaks protocol 99"):
            SimplerClient(path, timeout_s=20.0)
        os.waitpid(child, 0)
