"""Why a record was not acknowledged or read, in words that name the partition, its leader and what is waited for."""

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
    """What to raise when `client`'s producer got no acknowledgement of a record for `seconds`, because of `failure` if that
    is known: `BrokerUnreachable` where the only broker is away, else `PartitionUnavailable`."""
    reason = "" if isinstance(failure, asyncio.TimeoutError) or failure is None else str(failure) or type(failure).__name__
    leader = client.cluster.leader_for_partition(ClientPartition(topic, partition))
    broker = None if leader is None or leader < 0 else client.cluster.broker_metadata(leader)
    if broker is None:
        return PartitionUnavailable(topic, partition, None, f"{_nothing_for(seconds)}{_because(reason)}")
    if is_connected(client, leader):
        waited = f"is connected, and did not acknowledge within {seconds:g} s (it waits for in-sync replicas, or is busy)"
        return PartitionUnavailable(topic, partition, f"{broker.host}:{broker.port}", f"{waited}{_because(reason)}")
    if len(client.cluster.brokers()) == 1:
        return BrokerUnreachable(str(cluster), reason or f"nothing was acknowledged within {seconds:g} s")
    waited = f"does not answer; {_nothing_for(seconds)}, and a new leader is waited for"
    return PartitionUnavailable(topic, partition, f"{broker.host}:{broker.port}", f"{waited}{_because(reason)}")


def leaders_away(client: AIOKafkaClient, topic: str, partitions: Iterable[int]) -> str:
    """Which leaders of these partitions `client` has no connection to, in words."""
    away: dict[str, list[str]] = {}
    for partition in sorted(partitions):
        leader = client.cluster.leader_for_partition(ClientPartition(topic, partition))
        broker = None if leader is None or leader < 0 else client.cluster.broker_metadata(leader)
        if broker is None:
            away.setdefault("there is no leader", []).append(f"{topic}-{partition}")
        elif not is_connected(client, leader):
            away.setdefault(f"{broker.host}:{broker.port} does not answer, the leader", []).append(f"{topic}-{partition}")
    return "; ".join(f"{what} of {', '.join(names)}" for what, names in away.items()) or "the leaders are slow to answer"


def _nothing_for(seconds: float) -> str:
    return f"nothing was acknowledged within {seconds:g} s"


def _because(reason: str) -> str:
    return f" ({reason})" if reason else ""


def is_connected(client: AIOKafkaClient, node: int | None = None) -> bool:
    """Whether `client` has a connection to the broker `node`, or to any."""
    return any(conn.connected() for (one, _), conn in client._conns.items() if node is None or one == node)
