# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Bags of both storages and every compression read back what was written; damaged ones raise BagError and
nothing else.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sqap_vla.evaluation import messages
from sqap_vla.evaluation.bag import IMAGE_TYPES, BagError, BagMessage, BagReader
from sqap_vla.evaluation.bag_writer import BagWriter, write_bag
from sqap_vla.evaluation.messages import decode
from sqap_vla.pruning.projection import CameraModel

KINDS = [
    ("mcap", "none"),
    ("mcap", "message"),
    ("mcap", "file"),
    ("mcap", "storage"),
    ("sqlite3", "none"),
    ("sqlite3", "message"),
    ("sqlite3", "file"),
]
FRAMES = 4


def episode(compressed: bool = False) -> Iterator[BagMessage]:
    pixels = np.random.default_rng(1)
    camera = CameraModel(np.array([[50.0, 0, 16], [0, 50, 12], [0, 0, 1]]), "plumb_bob", (0.1, 0, 0, 0, 0), 32, 24)
    yield messages.string("/instruction", "pick up the cube", 0)
    for step in range(FRAMES):
        at_ns = 10**18 + step * 10**8
        rgb = pixels.integers(0, 255, (24, 32, 3), dtype=np.uint8)
        pose = np.eye(4)
        pose[:3, 3] = step, 2, 3
        yield messages.camera_info("/camera_info", camera, at_ns, "optical")
        yield messages.transforms("/tf", "base", {"tcp": pose}, at_ns)
        yield (
            messages.compressed_image("/image/compressed", rgb, at_ns, "optical")
            if compressed
            else messages.image("/image", rgb, at_ns, "optical")
        )
        yield messages.float64_array("/recorded_action", [0.1 * step, 0, 0, 0, 0, 0, 1], at_ns)
        yield messages.joint_state("/joint_states", {"elbow": 0.5}, at_ns)


@pytest.fixture(scope="module", params=KINDS, ids="-".join)
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    storage, compression = request.param
    return write_bag(tmp_path_factory.mktemp("bags") / "bag", episode(), storage, compression)


def storage_file(bag: Path) -> Path:
    return next(path for path in bag.iterdir() if path.name != "metadata.yaml")


def test_every_storage_and_compression_returns_the_bytes_written_in_order(written: Path) -> None:
    with BagReader(written) as bag:
        assert list(bag) == list(episode())
        assert list(bag) == list(episode()), "a second iteration starts again"
        assert len(bag) == bag.metadata.message_count == 1 + 5 * FRAMES
        assert bag.metadata.end_ns == 10**18 + (FRAMES - 1) * 10**8


def test_a_single_storage_file_reads_like_its_directory(written: Path) -> None:
    file = storage_file(written)
    if file.suffix == ".zstd":
        with pytest.raises(BagError, match="directory"):
            BagReader(file)
        return
    with BagReader(file) as bag:
        assert list(bag) == list(episode()), "also where each message is compressed, which only metadata.yaml says"


def test_only_wanted_topics_are_read_and_counted(written: Path) -> None:
    with BagReader(written, topics=("/tf", "/image")) as bag:
        assert [m.topic for m in bag] == ["/tf", "/image"] * FRAMES
        assert len(bag) == 2 * FRAMES
        assert [m.topic for m in bag.messages("/instruction")] == ["/instruction"]
        assert list(bag.messages()) == []
        assert bag.topics["/instruction"].count == 1


def test_messages_decode_to_what_was_put_in(tmp_path: Path) -> None:
    with BagReader(write_bag(tmp_path / "bag", episode())) as bag:
        first = {m.topic: decode(m) for m in reversed(list(bag))}
    image = first["/image"]
    expected = np.random.default_rng(1).integers(0, 255, (24, 32, 3), dtype=np.uint8)
    assert (image.encoding, image.height, image.width, image.step, image.is_bigendian) == (
        "rgb8",
        24,
        32,
        96,
        0,
    )
    assert np.array_equal(image.data.reshape(24, 32, 3), expected)
    assert image.header.stamp.sec == 10**9 and image.header.frame_id == "optical"
    assert first["/camera_info"].k[0] == 50 and first["/camera_info"].d[0] == 0.1
    assert first["/tf"].transforms[0].child_frame_id == "tcp" and first["/tf"].transforms[0].transform.rotation.w == 1
    assert first["/instruction"].data == "pick up the cube"


