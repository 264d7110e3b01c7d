# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Writes rosbag2 bags without ROS: episodes of the built-in tabletop, and bags for tests.

Message definitions, type hashes and the metadata's version (9) are those of ROS 2 Jazzy.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from types import TracebackType
from typing import Literal

from rosbags.interfaces import (
    Connection,
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer, WriterError
from rosbags.typesys import TypesysError

from sqap_vla.evaluation.bag import BagError, BagMessage
from sqap_vla.evaluation.messages import TYPESTORE

Storage = Literal["mcap", "sqlite3"]
Compression = Literal["none", "message", "file", "storage"]
_UNSET = QosTime(9223372036, 854775807)  # RMW_DURATION_INFINITE


class BagWriter:
    """A bag that is being written; close it, or leave its with block, to make it readable.

    path: the directory to make; it must not exist. storage: mcap or sqlite3. compression: of each message, of
    the whole file, or by the storage itself (mcap only). latched: topics offered as transient local, so that
    a replay serves late subscribers. Raises BagError.
    """

    def __init__(
        self,
        path: Path | str,
        storage: Storage = "mcap",
        compression: Compression = "none",
        latched: Collection[str] = ("/tf_static", "/instruction"),
    ) -> None:
        self.path = Path(path)
        self.latched = frozenset(latched)
        self._connections: dict[str, Connection] = {}
        try:
            self._writer = Writer(self.path, version=9, storage_plugin=StoragePlugin[storage.upper()])
            self._writer.set_compression(CompressionMode[compression.upper()], CompressionFormat.ZSTD)
            self._writer.open()
        except (WriterError, OSError) as error:
            raise BagError(f"bag '{self.path}' cannot be written: {error}") from error
        except KeyError as error:
            raise BagError(
                f"storage '{storage}' or compression '{compression}' is unknown; storages are mcap and "
                "sqlite3, compressions none, message, file, storage"
            ) from error

    def __enter__(self) -> BagWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._writer.abort()

    def write(self, message: BagMessage) -> None:
        """Appends a message.

        Raises BagError for a type unknown to ROS 2 Jazzy, or another type on a topic already written.
        """
        connection = self._connections.get(message.topic)
        if connection is None:
            connection = self._connections[message.topic] = self._add(message)
        if connection.msgtype != message.msgtype:
            raise BagError(
                f"topic '{message.topic}' carries {connection.msgtype}; a {message.msgtype} cannot be added to it"
            )
        self._writer.write(connection, message.stamp_ns, message.data)

    def close(self) -> None:
        """Writes the index and metadata.yaml."""
        self._writer.close()

    def _add(self, message: BagMessage) -> Connection:
        try:
            return self._writer.add_connection(
                message.topic,
                message.msgtype,
                typestore=TYPESTORE,
                offered_qos_profiles=[_qos(message.topic in self.latched)],
            )
        except (KeyError, TypesysError) as error:
            raise BagError(
                f"message type '{message.msgtype}' of topic '{message.topic}' is not part of ROS 2 Jazzy"
            ) from error


def write_bag(
    path: Path | str,
    messages: Iterable[BagMessage],
    storage: Storage = "mcap",
    compression: Compression = "none",
    latched: Collection[str] = ("/tf_static", "/instruction"),
) -> Path:
    """Writes `messages` into a new bag directory and returns it. See BagWriter."""
    with BagWriter(path, storage, compression, latched) as writer:
        for message in messages:
            writer.write(message)
    return Path(path)


def _qos(latched: bool) -> Qos:
    return Qos(
        history=QosHistory.KEEP_LAST,
        depth=1 if latched else 10,
        reliability=QosReliability.RELIABLE,
        durability=QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE,
        deadline=_UNSET,
        lifespan=_UNSET,
        liveliness=QosLiveliness.AUTOMATIC,
        liveliness_lease_duration=_UNSET,
        avoid_ros_namespace_conventions=False,
    )
