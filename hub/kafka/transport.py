"""How clients and workers send and read records: a cluster over TCP (`KafkaTransport`), or a broker in the same process
(`hub.testing`). The interfaces have only what clients and workers need.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import Protocol, Self

from .cluster import Cluster
from .reader import PartitionReader, read_all
from .records import StoredRecord
from .sender import Outgoing, Sender
from .topics import describe_partitions, ensure_pool


class RecordSender(Protocol):
    """Sends records with at-least-once delivery. `Sender` implements it and documents the errors."""

    async def start(self) -> None:
        """Connect."""

    async def send(self, outgoing: Outgoing, *, timeout_seconds: float = ...) -> None:
        """Send a record and wait until it is acknowledged."""

    async def send_many(self, outgoing: Sequence[Outgoing], *, timeout_seconds: float = ...) -> None:
        """Send records and wait until all are acknowledged."""

    async def post(self, outgoing: Outgoing, on_settled: Callable[[], object] = ...) -> None:
        """Queue a record; `on_settled` is called when it is acknowledged or finally rejected."""

    async def flush(self, *, timeout_seconds: float) -> bool:
        """Wait until all posted records are acknowledged; False on timeout."""

    async def watch(self) -> None:
        """Raises what keeps records that were posted from ever being stored; does not return."""

    async def stop(self) -> None:
        """Disconnect."""


class RecordReader(Protocol):
    """Reads the committed records of one partition in order. `PartitionReader` implements it and documents the errors."""

    async def open(self, topic: str, partition: int, offset: int) -> None:
        """Start reading at `offset`."""

    async def read(self, max_records: int = ..., timeout_ms: int = ...) -> list[StoredRecord]:
        """The next records; empty after a timeout."""

    def seek(self, offset: int) -> None:
        """Continue reading at `offset`."""

    async def start_offset(self) -> int:
        """The log start offset."""

    async def end_offset(self) -> int:
        """The last stable offset: the first offset not yet visible."""

    async def ensure_moving(self) -> None:
        """Check a reader that has received nothing for a while: raises if there are records."""

    async def close(self) -> None:
        """Disconnect."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *_: object) -> None: ...


class Transport(Protocol):
    """Creates senders and readers. `address` identifies it in messages.

    `local`: the broker runs in this process on the caller's event loop. Then no record is lost in transit, so requests need no
    retry, and other threads must not use the senders and readers."""

    @property
    def address(self) -> str: ...

    @property
    def local(self) -> bool: ...

    def sender(self, *, client_id: str, linger_ms: int = 0) -> RecordSender:
        """A sender that has not been started."""
        ...

    def reader(self, *, client_id: str) -> RecordReader:
        """A reader that has not been opened."""
        ...

    def read_all(self, topic: str, partition: int) -> AsyncIterator[StoredRecord]:
        """All committed records of a partition up to its current end."""
        ...

    async def describe_partitions(self) -> int:
        """The number of engine partitions of the hub. Raises TopicMissing if there is no hub."""
        ...

    async def ensure_pool(self, pool: str) -> None:
        """Create the commands topic of a pool if it is missing."""
        ...


class KafkaTransport:
    """A cluster over TCP; see Transport. Safe to use from any thread."""

    local = False

    def __init__(self, cluster: Cluster) -> None:
        self.address = str(cluster)
        self._cluster = cluster

    def sender(self, *, client_id: str, linger_ms: int = 0) -> Sender:
        """See Transport."""
        return Sender(replace(self._cluster, client_id=client_id), linger_ms=linger_ms)

    def reader(self, *, client_id: str) -> PartitionReader:
        """See Transport."""
        return PartitionReader(replace(self._cluster, client_id=client_id))

    def read_all(self, topic: str, partition: int) -> AsyncIterator[StoredRecord]:
        """See Transport. Raises as `hub.kafka.read_all` does."""
        return read_all(self._cluster, topic, partition)

    async def describe_partitions(self) -> int:
        """See Transport. Raises TopicMissing, BrokerUnreachable."""
        return await describe_partitions(self._cluster)

    async def ensure_pool(self, pool: str) -> None:
        """See Transport. Raises as `hub.kafka.ensure_topics` does."""
        await ensure_pool(self._cluster, pool)
