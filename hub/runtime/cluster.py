"""Creates the `Cluster` value for the processes and commands of the hub."""

from ..kafka import Cluster


def cluster_at(bootstrap: str) -> Cluster:
    """The cluster at the addresses from an option, a setting or a broker's `ready` line. Raises `ConfigurationError` for
    an invalid address."""
    return Cluster.of(bootstrap)
