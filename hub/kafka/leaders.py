"""Connections to brokers with their supported API versions, and the leaders of partitions."""

import asyncio
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from ..errors import HubError, Unreachable
from ..protocol import APIS, ApiKey, Message, RequestType, TopicPartition
from .cluster import Address, Cluster
from .connection import Connection
from .errors import BrokerUnreachable, ConnectionLost, PartitionUnavailable, TopicMissing
from .requests import ApiVersions, ask_versions, metadata_request

OLDEST = {ApiKey.FETCH: 4, ApiKey.LIST_OFFSETS: 2, ApiKey.METADATA: 4, ApiKey.FIND_COORDINATOR: 1, ApiKey.DELETE_GROUPS: 0}
"""Versions for brokers that do not report theirs: those of Kafka 0.11, the first one with transactions
(DeleteGroups: 1.1)."""
EARLIEST, LATEST = -2, -1
"""Timestamps of ListOffsets: the log start, the end."""


class ConnectedBroker(NamedTuple):
    """An open connection to a broker, and the API versions that it supports."""

    address: Address
    connection: Connection
    apis: ApiVersions

    def version(self, key: ApiKey, preferred: int | None = None) -> int:
        """The highest version of an API that both sides support, or the one closest to `preferred`. Raises `ConnectionLost` if
        there is none."""
        if not self.apis.ranges:
            return OLDEST[key]
        api, (low, high) = APIS[key], self.apis.ranges.get(key, (1, 0))
        if high < max(low, api.lowest) or low > api.highest:
            raise ConnectionLost(f"{self.connection.address} does not support {api.name} in any version that the hub supports.")
        highest = min(high, api.highest)
        return highest if preferred is None else max(low, api.lowest, min(highest, preferred))

    async def ask(self, key: ApiKey, message: Message, *, timeout_seconds: float | None = None) -> Message:
        """The response to a request in the highest common version. Raises `ConnectionLost`."""
        return await self.connection.ask(RequestType(key, self.version(key)), message, timeout_seconds=timeout_seconds)


class KnownLeader(NamedTuple):
    """The leader of a partition; `epoch` is -1 if the broker does not report it."""

    address: Address
    epoch: int


