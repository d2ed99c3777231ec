"""Where clients and workers send and read records: a cluster over TCP (`KafkaTransport`), or a broker in their own process
(`hub.testing`). What both need of it, and no more.
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
    """Sends records so that they arrive. `Sender` is one; see there for what its methods raise."""

    async def start(self) -> None:
        """Connect."""

    async def send(self, outgoing: Outgoing, *, timeout_seconds: float = ...) -> None:
        """Returns when the record is stored."""

    async def send_many(self, outgoing: Sequence[Outgoing], *, timeout_seconds: float = ...) -> None:
        """Returns when all are stored."""

    async def post(self, outgoing: Outgoing, on_settled: Callable[[], object] = ...) -> None:
        """Returns when the record is handed over; `on_settled` is called when it is stored, or never will be."""

    async def flush(self, *, timeout_seconds: float) -> bool:
        """Whether everything that was posted is stored within the time."""

    async def watch(self) -> None:
        """Raises what keeps records that were posted from ever being stored; does not return."""

    async def stop(self) -> None:
        """Disconnect."""


class RecordReader(Protocol):
    """Reads one partition in order, committed records only. `PartitionReader` is one; see there for what its methods raise."""

    async def open(self, topic: str, partition: int, offset: int) -> None:
        """Begin at `offset`."""

    async def read(self, max_records: int = ..., timeout_ms: int = ...) -> list[StoredRecord]:
        """The next records; may be empty when the time has passed."""

    def seek(self, offset: int) -> None:
        """Continue reading at `offset`."""

    async def start_offset(self) -> int:
        """The first offset that is still there."""

    async def end_offset(self) -> int:
        """The first offset that may not be seen yet."""

    async def ensure_moving(self) -> None:
        """For a reader that got nothing for a while: raises where there is something."""

    async def close(self) -> None:
        """Disconnect."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *_: object) -> None: ...


class Transport(Protocol):
    """Makes senders and readers. `address` names it in messages.

    `local`: the broker is in this process and on the caller's event loop. Then no record is lost on its way, so nothing need be
    asked twice, and no other thread may use what the transport makes."""

    @property
    def address(self) -> str: ...

    @property
    def local(self) -> bool: ...

    def sender(self, *, client_id: str, linger_ms: int = 0) -> RecordSender:
        """A sender, not started."""
        ...

    def reader(self, *, client_id: str) -> RecordReader:
        """A reader, not opened."""
        ...

    def read_all(self, topic: str, partition: int) -> AsyncIterator[StoredRecord]:
        """Every committed record of a partition that is kept, up to its end at this moment."""
        ...

    async def describe_partitions(self) -> int:
        """How many engine partitions the hub has. Raises TopicMissing where there is no hub."""
        ...

    async def ensure_pool(self, pool: str) -> None:
        """Create the commands topic of a pool if it is missing."""
        ...


class KafkaTransport:
    """A cluster over TCP; see Transport. May be used from any thread."""

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
