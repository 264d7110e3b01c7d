# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Image messages: what is read, against slicing bytes by hand, and what is refused, with which word.

Pinned: any Image or CompressedImage gives uint8 RGB of the stated size or an InputError, never anything else.
"""

from __future__ import annotations

import struct
import tracemalloc
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("rclpy", reason="needs ROS 2")

from builtin_interfaces.msg import Time
from sensor_msgs.msg import CompressedImage, Image

from sqap_vla.nodes.conversions import (
    CHANNELS,
    InputError,
    image_from_rgb,
    rgb_from_image,
    stamp_msg,
    stamp_ns,
)

RGB_INDEX = {"rgb8": [0, 1, 2], "bgr8": [2, 1, 0], "rgba8": [0, 1, 2], "bgra8": [2, 1, 0], "mono8": [0, 0, 0]}
KNOWN = ("rgb8", "bgr8", "rgba8", "bgra8", "mono8")
UNREAD = ("", "RGB8", "rgb16", "mono16", "16UC1", "32FC1", "8UC3", "bayer_rggb8", "yuv422", "nv12", "jpeg", "ü")


def raw(encoding: str, width: int, height: int, padding: int = 0, seed: int = 0) -> Image:
    step = width * CHANNELS.get(encoding, 3) + padding
    data = np.random.default_rng(seed).integers(0, 256, step * height, dtype=np.uint8).tobytes()
    return Image(encoding=encoding, width=width, height=height, step=step, data=data)


def compressed(rgb: np.ndarray, extension: str = ".png", text: str = "rgb8; png compressed bgr8") -> CompressedImage:
    buffer = cv2.imencode(extension, rgb if rgb.ndim == 2 else rgb[:, :, ::-1])[1]
    return CompressedImage(format=text, data=buffer.tobytes())


def refusal(msg: Image | CompressedImage) -> InputError:
    with pytest.raises(InputError) as caught:
        rgb_from_image(msg)
    return caught.value


@given(
    encoding=st.sampled_from(KNOWN),
    width=st.integers(1, 40),
    height=st.integers(1, 30),
    padding=st.integers(0, 9),
    seed=st.integers(0, 99),
)
def test_every_encoding_is_read_as_its_bytes_say_padding_left_out(encoding, width, height, padding, seed):
    msg = raw(encoding, width, height, padding, seed)
    channels = CHANNELS[encoding]
    rows = np.frombuffer(bytes(msg.data), np.uint8).reshape(height, msg.step)
    pixels = rows[:, : width * channels].reshape(height, width, channels)
    rgb = rgb_from_image(msg)
    assert rgb.dtype == np.uint8
    np.testing.assert_array_equal(rgb, pixels[:, :, RGB_INDEX[encoding]])


@pytest.mark.parametrize("encoding", UNREAD)
def test_other_encodings_are_refused_and_the_known_ones_named(encoding: str):
    error = refusal(raw(encoding, 4, 3))
    assert error.reason == "image_encoding"
    assert f"'{encoding}'" in str(error) and all(name in str(error) for name in KNOWN)


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"step": 11}, "image_layout"),  # shorter than a row of 4 px rgb8
        ({"step": 13}, "image_layout"),  # data is for step 12
        ({"height": 4}, "image_layout"),
        ({"height": 2}, "image_layout"),
        ({"width": 5}, "image_layout"),
        ({"data": b""}, "image_layout"),
        ({"data": bytes(35)}, "image_layout"),
        ({"data": bytes(37)}, "image_layout"),
        ({"width": 0, "step": 0, "data": b""}, "image_size"),
        ({"height": 0, "data": b""}, "image_size"),
        ({"width": 2**32 - 1, "step": 2**32 - 1}, "image_size"),
        ({"width": 16385, "step": 3 * 16385}, "image_size"),
        ({"is_bigendian": 1}, "image_big_endian"),
    ],
)
def test_fields_that_disagree_are_refused(changes: dict[str, object], reason: str):
    msg = raw("rgb8", 4, 3)
    for name, value in changes.items():
        setattr(msg, name, value)
    assert refusal(msg).reason == reason


@given(
    st.builds(
        Image,
        encoding=st.one_of(st.sampled_from(KNOWN + UNREAD), st.text(max_size=8)),
        width=st.one_of(st.integers(0, 8), st.integers(0, 2**32 - 1)),
        height=st.one_of(st.integers(0, 8), st.integers(0, 2**32 - 1)),
        step=st.one_of(st.integers(0, 40), st.integers(0, 2**32 - 1)),
        is_bigendian=st.integers(0, 255),
        data=st.binary(max_size=300),
    )
)
@settings(max_examples=500)
def test_any_image_is_read_or_refused(msg: Image):
    try:
        rgb = rgb_from_image(msg)
    except InputError as error:
        assert error.reason.startswith("image_") and str(error)
    else:
        assert rgb.dtype == np.uint8 and rgb.shape == (msg.height, msg.width, 3)


# Compressed


def picture(height: int = 24, width: int = 32) -> np.ndarray:
    v, u = np.mgrid[:height, :width]
    return np.stack([8 * u, 10 * v, 4 * (u + v)], axis=-1).astype(np.uint8)


def test_png_comes_back_as_it_was_and_jpeg_nearly():
    rgb = picture()
    np.testing.assert_array_equal(rgb_from_image(compressed(rgb)), rgb)
    lossy = rgb_from_image(compressed(rgb, ".jpg", "jpeg"))
    assert np.abs(lossy.astype(int) - rgb).mean() < 4


def test_grey_and_transparent_pictures_become_rgb():
    grey = picture()[:, :, 0]
    np.testing.assert_array_equal(rgb_from_image(compressed(grey)), np.stack([grey] * 3, axis=-1))
    bgra = np.dstack([picture()[:, :, ::-1], np.full(picture().shape[:2], 7, np.uint8)])
    msg = CompressedImage(format="png", data=cv2.imencode(".png", bgra)[1].tobytes())
    np.testing.assert_array_equal(rgb_from_image(msg), picture())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00",
        b"not a picture" * 20,
        compressed(picture()).data[:60].tobytes(),
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff\xe0",
    ],
)
def test_what_does_not_decode_is_refused(data: bytes):
    error = refusal(CompressedImage(format="jpeg", data=data))
    assert error.reason == "image_compressed"
    assert f"{len(data)} bytes" in str(error) and "send jpeg or png" in str(error)


def test_depth_in_a_compressed_message_is_refused():
    depth = cv2.imencode(".png", np.full((4, 4), 1000, np.uint16))[1].tobytes()
    error = refusal(CompressedImage(format="16UC1; compressedDepth png", data=bytes(12) + depth))
    assert error.reason == "image_encoding" and "compressedDepth" in str(error)


@pytest.mark.parametrize(
    "array, extension",
    [
        (np.full((4, 4, 3), 0.5, np.float32), ".tiff"),
        (np.full((4, 4, 3), 0.5, np.float64), ".tiff"),
        (np.full((4, 4), -1.0, np.float32), ".tiff"),
        (np.full((4, 4, 3), 0.5, np.float32), ".hdr"),
        (np.full((4, 4, 3), 40000, np.uint16), ".png"),
        (np.full((4, 4), 40000, np.uint16), ".png"),
    ],
)
def test_pictures_of_other_depths_are_read_or_refused(array: np.ndarray, extension: str):
    data = cv2.imencode(extension, array)[1].tobytes()
    try:
        rgb = rgb_from_image(CompressedImage(format=extension, data=data))
    except InputError as error:
        assert error.reason in ("image_compressed", "image_size")
    else:
        assert rgb.dtype == np.uint8 and rgb.shape == (4, 4, 3)


@given(
    base=st.sampled_from([".png", ".jpg", ".bmp", ".tiff"]),
    cut=st.integers(0, 400),
    edits=st.lists(st.tuples(st.integers(0, 399), st.integers(0, 255)), max_size=6),
    text=st.text(max_size=6),
)
@settings(max_examples=200, deadline=None)
def test_any_compressed_image_is_read_or_refused(base: str, cut: int, edits: list[tuple[int, int]], text: str):
    data = bytearray(cv2.imencode(base, picture(6, 7))[1].tobytes())
    for position, value in edits:
        data[position % len(data)] = value
    try:
        rgb = rgb_from_image(CompressedImage(format=text, data=bytes(data[: len(data) - cut % 50])))
    except InputError as error:
        assert error.reason in ("image_compressed", "image_size")
    else:
        assert rgb.dtype == np.uint8 and rgb.ndim == 3 and rgb.shape[2] == 3 and rgb.size


# Out again


@given(height=st.integers(1, 20), width=st.integers(1, 20))
def test_an_image_that_is_sent_is_read_as_it_was(height: int, width: int):
    rgb = np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    msg = image_from_rgb(rgb[:, ::-1], Time(sec=3, nanosec=4), "camera")
    assert (msg.header.frame_id, msg.header.stamp.sec, msg.header.stamp.nanosec) == ("camera", 3, 4)
    np.testing.assert_array_equal(rgb_from_image(msg), rgb[:, ::-1])


@given(sec=st.integers(-(2**31), 2**31 - 1), nanosec=st.integers(0, 999_999_999))
def test_stamps_survive_the_way_to_nanoseconds_and_back(sec: int, nanosec: int):
    again = stamp_msg(stamp_ns(Time(sec=sec, nanosec=nanosec)))
    assert (again.sec, again.nanosec) == (sec, nanosec)


def png_of(width: int, height: int) -> bytes:
    """A PNG of a grey plane: some kilobytes, whatever its size. Of more than 9000 rows, it has as many."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    deflate = zlib.compressobj(9)
    row = bytes(1 + width)
    pixels = b"".join(deflate.compress(row) for _ in range(min(height, 9000))) + deflate.flush()
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(16385, 8), (8, 16385), (9000, 9000), (40000, 40000)])
def test_a_compressed_image_that_unpacks_to_gigabytes_is_refused_by_its_head(size: tuple[int, int]):
    """Pinned: what was decoded had no limit, and a file of kilobytes took the memory of the process."""
    data = png_of(*size)
    tracemalloc.start()
    with pytest.raises(InputError) as caught:
        rgb_from_image(CompressedImage(data=data, format="png"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert caught.value.reason == "image_size" and peak < 10 * len(data) + 1e6


def test_only_jpeg_and_png_are_decoded():
    for extension in (".bmp", ".tiff", ".webp"):
        data = cv2.imencode(extension, np.zeros((8, 8, 3), np.uint8))[1].tobytes()
        with pytest.raises(InputError) as caught:
            rgb_from_image(CompressedImage(data=data, format=extension))
        assert caught.value.reason == "image_compressed"
