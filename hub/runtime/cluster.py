"""The one place where processes and commands of the hub make the value that says how they reach a cluster."""

from ..kafka import Cluster


def cluster_at(bootstrap: str) -> Cluster:
    """The cluster at the addresses that an option, a setting or a broker's `ready` line gives. Raises `BrokerUnreachable` for
    what is not an address."""
    return Cluster.of(bootstrap)
