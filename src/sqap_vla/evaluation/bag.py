# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Reads recorded messages from a rosbag2, without ROS.

A bag is a directory with metadata.yaml (sqlite3 or mcap storage, split or not, zstd-compressed by file or by
message) or a single .mcap or .db3 file of one. Messages come as the bytes that were on the wire (CDR with its
encapsulation header), so that whoever replays them deserialises with the live node's own code; message
definitions in the bag are not needed.

Invariants: messages come in the order of their log time, ties in the order of recording. Stamps are log
times, nanoseconds. Everything that is wrong with a bag is a BagError. Sources: rosbag2's metadata.yaml,
versions 1 to 9; mcap.dev/spec.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from rosbags.interfaces import Connection
from rosbags.rosbag2 import Reader

from sqap_vla.evaluation.bag_storage import DAMAGED, BagError, damaged, open_storage, zstd

__all__ = ["IMAGE_TYPES", "BagError", "BagMessage", "BagMetadata", "BagReader", "BagTopic"]

IMAGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"  # never the start of a CDR message, whose first byte is 0
_REORDER_NS = 1_000_000_000  # files of a split bag overlap by less than this


@dataclass(frozen=True)
class BagMessage:
    """One recorded message. data: CDR bytes with encapsulation header. stamp_ns: log time."""

    topic: str
    msgtype: str
    data: bytes
    stamp_ns: int


@dataclass(frozen=True)
class BagTopic:
    """A topic of a bag. msgtype: such as 'sensor_msgs/msg/Image'. count: messages recorded."""

    name: str
    msgtype: str
    count: int


@dataclass(frozen=True)
class BagMetadata:
    """What a bag says about itself. start_ns, end_ns: first and last log time, both 0 for an empty bag."""

    path: Path
    storage: str  # mcap | sqlite3 | '' for a bag without files
    compression: str  # '' | file | message; compression inside mcap's chunks does not show here
    ros_distro: str
    start_ns: int
    end_ns: int
    message_count: int

    @property
    def duration_s(self) -> float:
        return (self.end_ns - self.start_ns) / 1e9


