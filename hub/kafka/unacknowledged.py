"""Explains why a record was not acknowledged or read: names the partition, its leader and the condition to wait for."""

import asyncio
from collections.abc import Iterable

from aiokafka.client import AIOKafkaClient
from aiokafka.structs import TopicPartition as ClientPartition

from ..errors import Unreachable
from .cluster import Cluster
from .errors import BrokerUnreachable, PartitionUnavailable


def not_acknowledged(
    client: AIOKafkaClient, cluster: Cluster, topic: str, partition: int, failure: BaseException | None, seconds: float
) -> Unreachable:
    """The error to raise if the producer of `client` got no acknowledgement of a record for `seconds`; `failure` is the reason
    if known. Returns `BrokerUnreachable` if the only broker is unreachable, else `PartitionUnavailable`."""
    reason = "" if isinstance(failure, asyncio.TimeoutError) or failure is None else str(failure) or type(failure).__name__
    leader = client.cluster.leader_for_partition(ClientPartition(topic, partition))
    broker = None if leader is None or leader < 0 else client.cluster.broker_metadata(leader)
    if broker is None:
        return PartitionUnavailable(topic, partition, None, f"{_nothing_for(seconds)}{_because(reason)}")
    if is_connected(client, leader):
        waited = f"is connected but did not acknowledge within {seconds:g} s (it waits for in-sync replicas, or is busy)"
        return PartitionUnavailable(topic, partition, f"{broker.host}:{broker.port}", f"{waited}{_because(reason)}")
    if len(client.cluster.brokers()) == 1:
        return BrokerUnreachable(str(cluster), reason or f"no acknowledgement within {seconds:g} s")
    waited = f"does not respond; {_nothing_for(seconds)}; waiting for a new leader"
    return PartitionUnavailable(topic, partition, f"{broker.host}:{broker.port}", f"{waited}{_because(reason)}")


def leaders_away(client: AIOKafkaClient, topic: str, partitions: Iterable[int]) -> str:
    """Describe the leaders of these partitions to which `client` has no connection."""
    away: dict[str, list[str]] = {}
    for partition in sorted(partitions):
        leader = client.cluster.leader_for_partition(ClientPartition(topic, partition))
        broker = None if leader is None or leader < 0 else client.cluster.broker_metadata(leader)
        if broker is None:
            away.setdefault("there is no leader", []).append(f"{topic}-{partition}")
        elif not is_connected(client, leader):
            away.setdefault(f"{broker.host}:{broker.port} does not respond, the leader", []).append(f"{topic}-{partition}")
    return "; ".join(f"{what} of {', '.join(names)}" for what, names in away.items()) or "the leaders respond slowly"


def _nothing_for(seconds: float) -> str:
    return f"no acknowledgement within {seconds:g} s"


def _because(reason: str) -> str:
    return f" ({reason})" if reason else ""


def is_connected(client: AIOKafkaClient, node: int | None = None) -> bool:
    """Whether `client` has a connection to broker `node`, or to any broker if it is None."""
    return any(conn.connected() for (one, _), conn in client._conns.items() if node is None or one == node)
