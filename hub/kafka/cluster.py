"""A Kafka cluster and how a process reaches it, as one value."""

import os
from dataclasses import dataclass, replace
from typing import Any

from .errors import BrokerUnreachable

DEFAULT_PORT = 9092

Address = tuple[str, int]
"""Host and port; an IPv6 address without its brackets."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where a cluster is, who connects to it, and how long it may take. Made once, where a process or a client begins
    (`Cluster.of`), and handed to everything that opens a connection."""

    addresses: tuple[Address, ...]
    """Brokers that are asked for all others."""
    client_id: str | None = None
    """What brokers call this client in their logs and quotas; None: by its role (`client_id_of`)."""
    connect_seconds: float = 5.0
    """How long a connection may take to open."""
    request_seconds: float = 10.0
    """How long a broker may take to answer."""

    @classmethod
    def of(cls, cluster: "str | Cluster") -> "Cluster":
        """The same, or the cluster at a comma-separated list of `host`, `host:port` or `[ipv6]:port`. Raises
        `BrokerUnreachable` for what is not such a list."""
        if isinstance(cluster, Cluster):
            return cluster
        entries = [entry for entry in (part.strip() for part in cluster.split(",")) if entry]
        if not entries:
            raise BrokerUnreachable(cluster, "no address given")
        return cls(tuple(_address(cluster, entry) for entry in entries))

    def client_id_of(self, role: str) -> str:
        """What a client of this role is called: hub-<role>-<process id> where nothing else was asked for."""
        return self.client_id or f"hub-{role}-{os.getpid()}"

    def named(self, role: str) -> "Cluster":
        """The same cluster, for several clients that are known under the name of one role."""
        return replace(self, client_id=self.client_id_of(role))

    def client_settings(self, role: str) -> dict[str, Any]:
        """How a client of this role reaches the cluster, in the words of aiokafka's constructors."""
        return {
            "bootstrap_servers": str(self),
            "client_id": self.client_id_of(role),
            "request_timeout_ms": int(self.request_seconds * 1000),
        }

    def __str__(self) -> str:
        """host:port,host:port"""
        return ",".join(name_of_address(*address) for address in self.addresses)


def name_of_address(host: str, port: int) -> str:
    """host:port, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _address(cluster: str, entry: str) -> Address:
    host, colon, port = entry.rpartition(":")
    if not colon or entry.endswith("]"):
        host, port = entry, str(DEFAULT_PORT)
    if not port.isdecimal():
        raise BrokerUnreachable(cluster, f"{entry!r} is not host:port")
    return host.strip("[]"), int(port)
