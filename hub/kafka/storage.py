"""Disk usage of topics and free disk space, from DescribeLogDirs (KIP-113, disk sizes: KIP-827) of every broker."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ..protocol import ErrorCode
from . import requests
from .cluster import Cluster, name_of_address
from .connection import Connection, connect_any
from .errors import BrokerUnreachable, ConnectionLost
from .records import TopicPartition

ANSWER_SECONDS = 5.0
"""Timeout per broker for connecting and for the response; computing the sizes takes a broker milliseconds."""


class ClusterStorage(NamedTuple):
    """Disk usage as reported by the brokers that responded.

    `sizes`: size of each partition's log in bytes; of several replicas the largest. `dirs`: log directories by broker address.
    `unanswered`: addresses of brokers without a result (unreachable, too old, or not authorized)."""

    sizes: Mapping[TopicPartition, int]
    dirs: Mapping[str, Sequence[requests.LogDir]]
    unanswered: Sequence[str]

    def bytes_of(self, topic: str) -> int:
        """Size of all partitions of a topic in bytes, each counted once; 0 for an unknown topic."""
        return sum(size for (name, _), size in self.sizes.items() if name == topic)

    @property
    def usable_bytes(self) -> int | None:
        """Bytes that can still be written to the fullest disk; None if unknown."""
        fullest = self._fullest()
        return None if fullest is None else fullest[0]

    @property
    def total_bytes(self) -> int | None:
        """Size of the fullest disk in bytes; None if unknown."""
        fullest = self._fullest()
        return None if fullest is None else fullest[1]

    def _fullest(self) -> tuple[int, int] | None:
        """(usable, total) bytes of the disk with the fewest usable bytes."""
        known = [
            (one.usable_bytes, one.total_bytes)
            for dirs in self.dirs.values()
            for one in dirs
            if one.usable_bytes is not None and one.total_bytes is not None
        ]
        return min(known, default=None)


async def describe_storage(cluster: Cluster, *, timeout_seconds: float = ANSWER_SECONDS) -> ClusterStorage:
    """Request the log directories of every live broker of the cluster.

    A broker that does not respond within `timeout_seconds`, or returns an error, is listed in `unanswered`, and the sizes are
    those of the others. Raises `BrokerUnreachable` or `ConnectionLost` if the brokers of the cluster cannot be determined."""
    addresses = await _brokers(cluster, timeout_seconds)
    answers = await asyncio.gather(*(_ask(cluster, host, port, timeout_seconds) for host, port in addresses))
    names = [name_of_address(*address) for address in addresses]
    dirs = {name: answer for name, answer in zip(names, answers, strict=True) if answer is not None}
    sizes: dict[TopicPartition, int] = {}
    for one in (one for some in dirs.values() for one in some):
        for place, size in one.partitions.items():
            sizes[place] = max(size, sizes.get(place, 0))
    return ClusterStorage(sizes, dirs, [name for name in names if name not in dirs])


async def _brokers(cluster: Cluster, timeout_seconds: float) -> list[tuple[str, int]]:
    connection = await connect_any(cluster, role="storage", timeout_seconds=timeout_seconds)
    try:
        answer = await connection.ask(requests.METADATA, requests.metadata_request([]), timeout_seconds=timeout_seconds)
    finally:
        connection.close()
    return list(requests.read_metadata(answer).brokers.values())


async def _ask(cluster: Cluster, host: str, port: int, timeout_seconds: float) -> list[requests.LogDir] | None:
    """The readable log directories of one broker; None if it did not respond."""
    try:
        connection = await Connection.open(cluster, host, port, role="storage", timeout_seconds=timeout_seconds)
    except BrokerUnreachable:
        return None
    try:
        versions = await requests.ask_versions(connection, timeout_seconds=timeout_seconds)
        kind = next((one for one in requests.DESCRIBE_LOG_DIRS if versions.speaks(one)), None)
        if kind is None:
            return None
        answer = await connection.ask(kind, requests.describe_log_dirs_request(), timeout_seconds=timeout_seconds)
    except ConnectionLost:
        return None
    finally:
        connection.close()
    return [one for one in requests.read_log_dirs(answer) if one.code == ErrorCode.NONE] or None