def test_compressed_images_are_found_under_the_raw_topics_name(tmp_path: Path) -> None:
    with BagReader(write_bag(tmp_path / "bag", episode(compressed=True), "sqlite3")) as bag:
        topic = bag.require_image("/image")
        assert (topic.name, topic.msgtype) == ("/image/compressed", "sensor_msgs/msg/CompressedImage")
        data = decode(next(bag.messages(topic.name))).data
        expected = np.random.default_rng(1).integers(0, 255, (24, 32, 3), dtype=np.uint8)
        assert np.array_equal(cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB), expected)


def test_what_is_missing_is_named_together_with_what_is_there(tmp_path: Path) -> None:
    path = write_bag(tmp_path / "bag", episode())
    with pytest.raises(BagError, match=r"no topic '/rgb'; it has: .*/image \(sensor_msgs/msg/Image, 4\)"):
        BagReader(path, topics=("/rgb",))
    with BagReader(path) as bag:
        with pytest.raises(BagError, match="no topic '/rgb'"):
            bag.require_image("/rgb")
        with pytest.raises(BagError, match="it must be sensor_msgs/msg/Image or"):
            bag.require("/tf", IMAGE_TYPES)
    with pytest.raises(BagError, match="closed"):
        list(bag)


def test_a_path_that_is_no_bag_says_what_to_give(tmp_path: Path) -> None:
    for name, pattern in (
        ("nowhere", "does not exist"),
        ("empty", "no metadata.yaml; it holds no"),
        ("old.bag", "rosbags-convert"),
        ("notes.txt", "unknown storage '.txt'"),
        ("fake.mcap", "cannot be read"),
        ("fake.db3", "cannot be read"),
    ):
        path = tmp_path / name
        if name == "empty":
            path.mkdir()
        elif name != "nowhere":
            path.write_bytes(b"" if name == "fake.mcap" else b"not a bag at all")
        with pytest.raises(BagError, match=pattern):
            BagReader(path)


def test_an_unclosed_recording_names_the_file_to_give_instead(tmp_path: Path) -> None:
    path = write_bag(tmp_path / "bag", episode())
    (path / "metadata.yaml").unlink()
    with pytest.raises(BagError, match=r"ros2 bag reindex.*bag\.mcap"):
        BagReader(path)
    with BagReader(path / "bag.mcap") as bag:
        assert len(bag) == 1 + 5 * FRAMES


