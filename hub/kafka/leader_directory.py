"""The leaders of partitions for a producer, from any broker that responds, and one connection per broker."""

import asyncio
from collections.abc import Collection, Iterable

from ..protocol import ErrorCode, Message, RequestType, TopicPartition, name_of
from . import requests
from .cluster import Address, Cluster
from .connection import Connection
from .connections import ConnectionPool
from .errors import BrokerUnreachable, ConnectionLost
from .partition_queue import IdempotentIdentity


class LeaderDirectory:
    """The leaders as of the last metadata response. Connections are opened on demand. `role` is part of the client id."""

    def __init__(self, cluster: Cluster, *, role: str) -> None:
        self._cluster = cluster
        self._pool = ConnectionPool(cluster, role=role)
        self._opening: dict[Address, asyncio.Lock] = {}
        self._leaders: dict[TopicPartition, Address] = {}
        self._brokers: list[Address] = []
        self.unreachable = ""
        """Why no broker answered the last request; empty if one did."""

    @property
    def broker_count(self) -> int:
        """Number of brokers in the last metadata response; 0 before the first."""
        return len(self._brokers)

    def leader_of(self, partition: TopicPartition) -> Address | None:
        """The address of the leader; None if it is unknown, or if there is none."""
        return self._leaders.get(partition)

    async def connect(self, address: Address) -> Connection:
        """An open connection to the broker at `address`. Raises BrokerUnreachable."""
        async with self._opening.setdefault(address, asyncio.Lock()):
            return await self._pool.connect(address)

    async def ask(self, kind: RequestType, message: Message) -> Message:
        """The response of any broker. Those that do not respond are tried last by the next request.

        Raises BrokerUnreachable with the reason of the last one if none responds."""
        reason = ""
        for address in list(dict.fromkeys([*self._brokers, *self._cluster.addresses])):
            try:
                answer = await (await self.connect(address)).ask(kind, message)
            except BrokerUnreachable as unreachable:
                reason = unreachable.reason
            except ConnectionLost as lost:
                reason = str(lost)
            else:
                self.unreachable = ""
                return answer
            self._put_last(address)
        self.unreachable = reason
        raise BrokerUnreachable(str(self._cluster), reason)

    def _put_last(self, address: Address) -> None:
        if address in self._brokers:
            self._brokers.remove(address)
            self._brokers.append(address)

    async def look_up(self, partitions: Collection[TopicPartition]) -> None:
        """Find the current leaders of these partitions. Raises BrokerUnreachable."""
        topics = sorted({partition.topic for partition in partitions})
        found = requests.read_metadata(await self.ask(requests.LEADERS, requests.metadata_request(topics)))
        for partition in partitions:
            self._leaders.pop(partition, None)
        self._leaders.update(found.addresses)
        self._set_brokers(found.brokers.values())

    def _set_brokers(self, live: Iterable[Address]) -> None:
        """Keep the order of known brokers: those that did not respond are last."""
        brokers = set(live)
        if brokers and not self._brokers:
            self._pool.keep_only(brokers)  # a bootstrap address may be another name of a broker
        known = [address for address in self._brokers if address in brokers]
        self._brokers = [*known, *(brokers - set(known))]

    async def new_identity(self) -> IdempotentIdentity:
        """A new producer id. Raises BrokerUnreachable, and ConnectionLost if the broker refuses."""
        answer = await self.ask(requests.IDEMPOTENT_ID, requests.init_producer_id_request(None, 0))
        code, producer_id, epoch = requests.read_identity(answer)
        if code != ErrorCode.NONE:
            raise ConnectionLost(f"{self._cluster} did not assign a producer id: {name_of(code)}.")
        return IdempotentIdentity(producer_id, epoch)

    def close(self) -> None:
        """Close all connections."""
        self._pool.close()