class BagReader:
    """An open bag, iterated as often as wanted.

        with BagReader(path, topics=("/tf", "/camera/image_raw")) as bag:
            for message in tqdm(bag): ...

    topics: what iteration yields and len() counts; None is everything. Each must exist, or BagError names
    those that do.
    """

    def __init__(self, path: Path | str, topics: Collection[str] | None = None) -> None:
        self.path = Path(path)
        self._reader = open_storage(self.path)
        try:
            self.topics: dict[str, BagTopic] = _topics(self._reader.connections)
            self.metadata = _metadata(self.path, self._reader)
            self._connections = self._select(topics)
        except BaseException as error:
            self._reader.close()
            # A damaged table of topics opens, and then has a name that is no string.
            if isinstance(error, DAMAGED) and not isinstance(error, BagError):
                raise damaged(self.path, error) from error
            raise

    def __enter__(self) -> BagReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the files. May be called twice."""
        if self._reader.is_open:
            self._reader.close()

    def __len__(self) -> int:
        """Messages that an iteration yields, as the bag counts them."""
        return sum(connection.msgcount for connection in self._connections)

    def __iter__(self) -> Iterator[BagMessage]:
        """Raises BagError where the bag turns out to be damaged."""
        return self._iterate(self._connections)

    def messages(self, *topics: str) -> Iterator[BagMessage]:
        """Messages of these topics alone, whatever the reader was opened for.

        Raises BagError for a topic that is not there.
        """
        return self._iterate(self._select(topics))

    def require(self, topic: str, msgtypes: Collection[str] = ()) -> BagTopic:
        """The topic, with at least one message and one of `msgtypes`, any where these are empty.

        Raises BagError naming what the bag has.
        """
        found = self.topics.get(topic)
        if found is None:
            raise self._missing(topic)
        if msgtypes and found.msgtype not in msgtypes:
            raise BagError(
                f"topic '{topic}' of bag '{self.path}' is {found.msgtype}; it must be {' or '.join(msgtypes)}"
            )
        if found.count == 0:
            raise BagError(
                f"topic '{topic}' of bag '{self.path}' has no messages; record it again while it is published"
            )
        return found

    def require_image(self, topic: str) -> BagTopic:
        """The image topic, or its compressed form '<topic>/compressed' where only that was recorded.

        Raises BagError.
        """
        compressed = f"{topic}/compressed"
        return self.require(
            compressed if topic not in self.topics and compressed in self.topics else topic, IMAGE_TYPES
        )

    def _select(self, topics: Collection[str] | None) -> list[Connection]:
        if topics is None:
            return list(self._reader.connections)
        for topic in topics:
            if topic not in self.topics:
                raise self._missing(topic)
        return [connection for connection in self._reader.connections if connection.topic in topics]

    def _missing(self, topic: str) -> BagError:
        return BagError(
            f"bag '{self.path}' has no topic '{topic}'; it has: {self._listing()}; which topic is which is said by "
            "parameters, such as image_topic in the file that --config names"
        )

    def _listing(self) -> str:
        return (
            ", ".join(f"{topic.name} ({topic.msgtype}, {topic.count})" for topic in self.topics.values()) or "no topics"
        )

    def _iterate(self, connections: list[Connection]) -> Iterator[BagMessage]:
        if not self._reader.is_open:
            raise BagError(f"bag '{self.path}' is closed; read it inside its with block")
        if not connections:  # rosbags takes an empty selection for all of them
            return iter(())
        return self._in_order(self._read(connections))

    def _read(self, connections: list[Connection]) -> Iterator[BagMessage]:
        source = self._reader.messages(connections)
        while True:
            try:
                connection, stamp_ns, data = next(source)
                # A single file of a message-compressed bag does not know that it is one.
                data = zstd.decompress(data) if data[:4] == _ZSTD_MAGIC else data
            except StopIteration:
                return
            except DAMAGED as error:
                raise damaged(self.path, error) from error
            yield BagMessage(connection.topic, connection.msgtype, bytes(data), stamp_ns)

    def _in_order(self, messages: Iterator[BagMessage]) -> Iterator[BagMessage]:
        """Each file is sorted; where a split bag goes on in the next one, stamps may step back a little.

        Holds one second.
        """
        files = getattr(self._reader.storage, "storages", ())
        if len(files) < 2:
            yield from messages
            return
        waiting: list[tuple[int, int, BagMessage]] = []
        newest = given = 0
        for number, message in enumerate(messages):
            if message.stamp_ns < given:
                raise BagError(
                    f"files of split bag '{self.path}' overlap by more than {_REORDER_NS / 1e9:g} s: "
                    f"{message.stamp_ns} on '{message.topic}' comes after {given}; rewrite it in "
                    "one file with `ros2 bag convert`"
                )
            newest = max(newest, message.stamp_ns)
            heapq.heappush(waiting, (message.stamp_ns, number, message))
            while waiting[0][0] < newest - _REORDER_NS:
                given, _, oldest = heapq.heappop(waiting)
                yield oldest
        yield from (entry[2] for entry in sorted(waiting))


def _topics(connections: Collection[Connection]) -> dict[str, BagTopic]:
    """By name, sorted; a topic recorded from several publishers is counted once."""
    topics: dict[str, BagTopic] = {}
    for connection in sorted(connections, key=lambda c: c.topic):
        before = topics.get(connection.topic)
        if before is not None and before.msgtype != connection.msgtype:
            raise BagError(
                f"topic '{connection.topic}' has two types, {before.msgtype} and {connection.msgtype}; "
                "filter the bag first"
            )
        count = connection.msgcount + (before.count if before else 0)
        topics[connection.topic] = BagTopic(connection.topic, connection.msgtype, count)
    return topics


def _metadata(path: Path, reader: Reader) -> BagMetadata:
    files = getattr(reader.storage, "storages", (reader.storage,))
    storage = {".mcap": "mcap", ".db3": "sqlite3"}.get(Path(files[0].path).suffix, "") if files else ""
    empty = reader.message_count == 0
    return BagMetadata(
        path=path,
        storage=storage,
        compression=reader.compression_mode or "",
        ros_distro=reader.ros_distro or "",
        start_ns=0 if empty else reader.start_time,
        end_ns=0 if empty else reader.end_time - 1,
        message_count=reader.message_count,
    )