def test_an_unknown_storage_plugin_is_named(tmp_path: Path) -> None:
    path = write_bag(tmp_path / "bag", episode())
    metadata = path / "metadata.yaml"
    metadata.write_text(metadata.read_text().replace("storage_identifier: mcap", "storage_identifier: floppy"))
    with pytest.raises(BagError, match="floppy"):
        BagReader(path)


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    root = tmp_path_factory.mktemp("healthy")
    return {kind: write_bag(root / "-".join(kind), episode(), *kind) for kind in KINDS}


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(KINDS),
    share=st.floats(0, 1, exclude_max=True),
    which=st.sampled_from(["storage", "metadata.yaml"]),
)
def test_a_truncated_bag_raises_bag_error_or_yields_whole_messages(
    healthy: dict[tuple[str, str], Path], tmp_path: Path, kind: tuple[str, str], share: float, which: str
) -> None:
    path = tmp_path / "cut"
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(healthy[kind], path)
    target = storage_file(path) if which == "storage" else path / which
    data = target.read_bytes()
    target.write_bytes(data[: int(share * len(data))])
    try:
        with BagReader(path) as bag:
            read = list(bag)
    except BagError as error:
        assert str(path) in str(error)
    else:
        expected = list(episode())
        assert all(message in expected for message in read)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_truncated_mcap_is_an_error_that_names_the_remedy(tmp_path: Path, share: float) -> None:
    file = storage_file(write_bag(tmp_path / "bag", episode()))
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    with pytest.raises(BagError, match="mcap recover"):
        BagReader(file)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(KINDS[:2] + KINDS[4:6]),
    flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1),
)
def test_flipped_bytes_raise_nothing_but_bag_error(
    healthy: dict[tuple[str, str], Path],
    tmp_path: Path,
    kind: tuple[str, str],
    flips: list[tuple[float, int]],
) -> None:
    file = tmp_path / storage_file(healthy[kind]).name
    data = bytearray(storage_file(healthy[kind]).read_bytes())
    for place, value in flips:
        data[int(place * len(data))] = value
    file.write_bytes(data)
    try:
        with BagReader(file) as bag:
            list(bag)
    except BagError as error:
        assert str(file) in str(error)


def test_a_topic_whose_name_is_no_text_is_a_damaged_bag(healthy: dict[tuple[str, str], Path], tmp_path: Path) -> None:
    file = tmp_path / "damaged.db3"
    shutil.copy(storage_file(healthy["sqlite3", "none"]), file)
    with sqlite3.connect(file) as database:
        database.execute("UPDATE topics SET name = x'00ff' WHERE id = (SELECT min(id) FROM topics)")
    with pytest.raises(BagError, match="cannot be read"):
        BagReader(file)


def split_bag(tmp_path: Path, first: list[int], second: list[int]) -> Path:
    """A bag in two files, as `ros2 bag record --max-bag-duration` makes it."""
    parts = [
        write_bag(tmp_path / name, (messages.string("/s", str(at), at) for at in stamps))
        for name, stamps in (("one", first), ("two", second))
    ]
    shutil.copy(parts[1] / "two.mcap", parts[0] / "two.mcap")
    metadata = parts[0] / "metadata.yaml"
    metadata.write_text(metadata.read_text().replace("  - one.mcap\n", "  - one.mcap\n  - two.mcap\n"))
    return parts[0]


def test_a_split_bag_comes_in_time_order_where_its_files_overlap(tmp_path: Path) -> None:
    first, second = [0, 10, 30, 50], [20, 40, 2 * 10**9, 5 * 10**9]
    with BagReader(split_bag(tmp_path, first, second)) as bag:
        assert [m.stamp_ns for m in bag] == sorted(first + second)


def test_a_split_bag_in_the_wrong_order_is_refused(tmp_path: Path) -> None:
    with (
        BagReader(split_bag(tmp_path, [10 * 10**9, 20 * 10**9, 30 * 10**9], [0])) as bag,
        pytest.raises(BagError, match="overlap"),
    ):
        list(bag)


def test_the_writer_refuses_what_no_bag_can_hold(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "bag") as bag:
        bag.write(messages.string("/a", "x", 1))
        with pytest.raises(BagError, match="carries std_msgs/msg/String"):
            bag.write(messages.float64_array("/a", [1.0], 2))
        with pytest.raises(BagError, match="not part of ROS 2"):
            bag.write(BagMessage("/b", "my_msgs/msg/Unknown", b"", 3))
    with pytest.raises(BagError, match="exists already"):
        BagWriter(tmp_path / "bag")
    with pytest.raises(BagError, match="unknown; storages are"):
        BagWriter(tmp_path / "other", storage="floppy")


def test_latched_topics_are_offered_as_transient_local(tmp_path: Path) -> None:
    path = write_bag(tmp_path / "bag", episode())
    section = (path / "metadata.yaml").read_text().split("/instruction")[1].split("type:")[0]
    assert "transient_local" in section
