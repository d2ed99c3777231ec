"""Explains why a record was not acknowledged: names the partition, its leader and the condition to wait for."""

from typing import NamedTuple

from ..errors import Unreachable
from .cluster import Cluster
from .errors import BrokerUnreachable, PartitionUnavailable


class PartitionStanding(NamedTuple):
    """What a producer knows of a partition."""

    leader: str | None
    """Address of the leader; None if there is none, or none is known."""
    connected: bool
    """Whether the connection to the leader is open."""
    brokers: int
    """Number of live brokers; 0 before it is known."""
    unreachable: str
    """Why no broker of the cluster answered the last request for metadata; empty if one did."""
    reason: str
    """The last failure of the partition; empty if there was none."""


def not_acknowledged(standing: PartitionStanding, cluster: Cluster, topic: str, partition: int, seconds: float) -> Unreachable:
    """The error to raise if the producer got no acknowledgement of a record for `seconds`. Returns `BrokerUnreachable` if no
    broker responds, else `PartitionUnavailable`."""
    leader, connected, brokers, unreachable, reason = standing
    if not connected and (unreachable or (leader is not None and brokers == 1)):
        return BrokerUnreachable(str(cluster), unreachable or reason or _nothing_for(seconds))
    if leader is None:
        return PartitionUnavailable(topic, partition, None, f"{_nothing_for(seconds)}{_because(reason)}")
    if connected:
        waited = f"is connected but did not acknowledge within {seconds:g} s (it waits for in-sync replicas, or is busy)"
        return PartitionUnavailable(topic, partition, leader, f"{waited}{_because(reason)}")
    waited = f"does not respond; {_nothing_for(seconds)}; waiting for a new leader"
    return PartitionUnavailable(topic, partition, leader, f"{waited}{_because(reason)}")


def _nothing_for(seconds: float) -> str:
    return f"no acknowledgement within {seconds:g} s"


def _because(reason: str) -> str:
    return f" ({reason.rstrip('.')})" if reason else ""
