"""Which broker each partition of a `Fetcher` is read from: looks up leaders, connects to them, requests offsets."""

import asyncio
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from ..errors import HubError
from ..protocol import TopicPartition
from ..protocol.fetch import FetchLimits
from .cluster import Address, Cluster
from .errors import BrokerUnreachable, ConnectionLost
from .fetch_buffer import PartitionBuffer
from .fetch_source import NOT_SERVED, FetchSource, SourceOwner
from .leaders import BrokerConnections, Located, list_offsets

SEARCH_SECONDS = 10.0
"""How long the leaders of partitions are looked up before the search fails, as after a change of the leader."""
BACKOFF_SECONDS = 0.05


class SourceSettings(NamedTuple):
    """What the sources of a `Fetcher` have in common, see `FetchSource`."""

    limits: FetchLimits
    partition_bytes: int


class SourceTable:
    """The sources of the partitions in `buffers`: one per leader. `places` has the source of each partition that has one."""

    def __init__(
        self,
        owner: SourceOwner,
        cluster: Cluster,
        settings: SourceSettings,
        buffers: Mapping[TopicPartition, PartitionBuffer],
        *,
        role: str,
    ) -> None:
        self.places: dict[TopicPartition, FetchSource] = {}
        self._owner = owner
        self._cluster = cluster
        self._settings = settings
        self._buffers = buffers
        self._brokers = BrokerConnections(cluster, role=role)
        self._sources: dict[Address, FetchSource] = {}
        self._searching = asyncio.Lock()
        self._closed = False

    @property
    def missing(self) -> Collection[TopicPartition]:
        """The partitions without a source."""
        return self._buffers.keys() - self.places.keys()

    @property
    def is_searchable(self) -> bool:
        """Whether a partition without a source has not failed, so that its leader is to be looked up."""
        return len(self.places) < len(self._buffers) and any(self._buffers[one].failure is None for one in self.missing)

    def all(self) -> list[FetchSource]:
        """All sources."""
        return list(self._sources.values())

    async def search(self, seconds: float) -> None:
        """Find and connect to the leaders of all partitions without a source.

        Raises `BrokerUnreachable` and `ConnectionLost`, and after `seconds` also `TopicMissing` and `PartitionUnavailable`."""
        if not self.missing:
            return
        reason: HubError | None = None
        try:
            async with asyncio.timeout(seconds), self._searching:
                while missing := self.missing:
                    found, reason = await self._brokers.locate(missing, [one.broker.address for one in self.all() if one.is_busy])
                    if self._closed:
                        self._brokers.close()
                        raise ConnectionLost("reading has ended")
                    for partition, located in found.items():
                        self._place(partition, located)
                    if reason is not None:
                        await asyncio.sleep(BACKOFF_SECONDS)
        except TimeoutError:
            raise reason or BrokerUnreachable(str(self._cluster), f"waited {seconds:g} s") from None
        self._brokers.keep_only(self._sources)  # searches take turns: no other one has connected to a broker without a source

    def _place(self, partition: TopicPartition, located: Located) -> None:
        address = located.leader.address
        source = self._sources.get(address)
        if source is None or not source.broker.connection.is_open:
            source = FetchSource(self._owner, located.broker, *self._settings, self._cluster.request_seconds)
            self._sources[address] = source
        source.place(self._buffers[partition], located.leader.epoch)
        self.places[partition] = source

    def leave(self, source: FetchSource, partitions: Iterable[TopicPartition]) -> None:
        """Forget the leader of partitions; the next search closes connections that are not used any longer."""
        for partition in partitions:
            source.parts.pop(partition, None)
            self.places.pop(partition, None)
        if not source.parts and self._sources.get(source.broker.address) is source:
            del self._sources[source.broker.address]

    async def offsets(
        self, timestamp: int, partitions: Collection[TopicPartition], *, committed: bool
    ) -> dict[TopicPartition, int]:
        """See `Fetcher.offsets`."""
        loop = asyncio.get_running_loop()
        deadline, found = loop.time() + SEARCH_SECONDS, dict[TopicPartition, int]()
        while wanted := [one for one in partitions if one not in found]:
            await self.search(SEARCH_SECONDS)
            by_source: dict[FetchSource, list[TopicPartition]] = {}
            for one in wanted:
                by_source.setdefault(self.places[one], []).append(one)
            refused = False
            for source, asked in by_source.items():
                for one, (code, offset) in (await self._list(source, timestamp, asked, committed)).items():
                    if not code:
                        found[one] = offset
                    elif code not in NOT_SERVED or loop.time() > deadline:
                        raise ConnectionLost(source.refusal("the offsets of", one, code))
                    else:
                        self.leave(source, [one])
                        refused = True
            if refused:
                await asyncio.sleep(BACKOFF_SECONDS)
        return found

    async def _list(
        self, source: FetchSource, timestamp: int, asked: list[TopicPartition], committed: bool
    ) -> dict[TopicPartition, tuple[int, int]]:
        """Error code and offset by partition, from one broker. Brokers process the requests of a connection in order, so another
        connection is used during a long poll."""
        seconds = self._cluster.request_seconds
        if not source.is_busy:
            try:
                return await list_offsets(source.broker, timestamp, asked, committed=committed, timeout_seconds=seconds)
            except ConnectionLost:
                self.leave(source, list(source.parts))
                raise
        broker = await self._brokers.connect(source.broker.address)
        try:
            return await list_offsets(broker, timestamp, asked, committed=committed, timeout_seconds=seconds)
        finally:
            broker.connection.close()

    def close(self) -> None:
        """Close all connections."""
        self._closed = True
        for source in self.all():
            source.broker.connection.close()
        self._sources.clear()
        self.places.clear()
        self._brokers.close()
