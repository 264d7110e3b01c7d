# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Frames on the wire: what goes in comes out, and what is no frame is refused before it costs memory."""

from __future__ import annotations

import json
import socket
import struct
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from sqap_vla.simpler import protocol
from sqap_vla.simpler.protocol import Interrupted, ProtocolError, decode, encode, receive, send

PREFIX = struct.Struct("<4sII")


def parts(frame: bytes) -> tuple[bytes, bytes]:
    _, header, payload = PREFIX.unpack(frame[: PREFIX.size])
    assert len(frame) == PREFIX.size + header + payload
    return frame[PREFIX.size : PREFIX.size + header], frame[PREFIX.size + header :]


array = arrays_of.arrays(st.sampled_from([np.uint8, np.float64]), arrays_of.array_shapes(max_dims=3, max_side=4))


@given(st.dictionaries(st.text(max_size=8), array, max_size=4))
@settings(max_examples=60, deadline=None)
def test_arrays_come_out_as_they_went_in(arrays: dict[str, np.ndarray]) -> None:
    message, received = decode(*parts(encode({"op": "step", "text": "Löffel"}, arrays)))
    assert message == {"op": "step", "text": "Löffel"}
    assert list(received) == list(arrays)
    for name, value in arrays.items():
        assert received[name].dtype == value.dtype
        assert np.array_equal(received[name], value, equal_nan=value.dtype.kind == "f")


@given(st.binary(max_size=60), st.binary(max_size=20))
@settings(max_examples=200, deadline=None)
def test_arbitrary_bytes_are_refused_and_nothing_else(header: bytes, payload: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode(header, payload)


@pytest.mark.parametrize(
    ("listed", "payload"),
    [
        ([["a", "f8", [2]]], b"\0" * 8),  # shorter than listed
        ([["a", "u1", [2]]], b"\0" * 3),  # longer than listed
        ([["a", "O8", [1]]], b"\0" * 8),  # no such type
        ([["a", "f8", [-1]]], b""),
        ([["a", "f8", [1, 1, 1, 1]]], b"\0" * 8),
        ([["a", "f8", [True]]], b"\0" * 8),
        ([["a", "u1", [2**40, 2**40]]], b""),
        ([["a", "u1", [0]]] * 17, b""),
        ("a", b""),
    ],
)
def test_a_wrong_list_of_arrays_is_refused(listed: object, payload: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode(json.dumps({"op": "step", "arrays": listed}).encode(), payload)


@pytest.mark.parametrize("text", ['{"arrays": [], "x": NaN}', "[1]", "{}", "[" * 5000, "\xff"])
def test_a_wrong_header_is_refused(text: str) -> None:
    with pytest.raises(ProtocolError):
        decode(text.encode("latin-1"), b"")


def test_what_is_too_large_is_not_sent() -> None:
    with pytest.raises(ProtocolError, match="at most"):
        encode({"op": "x" * protocol.MAX_HEADER_BYTES})
    with pytest.raises(ProtocolError, match="at most"):
        encode({}, {"rgb": np.zeros(protocol.MAX_PAYLOAD_BYTES + 1, np.uint8)})
    with pytest.raises(ProtocolError):
        encode({"seconds": float("nan")})


@pytest.mark.parametrize(
    "prefix", [PREFIX.pack(b"HTTP", 2, 0), PREFIX.pack(b"SQV1", 1 << 31, 0), PREFIX.pack(b"SQV1", 2, 1 << 31)]
)
def test_a_receiver_refuses_by_the_prefix_alone(prefix: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(prefix)  # nothing follows: the refusal does not wait for it
        with pytest.raises(ProtocolError):
            receive(ours, 5.0)


def test_a_frame_that_stops_half_way_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "FRAME_TIMEOUT_S", 0.3)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(encode({"op": "hello"})[:-1])
        with pytest.raises(ProtocolError, match="nothing more"):
            receive(ours, 5.0)


def test_waiting_ends_when_it_is_cancelled_and_when_the_peer_goes() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        with pytest.raises(Interrupted):
            receive(ours, 60.0, cancelled=lambda: True)
        theirs.close()
        with pytest.raises(ConnectionError):
            receive(ours, 60.0)


def test_a_picture_crosses_a_socket_in_pieces() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (1080, 1920, 3), dtype=np.uint8)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        sender = threading.Thread(target=send, args=(theirs, {"ok": True}, {"rgb": rgb}))
        sender.start()
        _, received = receive(ours, 10.0)
        sender.join()
    assert np.array_equal(received["rgb"], rgb)