class BrokerConnections:
    """The brokers of a cluster, connected on demand; one connection per address. `role` is part of the client id."""

    def __init__(self, cluster: Cluster, *, role: str) -> None:
        self._cluster = cluster
        self._role = role
        self._open: dict[Address, ConnectedBroker] = {}
        self._opening: dict[Address, asyncio.Lock] = {}
        self._known: set[Address] = set()

    async def at(self, address: Address) -> ConnectedBroker:
        """The broker at `address`. Raises `BrokerUnreachable`, `ConnectionLost`."""
        async with self._opening.setdefault(address, asyncio.Lock()):
            broker = self._open.get(address)
            if broker is None or not broker.connection.is_open:
                broker = self._open[address] = await self.connect(address)
            return broker

    async def connect(self, address: Address) -> ConnectedBroker:
        """A new connection, which the caller closes. Raises `BrokerUnreachable`, `ConnectionLost`."""
        connection = await Connection.open(self._cluster, *address, role=self._role)
        try:
            apis = await ask_versions(connection, timeout_seconds=self._cluster.connect_seconds)
        except BaseException:
            connection.close()
            raise
        return ConnectedBroker(address, connection, apis)

    async def any(self, busy: Collection[Address] = ()) -> ConnectedBroker:
        """The first broker that responds: a connected one, one of the bootstrap addresses, or another one of the cluster. To one
        that is `busy` a connection is opened, which the caller closes. Raises `BrokerUnreachable` with the reason of the last
        one."""
        for broker in self._open.values():
            if broker.connection.is_open and broker.address not in busy:
                return broker
        reason = ""
        for address in dict.fromkeys((*self._cluster.addresses, *self._known)):
            try:
                return await (self.connect(address) if address in busy else self.at(address))
            except BrokerUnreachable as unreachable:
                reason = unreachable.reason
            except ConnectionLost as lost:
                reason = str(lost)
        raise BrokerUnreachable(str(self._cluster), reason)

    async def locate(
        self, partitions: Iterable[TopicPartition], busy: Collection[Address] = ()
    ) -> tuple[dict[TopicPartition, "Located"], HubError | None]:
        """The leaders of those partitions whose leader is known and connected, and the reason for the first other one. `busy`:
        the brokers whose connection would respond only after a long poll.

        Raises `BrokerUnreachable`, `ConnectionLost`."""
        wanted = sorted(set(partitions))
        message = metadata_request(sorted({one.topic for one in wanted}))
        asked = await self.any(busy)
        try:
            answer = await asked.ask(ApiKey.METADATA, message, timeout_seconds=self._cluster.request_seconds)
        finally:
            if self._open.get(asked.address) is not asked:
                asked.connection.close()
        addresses = {entry["node_id"]: (entry["host"], entry["port"]) for entry in answer["brokers"]}
        self._known.update(addresses.values())
        leaders = _leaders(answer["topics"], addresses)
        found: dict[TopicPartition, Located] = {}
        missing: HubError | None = None
        for one in wanted:
            try:
                found[one] = await self._reach(one, leaders)
            except (Unreachable, TopicMissing) as error:
                missing = missing or error
        return found, missing

    async def _reach(self, one: TopicPartition, leaders: Mapping[TopicPartition, KnownLeader | None]) -> "Located":
        if one not in leaders:
            raise TopicMissing(f"{one.topic} (partition {one.partition})", str(self._cluster))
        leader = leaders[one]
        if leader is None:
            raise PartitionUnavailable(*one, None, "waiting for an election")
        try:
            return Located(leader, await self.at(leader.address))
        except BrokerUnreachable as away:
            waited_for = f"does not respond ({away.reason}); waiting for a new leader"
            raise PartitionUnavailable(*one, away.bootstrap, waited_for) from away

    def keep_only(self, used: Iterable[Address]) -> None:
        """Close the connections to the other brokers."""
        kept = set(used)
        for address in [one for one in self._open if one not in kept]:
            self._open.pop(address).connection.close()

    def close(self) -> None:
        """Close all connections; they are reopened on demand."""
        self.keep_only(())


class Located(NamedTuple):
    """The leader of a partition, and the connection to it."""

    leader: KnownLeader
    broker: ConnectedBroker


def _leaders(topics: Iterable[Message], addresses: Mapping[int, Address]) -> dict[TopicPartition, KnownLeader | None]:
    """The leader of each existing partition; None if it has none, or none that is alive."""
    return {
        TopicPartition(topic["name"], entry["partition_index"]): (
            KnownLeader(addresses[entry["leader_id"]], entry["leader_epoch"]) if entry["leader_id"] in addresses else None
        )
        for topic in topics
        for entry in topic["partitions"]
    }


async def list_offsets(
    broker: ConnectedBroker, timestamp: int, partitions: Iterable[TopicPartition], *, committed: bool, timeout_seconds: float
) -> dict[TopicPartition, tuple[int, int]]:
    """Error code and offset by partition. `timestamp` is in ms, EARLIEST or LATEST; LATEST is the last stable offset if
    `committed`, else the high watermark. Raises `ConnectionLost`."""
    topics: dict[str, list[Message]] = {}
    for topic, partition in partitions:
        topics.setdefault(topic, []).append({"partition_index": partition, "timestamp": timestamp})
    message = {
        "replica_id": -1,
        "isolation_level": int(committed),
        "topics": [{"name": topic, "partitions": entries} for topic, entries in topics.items()],
    }
    answer = await broker.ask(ApiKey.LIST_OFFSETS, message, timeout_seconds=timeout_seconds)
    return {
        TopicPartition(topic["name"], entry["partition_index"]): (entry["error_code"], entry["offset"])
        for topic in answer["topics"]
        for entry in topic["partitions"]
    }
